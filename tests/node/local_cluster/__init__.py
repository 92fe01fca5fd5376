"""Tests of local clusters, up to their processes; `tests/e2e/test_up.py` has real ones."""
