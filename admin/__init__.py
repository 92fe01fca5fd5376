"""For operators: admin REST and metrics over HTTP, and the command line.

Imports `partition_processor`, `sdk` (the worker command) and what lies below them.
"""
