"""Tests of the front doors, against a dispatcher that is a table."""
