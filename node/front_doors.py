"""Which front doors clients are told of, by the nodes configuration and by who lives."""

from collections.abc import Collection

from ..core.addresses import parse_address
from ..ingress.grpc import FrontDoors
from ..metadata.nodes import NodesConfiguration


def front_doors(nodes: NodesConfiguration, steady: Collection[int]) -> FrontDoors:
    """The gRPC front doors of the nodes that take requests; `steady`: the nodes that come first."""
    first: list[str] = []
    last: list[str] = []
    for node in nodes.having("ingress"):
        address = node.addresses.ingress_grpc
        if _leads_there(address):
            (first if node.id in steady else last).append(address)
    return FrontDoors(nodes.fingerprint, tuple(first), tuple(last))


def _leads_there(address: str) -> bool:
    """Whether there is an address at all; port 0 is whichever was free, which nobody knows."""
    return bool(address) and parse_address(address)[1] != 0
