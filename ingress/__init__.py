"""The front doors: gRPC and HTTP, and the way from a request to the partition that owns it.

Imports `partition_processor` and what lies below it.
"""
