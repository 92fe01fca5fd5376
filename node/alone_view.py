"""A node that is alone, as admin REST shows it: a cluster with itself as the only node."""

from collections.abc import Callable, Mapping

from ..admin.cluster import ClusterStatus, NodeRow, PartitionRow
from ..admin.errors import ClusterAloneError
from ..metadata.api import MetadataStore, VersionedValue
from ..metadata.nodes import Addresses, NodeConfiguration, NodeId
from ..metadata.quorum import MembersReport
from ..partition_processor.status import PartitionStatus, StoppedCopy
from .cluster.changes import unknown_node
from .cluster.errors import UnknownNodeError
from .cluster_rows import node_row, partition_row
from .identity import stored_identity

Statuses = Callable[[], list[PartitionStatus]]
"""The partitions of this node, by number."""


class SingleNodeView:
    """A `ClusterView` of a node that is alone."""

    def __init__(
        self, metadata: MetadataStore, statuses: Statuses, *, me: NodeConfiguration, cluster: str
    ) -> None:
        """Take the node's own metadata store, and who it is."""
        self._metadata = metadata
        self._statuses = statuses
        self._me = me
        self._cluster = cluster

    async def status(self) -> ClusterStatus:
        """See `ClusterView`."""
        identity = await stored_identity(self._metadata)
        return ClusterStatus(
            cluster=self._cluster,
            fingerprint="" if identity is None else identity.fingerprint,
            me=self._me.name,
            replicas=1,
            nodes=[node_row(self._me, None)],
            partitions=[
                partition_row(status.partition, self._me.name, [self._me.name], status)
                for status in self._statuses()
            ],
            warnings=[],
        )

    async def set_drained(self, name: str, drained: bool) -> NodeRow:
        """Refused with ClusterAloneError, as every change is."""
        raise self._alone(name)

    async def remove_node(self, name: str, *, lost: bool) -> NodeRow:
        """Refused."""
        raise self._alone(name)

    async def move(self, partition: int, name: str) -> PartitionRow:
        """Refused."""
        raise self._alone(name)

    def applied_elsewhere(self, partition: int) -> Mapping[str, int]:
        """There is no other node."""
        return {}

    def stopped_copies(self, partition: int) -> list[StoppedCopy]:
        """Its own, if that has stopped."""
        return [
            StoppedCopy(status.node, status.applied_lsn, status.parked_lsn > 0)
            for status in self._statuses()
            if status.partition == partition and status.role == "stopped"
        ]

    async def metadata_members(self) -> MembersReport:
        """Refused: there are none."""
        raise self._alone("")

    async def add_metadata_member(self, name: str) -> MembersReport:
        """Refused."""
        raise self._alone(name)

    async def remove_metadata_member(self, name: str) -> MembersReport:
        """Refused."""
        raise self._alone(name)

    async def metadata_value(self, key: str) -> VersionedValue | None:
        """See `ClusterView`."""
        return await self._metadata.get(key)

    async def metadata_keys(self, prefix: str) -> list[str]:
        """See `ClusterView`."""
        return await self._metadata.keys(prefix)

    def _alone(self, name: str) -> ClusterAloneError | UnknownNodeError:
        if name not in ("", self._me.name):
            return unknown_node(name, [self._me])
        return ClusterAloneError(
            f"node {self._me.name!r} is alone: it leads and keeps everything, and its metadata is "
            "on its own disk. Start it in a cluster (cluster.metadata_servers) for that"
        )


def alone_view(
    metadata: MetadataStore,
    statuses: Statuses,
    *,
    name: str,
    cluster: str,
    addresses: Addresses,
) -> SingleNodeView:
    """A view of a node that is alone, as the only one of a cluster."""
    me = NodeConfiguration(
        id=NodeId(1),
        name=name,
        generation=1,
        addresses=addresses,
        roles=("admin", "ingress", "worker"),
        zone="",
        storage="disabled",
        drained=False,
        disk_token="",
    )
    return SingleNodeView(metadata, statuses, me=me, cluster=cluster)
