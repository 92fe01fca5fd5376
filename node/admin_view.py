"""The node's engine as admin REST looks at it."""

from collections.abc import Mapping

import msgspec

from ..admin.cluster import ClusterView
from ..core.clock import Clock
from ..core.ids import LogId
from ..log.logs import Logs
from ..metadata.nodes import Addresses
from ..partition_processor.manager import PartitionManager
from ..partition_processor.snapshots.service import Snapshots
from ..partition_processor.status import PartitionDetail, PartitionStatus
from .alone_view import alone_view
from .engine import NodeEngine


class NodeView:
    """An `AdminView` of an engine that has started."""

    def __init__(
        self,
        engine: NodeEngine,
        *,
        clock: Clock,
        node_name: str,
        cluster: str,
        cluster_view: ClusterView | None = None,
        addresses: Mapping[str, str] | None = None,
    ) -> None:
        """Take the engine, its clock and who the node is.

        Args:
            cluster_view: the cluster of several that the node belongs to; None where it is alone.
            addresses: where this node's doors are, by their names, of one that is alone.
        """
        self._engine = engine
        self._clock = clock
        self._node_name = node_name
        self._cluster = cluster
        self._cluster_view = cluster_view
        self._addresses = {} if addresses is None else addresses

    @property
    def node_name(self) -> str:
        """Name of this node."""
        return self._node_name

    @property
    def cluster(self) -> str:
        """Name of its cluster."""
        return self._cluster

    @property
    def cluster_view(self) -> ClusterView:
        """The cluster that the node belongs to, or itself alone."""
        if self._cluster_view is not None:
            return self._cluster_view
        # Doors open one after the other, so the addresses are read when they are asked for.
        return alone_view(
            self._engine.metadata,
            self._engine.manager.partitions,
            name=self._node_name,
            cluster=self._cluster,
            addresses=Addresses(
                node=self._addresses.get("node", ""),
                ingress_http=self._addresses.get("ingress_http", ""),
                ingress_grpc=self._addresses.get("ingress_grpc", ""),
                admin=self._addresses.get("admin", ""),
            ),
        )

    @property
    def logs(self) -> Logs:
        """The logs of this node."""
        return self._engine.logs

    @property
    def manager(self) -> PartitionManager:
        """The partitions of this node and the deployments it knows."""
        return self._engine.manager

    @property
    def snapshots(self) -> Snapshots:
        """The snapshots of this node's partitions."""
        return self._engine.snapshots

    def time_ns(self) -> int:
        """Wall clock of this node, nanoseconds since 1970."""
        return self._clock.time_ns()

    def partitions(self) -> list[PartitionStatus]:
        """Every partition on this node, by number."""
        return self._engine.manager.partitions()

    def partition(self, partition: int) -> PartitionDetail | None:
        """One partition in full; None when this node has no such partition."""
        detail = self._engine.manager.partition(partition)
        last = self._engine.snapshots.last(partition)
        if detail is None or last is None:
            return detail
        return msgspec.structs.replace(detail, snapshot=last.status())

    def durable_lsn(self, log: LogId) -> int:
        """The last LSN whose effect survives a crash; 0 for a log of no partition here."""
        processors = self._engine.manager.processors
        return processors[log].durable_lsn if log < len(processors) else 0

    def archived_lsn(self, log: LogId) -> int | None:
        """The last LSN whose effect is in a snapshot; None where none are taken."""
        return self._engine.snapshots.archived_lsn(log)
