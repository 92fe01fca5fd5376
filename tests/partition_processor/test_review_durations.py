"""No duration that somebody asks for is too long to be stored."""

from datetime import timedelta

import msgspec
import pytest

from perdure.core.protocol.session import NO_OPTIONS, HandlingOptions
from perdure.core.random import SystemRandom
from perdure.partition_processor.handling import (
    DURATION_NS_MAX,
    HandlingDefaults,
    resolve_handling,
)
from perdure.partition_processor.records import Purge, PurgeExpired
from perdure.sdk.handling import handling_options

from .support import Partition, answer, greet, identity

NOW_NS = 1_800_000_000 * 10**9
FOR_EVER_NS = (1 << 64) - 1
TIMES = (
    "inactivity_timeout",
    "abort_timeout",
    "journal_retention",
    "idempotency_retention",
    "workflow_completion_retention",
    "retry_policy_initial_interval",
    "retry_policy_max_interval",
)


def test_what_is_kept_for_ever_completes_and_can_be_purged() -> None:
    partition = Partition()
    for number, journal_ns in ((1, FOR_EVER_NS), (2, 1_000)):
        command = msgspec.structs.replace(
            greet(number), completion_retention_ns=FOR_EVER_NS, journal_retention_ns=journal_ns
        )
        partition.apply(command, time_ns=NOW_NS)
        partition.apply(answer(identity(number)), time_ns=NOW_NS)
        assert partition.status(identity(number)) == "completed"
    partition.apply(PurgeExpired(2 * NOW_NS, 10), time_ns=NOW_NS)
    assert partition.invocation(identity(1)).entries > 0
    assert partition.invocation(identity(2)).entries == 0
    partition.operate(Purge(identity(1)), time_ns=NOW_NS)
    partition.operate(Purge(identity(2)), time_ns=NOW_NS)
    assert partition.rows(b"ix") == []


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("milliseconds", [-1, 1 << 62])
def test_what_a_worker_asks_for_is_bounded(name: str, milliseconds: int) -> None:
    options = HandlingOptions(**{name: milliseconds})
    for workflow_run in (False, True):
        handling = resolve_handling(
            options, NO_OPTIONS, HandlingDefaults(), workflow_run=workflow_run
        )
        times = [value for key, value in msgspec.structs.asdict(handling).items() if "_ns" in key]
        times += [handling.retry.initial_interval_ns, handling.retry.interval_max_ns]
        assert all(0 <= value <= DURATION_NS_MAX for value in times)
    assert NOW_NS + DURATION_NS_MAX < 1 << 63


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e300, 0.0, -1.0])
def test_no_factor_breaks_the_count_of_a_delay(factor: float) -> None:
    options = HandlingOptions(
        retry_policy_exponentiation_factor=factor,
        retry_policy_initial_interval=1 << 62,
        retry_policy_max_interval=1 << 62,
        retry_policy_max_attempts=1_000,
    )
    handling = resolve_handling(options, NO_OPTIONS, HandlingDefaults(), workflow_run=False)
    for failures in (1, 2, 65, 900):
        delay_ns = handling.retry.delay_ns(failures, SystemRandom())
        assert delay_ns is not None
        assert 0 <= delay_ns < 1 << 63


def test_the_longest_time_that_python_has_can_be_said() -> None:
    said = handling_options("app.py", "service S", {"journal_retention": timedelta.max})
    assert said.journal_retention == -(-86_399_999_999_999_999_999 // 1_000)
    short = handling_options(
        "app.py", "service S", {"journal_retention": timedelta(microseconds=1)}
    )
    assert short.journal_retention == 1
