"""The HTTP front door: the server, its routes and its answers."""

from .server import HttpIngress

__all__ = ["HttpIngress"]
