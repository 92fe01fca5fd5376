"""The gRPC front door: the server and the Ingress service."""

from .front_doors import FrontDoors
from .server import GrpcIngress

__all__ = ["FrontDoors", "GrpcIngress"]
