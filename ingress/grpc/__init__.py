"""The gRPC front door: the server and the Ingress service."""

from .server import GrpcIngress

__all__ = ["GrpcIngress"]
