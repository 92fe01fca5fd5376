"""The node's engine as admin REST looks at it."""

from collections.abc import Collection, Mapping

import msgspec

from ..admin.cluster import ClusterView
from ..admin.elsewhere import OtherNodes
from ..admin.errors import ClusterNotJoinedError
from ..core.clock import Clock
from ..core.ids import LogId
from ..log.chain import Segment
from ..log.logs import Logs
from ..log.replicated.holdings import SegmentHoldings
from ..log.upkeep import SegmentHealth
from ..metadata.nodes import Addresses
from ..partition_processor.manager import PartitionManager
from ..partition_processor.snapshots.service import Snapshots
from ..partition_processor.status import PartitionDetail, PartitionStatus
from .alone_view import alone_view
from .engine import NodeEngine


class NodeView:
    """An `AdminView` of an engine.

    Before that has started, whatever needs it raises ClusterNotJoinedError with what is waited for.
    """

    def __init__(
        self,
        engine: NodeEngine | None,
        *,
        clock: Clock,
        node_name: str,
        cluster: str,
        cluster_view: ClusterView | None = None,
        addresses: Mapping[str, str] | None = None,
    ) -> None:
        """Take the engine, its clock and who the node is.

        Args:
            engine: None while the node joins its cluster; `attach` follows then.
            cluster_view: the cluster of several that the node belongs to; None where it is alone.
            addresses: where this node's doors are, by their names, of one that is alone.
        """
        self._attached = engine
        self._clock = clock
        self._node_name = node_name
        self._cluster = cluster
        self._cluster_view = cluster_view
        self._addresses = {} if addresses is None else addresses
        self._others: OtherNodes | None = None

    def attach(self, engine: NodeEngine, others: OtherNodes | None = None) -> None:
        """The engine has started, and other nodes may be asked."""
        self._attached = engine
        self._others = others

    def check_started(self) -> None:
        """See `AdminView`."""
        self._started()

    def _started(self) -> NodeEngine:
        if self._attached is None:
            raise ClusterNotJoinedError(
                f"node {self._node_name!r} is not part of its cluster yet: GET /cluster tells what "
                "it waits for. Try again"
            )
        return self._attached

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
            self._started().metadata,
            self._started().manager.partitions,
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
    def others(self) -> OtherNodes | None:
        """The other nodes of the cluster; None where this node is alone."""
        return self._others

    @property
    def logs(self) -> Logs:
        """The logs of this node."""
        return self._started().logs

    @property
    def manager(self) -> PartitionManager:
        """The partitions of this node and the deployments it knows."""
        return self._started().manager

    @property
    def snapshots(self) -> Snapshots:
        """The snapshots of this node's partitions."""
        return self._started().snapshots

    def time_ns(self) -> int:
        """Wall clock of this node, nanoseconds since 1970."""
        return self._clock.time_ns()

    def partitions(self) -> list[PartitionStatus]:
        """Every partition on this node, by number."""
        manager = self._started().manager
        unserved = manager.unserved()
        return [
            msgspec.structs.replace(status, unserved=unserved.get(status.partition, 0))
            for status in manager.partitions()
        ]

    def partition(self, partition: int) -> PartitionDetail | None:
        """One partition in full; None when this node has no such partition."""
        engine = self._started()
        detail = engine.manager.partition(partition)
        last = engine.snapshots.last(partition)
        if detail is None or last is None:
            return detail
        return msgspec.structs.replace(detail, snapshot=last.status())

    def durable_lsn(self, log: LogId) -> int:
        """The last LSN whose effect survives a crash; 0 for a log of no partition here."""
        processors = self._started().manager.processors
        return processors[log].durable_lsn if log < len(processors) else 0

    def segment_health(self, segment: Segment) -> SegmentHealth | None:
        """See `AdminView`."""
        reviewer = self._started().reviewer
        return None if reviewer is None else reviewer.health(segment)

    def provider_refusal(self, kind: str) -> str:
        """See `AdminView`."""
        reviewer = self._started().reviewer
        return "" if reviewer is None else reviewer.refusal(kind)

    async def segment_holdings(
        self, segment: Segment, first_offset: int, end_offset: int, known_tail: int
    ) -> SegmentHoldings | None:
        """See `AdminView`."""
        replicated = self._started().replicated
        if replicated is None:
            return None
        return await replicated.provider.holdings(segment, first_offset, end_offset, known_tail)

    def give_up(self, segment: Segment, nodes: Collection[str]) -> None:
        """See `AdminView`."""
        replicated = self._started().replicated
        assert replicated is not None, "what is kept on one node has no log-servers"
        replicated.provider.give_up(segment, nodes)

    def archived_lsn(self, log: LogId) -> int | None:
        """See `AdminView`."""
        return self._started().archived_lsn(log)
