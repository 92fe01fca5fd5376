"""AdminView: the node, as admin REST may look at it and act on it."""

from collections.abc import Collection
from typing import Protocol

from ..core.ids import LogId
from ..log.chain import Segment
from ..log.logs import Logs
from ..log.replicated.holdings import SegmentHoldings
from ..log.upkeep import SegmentHealth
from ..partition_processor.manager import PartitionManager
from ..partition_processor.snapshots.service import Snapshots
from ..partition_processor.status import PartitionDetail, PartitionStatus
from .cluster import ClusterView
from .elsewhere import OtherNodes


class AdminView(Protocol):
    """The node, as operators may look at it; everything on the event loop's thread."""

    @property
    def node_name(self) -> str:
        """Name of this node."""
        ...

    @property
    def cluster(self) -> str:
        """Name of its cluster."""
        ...

    @property
    def cluster_view(self) -> ClusterView:
        """The cluster that the node belongs to."""
        ...

    @property
    def others(self) -> OtherNodes | None:
        """The other nodes of the cluster; None where this node is alone."""
        ...

    @property
    def logs(self) -> Logs:
        """The logs of this node; partition n's is log n."""
        ...

    @property
    def manager(self) -> PartitionManager:
        """The partitions of this node and the deployments it knows."""
        ...

    @property
    def snapshots(self) -> Snapshots:
        """The snapshots of this node's partitions."""
        ...

    def check_started(self) -> None:
        """Raises ClusterNotJoinedError while the node joins its cluster; so does all below then."""
        ...

    def time_ns(self) -> int:
        """Wall clock of this node, nanoseconds since 1970."""
        ...

    def partitions(self) -> list[PartitionStatus]:
        """Every partition on this node, by number."""
        ...

    def partition(self, partition: int) -> PartitionDetail | None:
        """One partition in full; None when this node has no such partition."""
        ...

    def durable_lsn(self, log: LogId) -> int:
        """The last LSN of a log whose effect survives a crash of this node, 0 when none does.

        Whatever lies above it is needed to get the node's state back.
        """
        ...

    def segment_health(self, segment: Segment) -> SegmentHealth | None:
        """How well a segment of a log is kept; None for one that is kept on one node."""
        ...

    async def segment_holdings(
        self, segment: Segment, first_offset: int, end_offset: int, known_tail: int
    ) -> SegmentHoldings | None:
        """What each log-server holds of a segment, asked now; None for one kept on one node.

        `known_tail`: everything below is known to be committed. Cancelling is safe.
        """
        ...

    def provider_refusal(self, kind: str) -> str:
        """Why no new segment may be kept by a provider here, with a way out; empty where it may."""
        ...

    def give_up(self, segment: Segment, nodes: Collection[str]) -> None:
        """Have the next seal from here end a segment without these log-servers' lost disks."""
        ...

    def archived_lsn(self, log: LogId) -> int | None:
        """The last LSN of a log whose effect is in a snapshot, 0 when none is.

        None where no snapshots are taken, and nothing waits for them: of a node that is alone.
        """
        ...
