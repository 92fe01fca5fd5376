"""Tests of the testing kit that users get."""
