"""ClusterParts: what a node's engine gets of the cluster that the node belongs to."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ...core.net.transport import Transport
from ...core.protocol.session import NodeAddress, Nodes
from ...ingress.forwarding.leaders import LeaderLookup
from ...log.placement import LogServer
from ...metadata.api import MetadataStore
from ...metadata.nodes import NodeConfiguration, NodesConfiguration


@dataclass(frozen=True, slots=True)
class ClusterParts:
    """The cluster, as its newest configuration is known here.

    Attributes:
        me: this node as it has joined.
        metadata: the store that all nodes share.
        nodes: the newest nodes configuration.
        nodes_version: of that.
        alive: the ids of the nodes that are not dead.
        leaders: who is to lead which partition.
        transport: how other nodes are reached.
    """

    me: NodeConfiguration
    metadata: MetadataStore
    nodes: Callable[[], NodesConfiguration]
    nodes_version: Callable[[], int]
    alive: Callable[[], tuple[int, ...]]
    leaders: LeaderLookup
    transport: Transport

    @property
    def fingerprint(self) -> str:
        """Of the cluster."""
        return self.nodes().fingerprint

    @property
    def life(self) -> int:
        """Tells this process from every other that ever bore the node's name.

        A node that has lost its disk comes back under its name with another id, and counts its
        generations from 1 again.
        """
        return self.me.id << 32 | self.me.generation

    def address_of(self, name: str) -> str | None:
        """Where a node listens for others, None when nobody has that name."""
        node = self.nodes().named(name)
        return None if node is None else node.addresses.node

    def worker_nodes(self) -> Nodes:
        """The nodes that open sessions with workers, for these."""
        having = self.nodes().having("worker")
        return Nodes(
            self.nodes_version(),
            tuple(NodeAddress(node.name, node.addresses.node) for node in having),
            self.fingerprint,
        )

    def log_servers(self) -> list[LogServer]:
        """The log-servers, writable where new segments may be kept now."""
        return servers_to_place(self.nodes(), self.alive())


def servers_to_place(nodes: NodesConfiguration, alive: Iterable[int]) -> list[LogServer]:
    """The log-servers whose disks count, writable where new segments may be kept."""
    living = set(alive)
    return [
        LogServer(
            node.name,
            disk_name(node.id),
            node.zone,
            writable=not _unwanted(node),
            alive=node.id in living,
            unwanted=_unwanted(node),
        )
        for node in nodes.having("log-server")
        if node.storage in ("read-write", "read-only")
    ]


def _unwanted(node: NodeConfiguration) -> str:
    """Why a log-server is to have nothing new by an operator's word."""
    if node.storage != "read-write":
        return f"is {node.storage}"
    return "is drained" if node.drained else ""


def disk_name(node_id: int) -> str:
    """What segments call a node's disk: a node whose disk is lost comes back under another id."""
    return f"n{node_id}"
