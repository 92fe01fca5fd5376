"""FrontDoors: the gRPC front doors of a cluster, as sessions are told of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from ...proto.generated import ingress_pb2 as wire


@dataclass(frozen=True, slots=True)
class FrontDoors:
    """Where a client can go when it loses the node that it has.

    All nodes are told of, not those that live: one node's view of who lives may be wrong, and a
    client that forgot the others by it would have nobody left. The view gives the order.

    Attributes:
        cluster: the fingerprint of the cluster.
        steady: ``host:port`` of the nodes that are alive and about to stay.
        others: of those that are not.
    """

    cluster: str
    steady: tuple[str, ...]
    others: tuple[str, ...] = ()

    def message(self, turn: int) -> wire.FrontDoors:
        """What one session is told. Each `turn` begins with another node.

        Else all clients of a node that dies would go to the same next one.
        """
        first = turn % max(len(self.steady), 1)
        addresses = (*self.steady[first:], *self.steady[:first], *self.others)
        return wire.FrontDoors(cluster=self.cluster, addresses=addresses)


FrontDoorsSource: TypeAlias = Callable[[], FrontDoors | None]
"""How they are now; None for a node that is alone."""


def no_front_doors() -> None:
    """The source of a node that is alone."""
