"""Requests and messages for partitions that another node leads: out to it, and in from it.

Part of `ingress`, so it may import what stands below the front doors, and nothing of them.
"""
