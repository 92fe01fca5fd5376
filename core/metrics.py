"""The node's metrics: cheap to observe, collected when somebody scrapes.

An observation is a few list operations (under a microsecond): the hot path makes one per *batch*,
never one per record. Each metric is observed from one thread only; a scrape may read a histogram
between two of its updates, which costs it one observation until the next scrape. Needs the
``server`` extra (prometheus-client).
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from .server_metrics import (
    LogServerFigures,
    MetadataServerFigures,
    log_server_families,
    metadata_server_families,
)

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""The content type of `Metrics.render`."""

_DISK_BOUNDS: Final = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
)  # fmt: skip
_LOOP_BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class PartitionFigures(Protocol):
    """What a partition tells at scrape time; `PartitionStatus` is one."""

    @property
    def partition(self) -> int:
        """Its number."""
        ...

    @property
    def lag(self) -> int:
        """Committed records that are not applied yet."""
        ...

    @property
    def invocations(self) -> dict[str, int]:
        """Invocations by the name of their status."""
        ...


class SnapshotFigures(Protocol):
    """What is told about the newest snapshot of a partition at scrape time."""

    @property
    def partition(self) -> int:
        """Its number."""
        ...

    @property
    def lsn(self) -> int:
        """The last LSN whose effect is in the snapshot."""
        ...

    @property
    def age_seconds(self) -> float:
        """How long ago it was taken."""
        ...


class LogFigures(Protocol):
    """What a log tells at scrape time."""

    @property
    def log(self) -> int:
        """Its number."""
        ...

    @property
    def committed_tail_lsn(self) -> int:
        """The first LSN that is not committed."""
        ...

    @property
    def trim_point_lsn(self) -> int:
        """The last LSN that was trimmed."""
        ...

    @property
    def segment_count(self) -> int:
        """How many segments the chain has."""
        ...

    @property
    def refusals(self) -> dict[str, int]:
        """Appends refused so far, by the name of the answer."""
        ...


class _Histogram:
    """Counts per bucket; `observe` is one bisection and two additions."""

    __slots__ = ("_bounds", "_counts", "_help", "_labels", "_name", "_sum")

    def __init__(self, name: str, help_text: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._help = help_text
        self._bounds = bounds
        self._labels = [*(str(bound) for bound in bounds), "+Inf"]
        self._counts = [0] * len(self._labels)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def family(self) -> Metric:
        running = 0
        buckets: list[tuple[str, float]] = []
        for label, count in zip(self._labels, self._counts, strict=True):
            running += count
            buckets.append((label, running))
        return HistogramMetricFamily(self._name, self._help, buckets=buckets, sum_value=self._sum)


class Metrics(Collector):
    """The metrics of one node, in a registry of its own."""

    def __init__(self) -> None:
        """Start every count at zero."""
        self.registry = CollectorRegistry(auto_describe=False)
        self._records = 0
        self._append = _Histogram(
            "perdure_log_append_duration_seconds",
            "From handing a batch to the log until it is committed.",
            _DISK_BOUNDS,
        )
        self._sync = _Histogram(
            "perdure_log_sync_duration_seconds", "One sync of the log's disk.", _DISK_BOUNDS
        )
        self._loop_lag = _Histogram(
            "perdure_event_loop_lag_seconds",
            "How much later than asked for the event loop ran a timer.",
            _LOOP_BOUNDS,
        )
        self._partitions: Callable[[], Sequence[PartitionFigures]] = list
        self._logs: Callable[[], Sequence[LogFigures]] = list
        self._snapshots: Callable[[], Sequence[SnapshotFigures]] = list
        self._snapshot_failures: Callable[[], int] = int
        self._log_server: Callable[[], LogServerFigures] | None = None
        self._metadata_server: Callable[[], MetadataServerFigures] | None = None
        self.registry.register(self)

    def log_appended(self, records: int, duration_seconds: float) -> None:
        """A batch of `records` was committed `duration_seconds` after it was handed in."""
        self._records += records
        self._append.observe(duration_seconds)

    def log_synced(self, duration_seconds: float) -> None:
        """The log's disk was synced once."""
        self._sync.observe(duration_seconds)

    def event_loop_lagged(self, lag_seconds: float) -> None:
        """The event loop ran a timer `lag_seconds` late."""
        self._loop_lag.observe(lag_seconds)

    def set_partition_source(self, source: Callable[[], Sequence[PartitionFigures]]) -> None:
        """Ask `source` for the partitions at every scrape; it runs where `render` is called."""
        self._partitions = source

    def set_log_source(self, source: Callable[[], Sequence[LogFigures]]) -> None:
        """Ask `source` for the logs at every scrape; it runs where `render` is called."""
        self._logs = source

    def set_snapshot_source(
        self, source: Callable[[], Sequence[SnapshotFigures]], failures: Callable[[], int]
    ) -> None:
        """Ask for the newest snapshots, and how many failed, at every scrape, as above."""
        self._snapshots = source
        self._snapshot_failures = failures

    def set_log_server_source(self, source: Callable[[], LogServerFigures]) -> None:
        """Ask `source` for the figures of this node's log-server at every scrape, as above."""
        self._log_server = source

    def set_metadata_server_source(self, source: Callable[[], MetadataServerFigures]) -> None:
        """Ask `source` for the figures of this node's metadata server at every scrape, as above."""
        self._metadata_server = source

    def render(self) -> bytes:
        """Everything in the text format that scrapers read, of type `CONTENT_TYPE`."""
        return generate_latest(self.registry)

    def collect(self) -> Iterable[Metric]:
        """Give the registry the present values; part of prometheus_client's Collector."""
        yield CounterMetricFamily(
            "perdure_log_append_records_total",
            "Records committed to the logs of this node.",
            value=self._records,
        )
        yield self._append.family()
        yield self._sync.family()
        yield self._loop_lag.family()
        yield from self._partition_families()
        yield from self._log_families()
        yield from self._snapshot_families()
        if self._log_server is not None:
            yield from log_server_families(self._log_server())
        if self._metadata_server is not None:
            yield from metadata_server_families(self._metadata_server())

    def _partition_families(self) -> Iterator[Metric]:
        lag = GaugeMetricFamily(
            "perdure_partition_applied_lag",
            "Committed records that the partition has not applied yet.",
            labels=["partition"],
        )
        invocations = GaugeMetricFamily(
            "perdure_invocations",
            "Invocations on this node by status, completed ones that are retained included.",
            labels=["status"],
        )
        totals: dict[str, int] = {}
        for figures in self._partitions():
            lag.add_metric([str(figures.partition)], figures.lag)
            for status, count in figures.invocations.items():
                totals[status] = totals.get(status, 0) + count
        for status in sorted(totals):
            invocations.add_metric([status], totals[status])
        yield lag
        yield invocations

    def _log_families(self) -> Iterator[Metric]:
        tail = GaugeMetricFamily(
            "perdure_log_committed_tail_lsn", "The first LSN not committed.", labels=["log"]
        )
        trim_point = GaugeMetricFamily(
            "perdure_log_trim_point_lsn", "The last LSN trimmed.", labels=["log"]
        )
        segments = GaugeMetricFamily(
            "perdure_log_segments", "Segments in the log's chain.", labels=["log"]
        )
        refusals = CounterMetricFamily(
            "perdure_log_refused_appends_total",
            "Appends that were refused, by answer.",
            labels=["answer"],
        )
        refused: dict[str, int] = {}
        for figures in self._logs():
            label = [str(figures.log)]
            tail.add_metric(label, figures.committed_tail_lsn)
            trim_point.add_metric(label, figures.trim_point_lsn)
            segments.add_metric(label, figures.segment_count)
            for answer, count in figures.refusals.items():
                refused[answer] = refused.get(answer, 0) + count
        for answer in sorted(refused):
            refusals.add_metric([answer.lower()], refused[answer])
        yield tail
        yield trim_point
        yield segments
        yield refusals

    def _snapshot_families(self) -> Iterator[Metric]:
        lsn = GaugeMetricFamily(
            "perdure_snapshot_lsn",
            "The last LSN whose effect is in the partition's newest snapshot.",
            labels=["partition"],
        )
        age = GaugeMetricFamily(
            "perdure_snapshot_age_seconds",
            "How long ago the partition's newest snapshot was taken.",
            labels=["partition"],
        )
        for figures in self._snapshots():
            label = [str(figures.partition)]
            lsn.add_metric(label, figures.lsn)
            age.add_metric(label, figures.age_seconds)
        yield lsn
        yield age
        yield CounterMetricFamily(
            "perdure_snapshot_failures_total",
            "Snapshots that this node could not take.",
            value=self._snapshot_failures(),
        )
