"""The nodes of the cluster: a metadata value that says who belongs to it, where and as what.

Pure values and their encoding; `node.cluster` changes them. Whoever places data or talks to another
node reads them from here.
"""

from typing import Final, Literal, NewType, TypeAlias

import msgspec

from .formats import decode_value

NodeId = NewType("NodeId", int)
"""A node's number, from 1; never given twice within a cluster, over removals too."""

Role: TypeAlias = Literal["admin", "ingress", "log-server", "metadata-server", "worker"]

StorageState: TypeAlias = Literal[
    "disabled", "provisioning", "read-write", "read-only", "data-loss", "gone"
]
"""What the node's part of the log is worth.

- ``disabled``: it has none, and never had.
- ``provisioning``: it never held data; it becomes read-write once its disk is marked as its own.
- ``read-write``: it takes and gives records.
- ``read-only``: it gives what it has and takes nothing new.
- ``data-loss``: it held data and its disk does not have it any more. Its silence about a record
  means nothing: it never counts among those that were asked.
- ``gone``: what it held was given up on purpose. It is asked nothing and counts for nothing.
"""

NODES_KEY: Final = "nodes"
"""The metadata key of the value."""

NODES_FORMAT: Final = 1
NODES_MAX: Final = 128
"""No cluster has more nodes; a nodeset could not hold more either."""

NAME_BYTES_MAX: Final = 128
REPLICAS_MAX: Final = 9
"""No partition and no log has more copies."""


class Addresses(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a node's doors are, as ``host:port``; empty where it has none."""

    node: str
    ingress_http: str = ""
    ingress_grpc: str = ""
    admin: str = ""


class NodeConfiguration(msgspec.Struct, frozen=True):
    """One node.

    Attributes:
        id: its number; it stays the same for as long as the node's disk does.
        name: unique among the nodes of the cluster.
        generation: counts the node's starts, from 1.
        addresses: where its doors are since its last start.
        roles: what it does, sorted.
        zone: what fails together with it, such as a rack; empty means nothing but itself.
        storage: what its part of the log is worth.
        drained: an operator wants nothing to be led or kept here.
        disk_token: drawn at each start and written to the node's disk *before* it stands here: a
            disk without it is another one, or an old copy of it.
    """

    id: NodeId
    name: str
    generation: int
    addresses: Addresses
    roles: tuple[Role, ...]
    zone: str
    storage: StorageState
    drained: bool
    disk_token: str

    def __str__(self) -> str:
        """``n2:7``: the number and the generation."""
        return f"n{self.id}:{self.generation}"

    @property
    def failure_domain(self) -> str:
        """The zone, or the node itself where it has none."""
        return self.zone or f"\0n{self.id}"


class NodesConfiguration(msgspec.Struct, frozen=True):
    """All nodes, and what was fixed when the cluster was provisioned.

    Attributes:
        format: see `NODES_FORMAT`.
        cluster: the cluster's name.
        fingerprint: drawn once, so that two clusters of one name stay apart.
        partition_count: how many partitions there are, for ever.
        replicas: how many nodes are to have each partition.
        next_id: the number of the next new node. A lower one that no node has was removed.
        nodes: sorted by id.
    """

    format: int
    cluster: str
    fingerprint: str
    partition_count: int
    replicas: int
    next_id: NodeId
    nodes: tuple[NodeConfiguration, ...] = ()

    def node(self, node_id: int) -> NodeConfiguration | None:
        """The node of a number, None if it was removed or never was."""
        return next((node for node in self.nodes if node.id == node_id), None)

    def named(self, name: str) -> NodeConfiguration | None:
        """The node of a name."""
        return next((node for node in self.nodes if node.name == name), None)

    def having(self, role: Role) -> tuple[NodeConfiguration, ...]:
        """The nodes that have a role, sorted by id."""
        return tuple(node for node in self.nodes if role in node.roles)

    def with_node(self, changed: NodeConfiguration) -> "NodesConfiguration":
        """The same with one node put in, in the place of the one with its number if any."""
        others = [node for node in self.nodes if node.id != changed.id]
        nodes = tuple(sorted([*others, changed], key=lambda node: node.id))
        return msgspec.structs.replace(self, nodes=nodes)

    def without(self, node_id: int) -> "NodesConfiguration":
        """The same without a node; its number is never given again."""
        nodes = tuple(node for node in self.nodes if node.id != node_id)
        return msgspec.structs.replace(self, nodes=nodes)


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(NodesConfiguration).decode


def encode_nodes(configuration: NodesConfiguration) -> bytes:
    """The bytes that `NODES_KEY` holds."""
    return _encode(configuration)


def decode_nodes(value: bytes) -> NodesConfiguration:
    """Read what `encode_nodes` wrote. Raises StorageFormatError or StorageCorruptError."""
    return decode_value(
        NODES_KEY,
        value,
        _decode,
        format_max=NODES_FORMAT,
        way_out="restore the metadata from a backup",
    )
