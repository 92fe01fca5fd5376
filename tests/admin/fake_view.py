"""A node with two partitions, as admin REST sees it."""

from collections.abc import Collection

from perdure.admin.cluster import ClusterView
from perdure.admin.elsewhere import OtherNodes
from perdure.core.ids import LogId
from perdure.log.chain import Segment
from perdure.log.logs import Logs
from perdure.log.replicated.holdings import SegmentHoldings
from perdure.log.upkeep import SegmentHealth
from perdure.metadata.memory import MemoryMetadataStore
from perdure.metadata.nodes import Addresses
from perdure.node.alone_view import alone_view
from perdure.partition_processor.manager import PartitionManager
from perdure.partition_processor.snapshots.service import Snapshots
from perdure.partition_processor.status import PartitionDetail, PartitionStatus

STATUSES = [
    PartitionStatus(0, "node-1", "leader", 4, 9, 10, 0, {"running": 2, "completed": 5}),
    PartitionStatus(1, "node-1", "stopped", 4, 6, 10, 3, {}, "PD0901: parked at 7"),
]


class FakeView:
    """Looks like a node that has partitions only; for its logs tests take a real engine."""

    node_name = "node-1"
    cluster = "perdure"

    @property
    def cluster_view(self) -> ClusterView:
        """It is alone."""
        return alone_view(
            MemoryMetadataStore(),
            self.partitions,
            name=self.node_name,
            cluster=self.cluster,
            addresses=Addresses("127.0.0.1:5122"),
        )

    @property
    def others(self) -> OtherNodes | None:
        """There are none."""
        return None

    @property
    def logs(self) -> Logs:
        """There are none to look at."""
        raise AssertionError("this view has no logs")

    @property
    def manager(self) -> PartitionManager:
        """There is none to look at."""
        raise AssertionError("this view has no partition manager")

    @property
    def snapshots(self) -> Snapshots:
        """There are none to look at."""
        raise AssertionError("this view has no snapshots")

    def check_started(self) -> None:
        """It has."""

    def time_ns(self) -> int:
        """The beginning of time."""
        return 0

    def partitions(self) -> list[PartitionStatus]:
        """Both."""
        return STATUSES

    def partition(self, partition: int) -> PartitionDetail | None:
        """One of the two."""
        if partition >= len(STATUSES):
            return None
        return PartitionDetail(STATUSES[partition], 0, 2**64 - 1, "ab12", 1, 2)

    def durable_lsn(self, log: LogId) -> int:
        """Nothing is durable."""
        return 0

    def provider_refusal(self, kind: str) -> str:
        """Any provider may be taken."""
        return ""

    def segment_health(self, segment: Segment) -> SegmentHealth | None:
        """There are no segments."""
        raise AssertionError("this view has no logs")

    async def segment_holdings(
        self, segment: Segment, first_offset: int, end_offset: int, known_tail: int
    ) -> SegmentHoldings | None:
        """There are no segments."""
        raise AssertionError("this view has no logs")

    def give_up(self, segment: Segment, nodes: Collection[str]) -> None:
        """There are no segments."""
        raise AssertionError("this view has no logs")

    def archived_lsn(self, log: LogId) -> int | None:
        """No snapshots are taken."""
        return None
