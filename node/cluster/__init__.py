"""Belonging to a cluster: provisioning it, joining it, and what operators change about its nodes.

Pure changes of the nodes configuration (`joining`, `changes`), the mark on the node's own disk
(`marker`), and the driver over the metadata store (`registry`).
"""
