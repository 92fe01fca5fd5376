"""Tests of joining and changing nodes."""
