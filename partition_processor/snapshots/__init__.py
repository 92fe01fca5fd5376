"""Snapshots of partitions: taken at an LSN, kept in a repository, restored before a replay.

`repository` is the port to where they are kept, `directory` its adapter; `manifest` says what one
consists of, `archive` which there are; `writer`, `reader` and `restore` make and use them in
bounded steps; `service` drives all that for a node.
"""
