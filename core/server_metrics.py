"""What log-servers and metadata servers tell scrapers. Every label has a fixed set of values."""

from collections.abc import Iterator, Mapping
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric


class LogServerFigures(Protocol):
    """What a log-server tells at scrape time."""

    @property
    def batches(self) -> int:
        """Batches made durable so far, repairs and second copies included."""
        ...

    @property
    def bytes(self) -> int:
        """Of those batches."""
        ...

    @property
    def refused(self) -> Mapping[str, int]:
        """Batches refused so far, by the reason's name."""
        ...

    @property
    def loglets(self) -> Mapping[str, int]:
        """Loglets in memory, ``open`` and ``sealed``."""
        ...

    @property
    def staged_bytes(self) -> int:
        """Of batches that are not durable yet."""
        ...

    @property
    def waits(self) -> int:
        """Requests that wait for a tail."""
        ...


class MetadataServerFigures(Protocol):
    """What a metadata server tells at scrape time."""

    @property
    def keys(self) -> int:
        """Keys that it keeps, deleted ones included."""
        ...

    @property
    def keys_max(self) -> int:
        """As many as it may keep."""
        ...

    @property
    def epoch(self) -> int:
        """Of the newest list of servers that it knows; 0 for none."""
        ...

    @property
    def is_member(self) -> bool:
        """Whether it is in that list."""
        ...

    @property
    def syncs(self) -> int:
        """Syncs of its disk so far."""
        ...

    @property
    def requests(self) -> Mapping[str, int]:
        """Requests so far, by kind."""
        ...

    @property
    def replies(self) -> Mapping[str, int]:
        """Replies so far, by kind."""
        ...


def log_server_families(figures: LogServerFigures) -> Iterator[Metric]:
    """The metrics of a log-server."""
    yield CounterMetricFamily(
        "perdure_log_server_batches_total",
        "Batches that this node's log-server made durable.",
        value=figures.batches,
    )
    yield CounterMetricFamily(
        "perdure_log_server_bytes_total", "Bytes of those batches.", value=figures.bytes
    )
    yield _by_label(
        CounterMetricFamily(
            "perdure_log_server_refused_batches_total",
            "Batches that this node's log-server did not take, by reason.",
            labels=["reason"],
        ),
        figures.refused,
    )
    yield _by_label(
        GaugeMetricFamily(
            "perdure_log_server_loglets",
            "Loglets that this node's log-server has in memory, by state.",
            labels=["state"],
        ),
        figures.loglets,
    )
    yield GaugeMetricFamily(
        "perdure_log_server_staged_bytes",
        "Bytes of batches that wait for the disk.",
        value=figures.staged_bytes,
    )
    yield GaugeMetricFamily(
        "perdure_log_server_waits",
        "Requests of readers that wait for new records.",
        value=figures.waits,
    )


def metadata_server_families(figures: MetadataServerFigures) -> Iterator[Metric]:
    """The metrics of a metadata server."""
    yield GaugeMetricFamily(
        "perdure_metadata_server_keys",
        "Keys that this node's metadata server keeps, deleted ones included.",
        value=figures.keys,
    )
    yield GaugeMetricFamily(
        "perdure_metadata_server_keys_max", "As many as it may keep.", value=figures.keys_max
    )
    yield GaugeMetricFamily(
        "perdure_metadata_server_epoch",
        "Of the newest list of metadata servers that it knows.",
        value=figures.epoch,
    )
    yield GaugeMetricFamily(
        "perdure_metadata_server_member",
        "1 while it is in that list, 0 otherwise.",
        value=int(figures.is_member),
    )
    yield CounterMetricFamily(
        "perdure_metadata_server_syncs_total", "Syncs of its disk.", value=figures.syncs
    )
    yield _by_label(
        CounterMetricFamily(
            "perdure_metadata_server_requests_total",
            "Requests of other nodes and of this one, by kind.",
            labels=["request"],
        ),
        figures.requests,
    )
    yield _by_label(
        CounterMetricFamily(
            "perdure_metadata_server_replies_total", "Replies, by kind.", labels=["reply"]
        ),
        figures.replies,
    )


def _by_label(family: CounterMetricFamily | GaugeMetricFamily, values: Mapping[str, int]) -> Metric:
    for label in sorted(values):
        family.add_metric([label], values[label])
    return family
