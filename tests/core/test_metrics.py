"""Metrics, loop lag and logging: what a node tells about itself."""

import asyncio
import io
import json
import logging
import re
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from perdure.core.loop_lag import LoopLag
from perdure.core.metrics import Metrics
from perdure.core.sections import LoggingSection
from perdure.core.telemetry import configure_logging
from perdure.partition_processor.status import PartitionStatus

from ..tree import TREE


def scrape(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by name and labels, as a scraper reads it."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def status(partition: int, lag: int, invocations: dict[str, int]) -> PartitionStatus:
    """A partition with these figures."""
    return PartitionStatus(partition, "node-1", "leader", 1, 5, 6 + lag, lag, invocations)


def test_batches_are_counted_with_their_records() -> None:
    metrics = Metrics()
    metrics.log_appended(3, 0.0007)
    metrics.log_appended(4, 9.0)
    samples = scrape(metrics)

    assert samples["perdure_log_append_records_total", ()] == 7
    assert samples["perdure_log_append_duration_seconds_count", ()] == 2
    assert samples["perdure_log_append_duration_seconds_sum", ()] == pytest.approx(9.0007)
    bucket = "perdure_log_append_duration_seconds_bucket"
    assert samples[bucket, (("le", "0.0005"),)] == 0
    assert samples[bucket, (("le", "0.001"),)] == 1
    assert samples[bucket, (("le", "5.0"),)] == 1
    assert samples[bucket, (("le", "+Inf"),)] == 2


def test_value_on_a_bound_counts_below_it() -> None:
    metrics = Metrics()
    metrics.log_synced(0.001)
    metrics.event_loop_lagged(0.001)
    samples = scrape(metrics)

    assert samples["perdure_log_sync_duration_seconds_bucket", (("le", "0.001"),)] == 1
    assert samples["perdure_event_loop_lag_seconds_bucket", (("le", "0.001"),)] == 1


def test_snapshots_are_asked_at_scrape_time() -> None:
    metrics = Metrics()
    assert scrape(metrics)["perdure_snapshot_failures_total", ()] == 0
    newest = [SimpleNamespace(partition=3, lsn=70, age_seconds=1.5)]
    failures = [2]
    metrics.set_snapshot_source(lambda: newest, lambda: failures[0])
    first = scrape(metrics)
    newest[0] = SimpleNamespace(partition=3, lsn=90, age_seconds=0.5)
    failures[0] = 3
    second = scrape(metrics)

    label = (("partition", "3"),)
    assert first["perdure_snapshot_lsn", label] == 70
    assert first["perdure_snapshot_age_seconds", label] == 1.5
    assert first["perdure_snapshot_failures_total", ()] == 2
    assert second["perdure_snapshot_lsn", label] == 90
    assert second["perdure_snapshot_failures_total", ()] == 3


def test_partitions_are_asked_at_scrape_time() -> None:
    metrics = Metrics()
    partitions = [status(0, 2, {"running": 1, "completed": 5}), status(1, 0, {"running": 3})]
    metrics.set_partition_source(lambda: partitions)
    first = scrape(metrics)
    partitions.pop()
    second = scrape(metrics)

    assert first["perdure_partition_applied_lag", (("partition", "0"),)] == 2
    assert first["perdure_partition_applied_lag", (("partition", "1"),)] == 0
    assert first["perdure_invocations", (("status", "running"),)] == 4
    assert first["perdure_invocations", (("status", "completed"),)] == 5
    assert second["perdure_invocations", (("status", "running"),)] == 1
    assert ("perdure_partition_applied_lag", (("partition", "1"),)) not in second


def test_logs_are_asked_at_scrape_time() -> None:
    metrics = Metrics()
    logs = [
        SimpleNamespace(
            log=number,
            committed_tail_lsn=100 + number,
            trim_point_lsn=10,
            segment_count=2,
            refusals={"Conflict": 3, "StaleSnapshot": 1},
        )
        for number in (0, 1)
    ]
    metrics.set_log_source(lambda: logs)
    samples = scrape(metrics)

    assert samples["perdure_log_committed_tail_lsn", (("log", "1"),)] == 101
    assert samples["perdure_log_trim_point_lsn", (("log", "0"),)] == 10
    assert samples["perdure_log_segments", (("log", "0"),)] == 2
    assert samples["perdure_log_refused_appends_total", (("answer", "conflict"),)] == 6


LOG_SERVER = SimpleNamespace(
    batches=7,
    bytes=700,
    refused={"sealed": 2, "hole": 1},
    loglets={"open": 3, "sealed": 4},
    staged_bytes=50,
    waits=6,
)
METADATA_SERVER = SimpleNamespace(
    keys=9,
    keys_max=100,
    epoch=3,
    is_member=True,
    syncs=5,
    requests={"read": 11},
    replies={"held": 10, "failed": 1},
)


def test_servers_are_asked_at_scrape_time_where_there_are_any() -> None:
    metrics = Metrics()
    assert not any("_server_" in name for name, _ in scrape(metrics))
    metrics.set_log_server_source(lambda: LOG_SERVER)
    metrics.set_metadata_server_source(lambda: METADATA_SERVER)
    samples = scrape(metrics)

    log = {
        (name.removeprefix("perdure_log_server_"), dict(labels).get("reason", "")): value
        for (name, labels), value in samples.items()
        if name.startswith("perdure_log_server_") and not name.endswith("loglets")
    }
    assert log == {
        ("batches_total", ""): 7,
        ("bytes_total", ""): 700,
        ("refused_batches_total", "hole"): 1,
        ("refused_batches_total", "sealed"): 2,
        ("staged_bytes", ""): 50,
        ("waits", ""): 6,
    }
    assert samples["perdure_log_server_loglets", (("state", "sealed"),)] == 4
    prefix = "perdure_metadata_server_"
    assert samples[prefix + "keys", ()] == 9
    assert samples[prefix + "keys_max", ()] == 100
    assert samples[prefix + "epoch", ()] == 3
    assert samples[prefix + "member", ()] == 1
    assert samples[prefix + "syncs_total", ()] == 5
    assert samples[prefix + "requests_total", (("request", "read"),)] == 11
    assert samples[prefix + "replies_total", (("reply", "failed"),)] == 1


def test_every_metric_has_its_row_in_the_documentation() -> None:
    metrics = Metrics()
    metrics.set_log_server_source(lambda: LOG_SERVER)
    metrics.set_metadata_server_source(lambda: METADATA_SERVER)
    rows = dict(
        re.findall(
            r"^\| `(perdure_\w+)` \| (\w+) \|", (TREE / "docs/metrics.md").read_text(), re.MULTILINE
        )
    )
    told = {
        family.name + ("_total" if family.type == "counter" else ""): family.type
        for family in text_string_to_metric_families(metrics.render().decode())
    }

    assert rows == told


def test_two_nodes_in_one_process_do_not_share_counts() -> None:
    first, second = Metrics(), Metrics()
    first.log_appended(1, 0.1)

    assert scrape(second)["perdure_log_append_records_total", ()] == 0


class ManualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock and timers the test turns by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0

    def time(self) -> float:
        """The time that was set."""
        return self.now


def test_loop_lag_is_how_late_the_timer_ran() -> None:
    loop = ManualLoop()
    lags: list[float] = []
    try:
        lag = LoopLag(loop, lags.append)
        lag.start()
        for step in (0.5, 0.75, 2.5):
            loop.now += step
            loop.call_soon(loop.stop)
            loop.run_forever()
        lag.stop()
        lag.stop()
        loop.now += 1
        loop.call_soon(loop.stop)
        loop.run_forever()
    finally:
        loop.close()

    assert lags == pytest.approx([0.0, 0.25, 2.0])


@pytest.fixture
def _keep_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("_keep_logging")
def test_log_is_json_lines_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    configure_logging(LoggingSection(level="info"), stream)
    structlog.get_logger().debug("not this")
    structlog.get_logger().info("node ready", address="127.0.0.1:1")
    logging.getLogger("library").warning("odd %s", "thing")
    logging.getLogger("library").info("chatter")
    try:
        raise ValueError("why")
    except ValueError:
        structlog.get_logger().exception("it broke")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]

    assert [line["event"] for line in lines] == ["node ready", "odd thing", "it broke"]
    assert lines[0]["address"] == "127.0.0.1:1"
    assert [line["level"] for line in lines] == ["info", "warning", "error"]
    assert lines[0]["timestamp"].endswith("Z")
    assert lines[1]["logger"] == "library"
    assert "ValueError: why" in lines[2]["exception"]


@pytest.mark.usefixtures("_keep_logging")
def test_log_is_text_when_asked_for() -> None:
    stream = io.StringIO()
    configure_logging(LoggingSection(level="debug", format="text"), stream)
    structlog.get_logger().debug("node ready", address="127.0.0.1:1")
    logging.getLogger("library").debug("chatter")

    assert "node ready" in stream.getvalue()
    assert "address=127.0.0.1:1" in stream.getvalue()
    assert "chatter" in stream.getvalue()
