"""Attempts that fail: waiting, pausing, giving up, and what is kept about it."""

from typing import Any

import msgspec
import pytest

from perdure.core.protocol import messages
from perdure.partition_processor.commands.attempt_chunk import VIOLATION_DELAY_NS
from perdure.partition_processor.effects import ArmRetry, Effect, EndAttempt, StartAttempt
from perdure.partition_processor.records import (
    DELAY_NS_MAX,
    AttemptFailed,
    AttemptStarted,
    Pause,
    Resume,
)
from perdure.partition_processor.tables import keys
from perdure.partition_processor.tables.events import EVENTS_KEPT, Event, decode_event
from perdure.partition_processor.tables.invocations import Failure

from ..covering import covers
from .calls import called, make, told
from .frames import entry, result
from .support import RUN, RUN_DONE, Partition, add, greet, identity

ONE = identity(1)


def running() -> Partition:
    """A partition with one invocation, which runs."""
    partition = Partition()
    partition.apply(greet(1))
    return partition


def events(partition: Partition) -> list[Event]:
    """What is kept about the failures of the invocation, oldest first."""
    start = keys.EVENTS + ONE
    content = partition.content()
    return [decode_event(content[key]) for key in sorted(content) if key.startswith(start)]


def fail(partition: Partition, delay_ns: int | None = 50, **fields: Any) -> list[Effect]:
    """Have the current attempt fail."""
    attempt = partition.invocation(ONE).attempt
    command = AttemptFailed(ONE, attempt, 500, "boom", delay_ns, fields.pop("counts", True))
    return partition.apply(msgspec.structs.replace(command, **fields), time_ns=2_000)


def start(partition: Partition) -> None:
    """Have the next attempt start."""
    partition.apply(AttemptStarted(ONE, partition.invocation(ONE).attempt + 1))


@covers("AttemptFailed")
@pytest.mark.parametrize(
    ("delay_ns", "due_ns"),
    [(0, 2_000), (50, 2_050), (-7, 2_000), (1 << 62, 2_000 + DELAY_NS_MAX)],
)
def test_the_next_attempt_is_due_after_the_delay_which_is_bounded(
    delay_ns: int, due_ns: int
) -> None:
    partition = running()
    ended, armed = fail(partition, delay_ns)

    assert ended == EndAttempt(ONE, 1, True, 2)
    assert armed == ArmRetry(ONE, 1, due_ns)
    assert partition.invocation(ONE).retry_at_ns == due_ns
    assert events(partition)[0].retry_at_ns == due_ns


@covers("AttemptFailed")
def test_a_pause_takes_no_attempt_until_somebody_resumes() -> None:
    partition = running()
    fail(partition)
    start(partition)
    assert partition.invocation(ONE).failed_attempts == 1
    (ended,) = fail(partition, None, pause=True)

    assert ended == EndAttempt(ONE, 2, True, 4)
    invocation = partition.invocation(ONE)
    assert (partition.status(ONE), invocation.retry_at_ns) == ("paused", 0)
    assert invocation.failed_attempts == 0
    assert [event.kind for event in events(partition)] == ["failed", "paused"]
    start(partition)
    assert partition.status(ONE) == "paused"
    (started,) = partition.apply(Resume(ONE))
    assert isinstance(started, StartAttempt)
    assert started.invocation.attempt == 3


@covers("AttemptFailed")
def test_a_pause_wins_over_a_delay() -> None:
    partition = running()
    fail(partition, 50, pause=True)

    assert partition.status(ONE) == "paused"
    assert events(partition)[0].retry_at_ns == 0


@covers("AttemptFailed")
def test_an_error_for_good_is_the_result_and_goes_to_whoever_waits() -> None:
    partition = running()
    call = called(2)
    make(partition, ONE, call)
    effects = partition.apply(AttemptFailed(identity(2), 1, 418, "tea", None, True))

    assert effects[0] == EndAttempt(identity(2), 1, True, 3)
    assert result(told(effects, ONE)[0].message) == Failure(418, "tea")
    assert partition.counts() == {"running": 1, "completed": 1}


@covers("AttemptFailed")
def test_failures_of_the_runtimes_own_making_are_not_counted_by_the_policy() -> None:
    partition = running()
    fail(partition, counts=False)
    start(partition)
    fail(partition)

    invocation = partition.invocation(ONE)
    assert (invocation.failed_attempts, invocation.failures_since_entry) == (1, 2)


@covers("AttemptFailed", "AttemptStarted")
def test_a_stored_entry_resets_the_failures_since_then_and_not_those_of_the_policy() -> None:
    partition = running()
    fail(partition)
    start(partition)
    partition.send(ONE, RUN, RUN_DONE, time_ns=77)

    invocation = partition.invocation(ONE)
    assert (invocation.failed_attempts, invocation.failures_since_entry) == (1, 0)
    assert invocation.last_entry_ns == 77
    assert invocation.last_failure == "[500] boom"


@covers("AttemptFailed")
def test_an_event_tells_what_failed_and_where() -> None:
    partition = running()
    partition.send(ONE, RUN)
    fail(
        partition,
        related_index=1,
        related_name="step",
        related_type=messages.RUN_COMMAND,
        stacktrace="Traceback",
    )

    assert events(partition) == [
        Event(
            "failed",
            2_000,
            1,
            2,
            500,
            "boom",
            1,
            "step",
            messages.RUN_COMMAND,
            "Traceback",
            2_050,
            "dp-1",
        )
    ]


@covers("AttemptFailed")
def test_only_the_last_events_are_kept_and_none_once_all_is_forgotten() -> None:
    partition = running()
    for _ in range(EVENTS_KEPT + 10):
        fail(partition)
        start(partition)
    kept = events(partition)

    assert len(kept) == EVENTS_KEPT
    assert [event.attempt for event in kept] == list(range(11, EVENTS_KEPT + 11))
    assert partition.invocation(ONE).events == EVENTS_KEPT + 10


@covers("AttemptChunk")
def test_a_violation_is_a_failure_that_is_tried_again_after_a_fixed_delay() -> None:
    partition = running()
    partition.send(ONE, RUN)
    _, armed = partition.send(ONE, entry("OUTPUT_COMMAND"), (0x0777, b""))

    assert armed == ArmRetry(ONE, 1, 1_000 + VIOLATION_DELAY_NS)
    invocation = partition.invocation(ONE)
    assert (invocation.failed_attempts, invocation.failures_since_entry) == (1, 1)
    assert (invocation.entries, invocation.output) == (2, None)
    (event,) = events(partition)
    assert (event.code, event.related_index, event.related_name) == (571, -1, "")


@covers("AttemptStarted")
@pytest.mark.parametrize("attempt", [0, 1, 3])
def test_only_the_next_attempt_can_start(attempt: int) -> None:
    partition = running()
    fail(partition)

    assert partition.apply(AttemptStarted(ONE, attempt)) == []
    assert partition.status(ONE) == "backing-off"


@covers("Pause", "AttemptFailed")
def test_a_paused_invocation_ignores_what_its_last_attempt_still_says() -> None:
    partition = running()
    partition.apply(Pause(ONE))
    before = partition.invocation(ONE)
    effects = [*fail(partition), *partition.send(ONE, RUN)]

    assert effects == [EndAttempt(ONE, 1, True, 4)]
    assert partition.invocation(ONE) == before


@covers("AttemptFailed")
def test_an_object_stays_locked_while_its_holder_waits_for_the_next_attempt() -> None:
    partition = Partition()
    partition.apply(add(1), add(2))
    holder = identity(1, "k")
    for status, pause in (("backing-off", False), ("paused", True)):
        attempt = partition.invocation(holder).attempt
        partition.apply(AttemptFailed(holder, attempt, 500, "boom", 50, True, pause))
        assert partition.counts() == {status: 1, "pending": 1}
        partition.apply(Resume(holder))
