"""Appending from any node: what goes to the node that orders a log's appends, and comes back.

Imports ``core`` and the rest of ``log`` but the providers.
"""
