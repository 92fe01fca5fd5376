"""Tests of failure detection."""
