"""Tests of snapshots: taken, kept, restored, and what crashes and damage make of them."""
