"""Which nodes a worker keeps sessions with: those it was given, and those that the nodes tell of.

A machine: the worker tells it what it hears, and asks it for the addresses. A node that was given
under one address and is told of under another, as behind a name or a port that is mapped, counts
as one while there is a session with it.
"""

from collections.abc import Sequence
from typing import Final

from ..core.protocol.session import Nodes

NODES_MAX: Final = 1000
"""A worker follows at most so many nodes that it was not given."""


class KnownNodes:
    """The addresses of nodes, as far as a worker knows them.

    Attributes:
        given: those that never go.
        cluster: fingerprint of the cluster whose nodes were told of.
    """

    def __init__(self, given: Sequence[str]) -> None:
        """Begin with the addresses that the worker was given."""
        self.given = tuple(dict.fromkeys(given))
        self.cluster = ""
        self._version = 0
        self._told: dict[str, str] = {}
        # With whom there is a session at an address that was given.
        self._met: dict[str, str] = {}

    def tell(self, nodes: Nodes) -> None:
        """A node has told of these; what is older than what is known says nothing."""
        if nodes.version >= self._version:
            self._version = nodes.version
            self.cluster = nodes.cluster
            self._told = {item.node: item.address for item in nodes.nodes[:NODES_MAX]}

    def met(self, address: str, node: str) -> None:
        """There is a session with a node at an address."""
        if address in self.given:
            self._met[address] = node

    def lost(self, address: str) -> None:
        """The session at an address has ended."""
        self._met.pop(address, None)

    def wanted(self) -> list[str]:
        """The addresses to have sessions at, those that were given first."""
        met = set(self._met.values())
        told = [address for node, address in self._told.items() if node not in met]
        return list(dict.fromkeys((*self.given, *told)))

    def is_wanted(self, address: str) -> bool:
        """Whether to connect to an address again after a session there has ended."""
        return address in self.given or address in self.wanted()
