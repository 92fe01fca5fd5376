"""Tests of what goes on between nodes."""
