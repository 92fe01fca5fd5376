"""Tests of admin REST and the command line."""
