"""ClusterView: the cluster, as admin REST may look at it and act on it; and what it answers.

The command line reads the same types.
"""

from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec

from ..metadata.api import VersionedValue
from ..metadata.nodes import Addresses, Role, StorageState
from ..metadata.quorum import MembersReport
from ..partition_processor.status import StoppedCopy


class NodeRow(msgspec.Struct, frozen=True):
    """One node of the cluster.

    Attributes:
        id: its number.
        generation: counts its starts.
        state: how the node that answers sees it.
        leaving: it said that it is about to stop.
        roles: what it does, sorted.
        zone: what fails together with it; empty means nothing but itself.
        storage: what its part of the log is worth.
        drained: nothing is to be led or kept there.
        addresses: where its doors are.
        clock_ahead_ms: by how much its clock is ahead of that of the node that answers; None where
            that is not known.
    """

    id: int
    name: str
    generation: int
    state: Literal["alive", "suspect", "dead"]
    leaving: bool
    roles: tuple[Role, ...]
    zone: str
    storage: StorageState
    drained: bool
    addresses: Addresses
    clock_ahead_ms: int | None = None


class PartitionRow(msgspec.Struct, frozen=True):
    """Where one partition is to be, and how it is on the node that answers.

    Attributes:
        leader: the node that is to lead it; None while none can.
        replicas: the nodes that are to have it.
        role: of the node that answers; so are `epoch`, `applied_lsn` and `lag`.
        stopped: the copies that have stopped, on any node, as far as they told.
    """

    partition: int
    leader: str | None
    replicas: list[str]
    role: str
    epoch: int
    applied_lsn: int
    lag: int
    stopped: list[StoppedCopy] = []


class ClusterStatus(msgspec.Struct, frozen=True):
    """The cluster, as one node sees it.

    Attributes:
        me: name of that node.
        replicas: how many nodes are to have each partition.
        warnings: what an operator should know.
    """

    cluster: str
    fingerprint: str
    me: str
    replicas: int
    nodes: list[NodeRow]
    partitions: list[PartitionRow]
    warnings: list[str]

    def node(self, name: str) -> NodeRow | None:
        """The node of a name."""
        return next((node for node in self.nodes if node.name == name), None)


class ClusterView(Protocol):
    """The cluster, as operators may look at it and act on it.

    Every method raises ClusterNotJoinedError while the node has not joined. A change raises
    ClusterAloneError on a node without a cluster, an error with the reason and a way out when it
    is refused, and then nothing was changed. It raises what the metadata store raises; after
    TransportError, or when cancelled, it may have been made or not, and asking again is right.
    """

    async def status(self) -> ClusterStatus:
        """The cluster as this node sees it. Cancelling is safe."""
        ...

    async def set_drained(self, name: str, drained: bool) -> NodeRow:
        """Have a node give up what it leads and keeps, or take it back."""
        ...

    async def remove_node(self, name: str, *, lost: bool) -> NodeRow:
        """Take a node out for good; gives what it was.

        Args:
            lost: somebody says that a silent node will never come back. Only a cluster that hears
                too few nodes to declare it dead needs that.
        """
        ...

    async def move(self, partition: int, name: str) -> PartitionRow:
        """Have a node that keeps a partition lead it, until need takes the lead away."""
        ...

    def applied_elsewhere(self, partition: int) -> Mapping[str, int]:
        """How far other nodes are with a partition, by name, as far as they told; none is waited
        for. Copies that are not to be gone on from are left out."""
        ...

    def stopped_copies(self, partition: int) -> list[StoppedCopy]:
        """The copies of a partition that have stopped, by node, as far as nodes told."""
        ...

    async def metadata_members(self) -> MembersReport:
        """The metadata servers and how each of them is. Cancelling is safe."""
        ...

    async def add_metadata_member(self, name: str) -> MembersReport:
        """Add the metadata server of a node; nothing happens when it is one already."""
        ...

    async def remove_metadata_member(self, name: str) -> MembersReport:
        """Remove the metadata server of a node; it need not answer."""
        ...

    async def metadata_value(self, key: str) -> VersionedValue | None:
        """A value of the metadata store. Raises MessageTooLargeError. Cancelling is safe."""
        ...

    async def metadata_keys(self, prefix: str) -> list[str]:
        """The keys of the metadata store that start so, sorted. Cancelling is safe."""
        ...
