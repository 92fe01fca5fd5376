"""Tests of the metadata store on a quorum of servers."""
