"""The attempts of a partition between invoker and log: what is proposed, told, and given up."""

from typing import Any, cast

import pytest

from perdure.core.clock import ManualClock
from perdure.core.protocol.session import HandlerManifest, ServiceKind, ServiceManifest
from perdure.core.random import SeededRandom
from perdure.log.answers import Conflict, Sealed, StaleSnapshot
from perdure.log.errors import LogClosedError, RecordTooLargeError
from perdure.partition_processor.attempt_keeper import AttemptKeeper
from perdure.partition_processor.call_resolver import CallResolver
from perdure.partition_processor.deployments import Deployment, Schema, Targets
from perdure.partition_processor.effects import EndAttempt, Notify, StartAttempt
from perdure.partition_processor.invoker.attempt import Attempt, WorkerLoss
from perdure.partition_processor.invoker.attempt_frames import AttemptError, Behavior
from perdure.partition_processor.minting import Minter
from perdure.partition_processor.records import (
    AttemptChunk,
    AttemptFailed,
    AttemptStarted,
    Resume,
    attempt_key,
    object_key,
)

from ..covering import covers
from .calls import called
from .support import END, OUTPUT_OK, RUN, Partition, add, frames, greet, identity

ONE = identity(1)
BOOM = AttemptError(500, "boom")


class Session:
    """A worker session that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, bytes]] = []

    def notify(self, _attempt: Attempt, record_time_ns: int, sent: bytes) -> None:
        self.told.append((record_time_ns, sent))


class World:
    """A keeper with a partition's rows, an invoker, a leader and timers that only remember."""

    leading = True
    flowing = True
    epoch = 7

    def __init__(self, *commands: Any) -> None:
        self.partition = Partition()
        manifest = ServiceManifest("Greeter", ServiceKind.SERVICE, (HandlerManifest("greet"),))
        self.targets = Targets(Schema((Deployment("dp-1", "hash", (manifest,), 0),)))
        self.proposed: list[tuple[Any, tuple[bytes, ...], Attempt]] = []
        self.refuse: Exception | None = None
        self.started: list[Attempt] = []
        self.stopped: list[Attempt] = []
        self.superseded: list[Attempt] = []
        self.retries: list[tuple[int, int, object, int]] = []
        clock, random = ManualClock(), SeededRandom(1)
        self.keeper = AttemptKeeper(
            self,
            partition=0,
            transaction=self.partition.transaction,
            invoker=cast(Any, self),
            resolver=CallResolver(lambda: self.targets, Minter(clock, random)),
            timers=cast(Any, self),
            now_ns=clock.time_ns,
            random=random,
        )
        self.apply(*commands)

    # As the leader, the invoker and the timers.

    def propose_guarded(
        self, kind: int, command: Any, touched: tuple[bytes, ...], attempt: Attempt
    ) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.proposed.append((command, touched, attempt))

    def start(self, attempt: Attempt) -> None:
        self.started.append(attempt)
        attempt.session = cast(Any, Session())
        attempt.entries = attempt.invocation.entries

    def ask_to_stop(self, attempt: Attempt) -> None:
        self.stopped.append(attempt)

    def supersede(self, attempt: Attempt) -> None:
        self.superseded.append(attempt)

    def add(self, due_ns: int, record_ns: int, invocation_id: object, attempt: int) -> None:
        self.retries.append((due_ns, record_ns, invocation_id, attempt))

    def apply(self, *commands: Any) -> None:
        """Apply a record of each and carry out its effects."""
        for command in commands:
            for item in self.partition.apply(command):
                if isinstance(item, StartAttempt):
                    self.keeper.start(item)
                elif isinstance(item, Notify):
                    self.keeper.notify(item)
                elif isinstance(item, EndAttempt):
                    self.keeper.end(item)

    @property
    def attempt(self) -> Attempt:
        """The last one that was started."""
        return self.started[-1]

    def chunk(self, sent: bytes, *, ended: bool = False, calls: bool = False) -> None:
        """The attempt's worker sends frames."""
        self.keeper.propose_chunk(self.attempt, "dp-1", sent, ended=ended, calls=calls)

    def told(self) -> list[tuple[int, bytes]]:
        """What the last attempt's session was told."""
        return cast(Session, self.attempt.session).told


@covers("AttemptChunk")
def test_only_frames_that_end_the_attempt_carry_its_key() -> None:
    world = World(greet(1))
    world.chunk(frames(RUN))
    world.chunk(frames(OUTPUT_OK, END), ended=True)
    (first, touched, guard), (last, touched_last, _) = world.proposed

    assert isinstance(first, AttemptChunk)
    assert (first.invocation_id, first.attempt, first.frames) == (ONE, 1, frames(RUN))
    assert (touched, touched_last) == ((), (attempt_key(ONE),))
    assert guard is world.attempt
    assert last.frames == frames(OUTPUT_OK, END)


@covers("AttemptChunk")
def test_the_records_of_an_objects_attempt_name_the_object() -> None:
    world = World(add(1))
    world.chunk(frames(RUN))
    world.chunk(frames(OUTPUT_OK, END), ended=True)
    named = object_key("Counter", "k")

    assert [touched for _, touched, _ in world.proposed] == [
        (named,),
        (attempt_key(identity(1, "k")), named),
    ]


@covers("CALL_COMMAND")
def test_calls_go_with_their_targets_and_an_unknown_one_fails_the_attempt_behind_the_others() -> (
    None
):
    world = World(greet(1))
    good, bad = called(2), called(3, service="Nobody", ids=(3, 4))
    world.chunk(frames(good.item), calls=True)
    ((command, _, _),) = world.proposed
    assert len(command.calls) == 1

    world = World(greet(1))
    world.chunk(frames(good.item, bad.item, OUTPUT_OK, END), ended=True, calls=True)
    (stored, touched, _), (failed, failed_touched, _) = world.proposed
    assert (stored.frames, len(stored.calls), touched) == (frames(good.item), 1, ())
    assert isinstance(failed, AttemptFailed)
    assert (failed.code, failed_touched) == (404, (attempt_key(ONE),))
    assert failed.delay_ns is not None

    world = World(greet(1))
    world.chunk(frames(bad.item), calls=True)
    assert [type(command) for command, _, _ in world.proposed] == [AttemptFailed]


@covers("AttemptFailed")
def test_a_record_that_is_too_large_ends_the_invocation() -> None:
    world = World(greet(1))

    def refuse_once(kind: int, command: Any, touched: Any, attempt: Any) -> None:
        del world.propose_guarded  # type: ignore[attr-defined]
        raise RecordTooLargeError("too large")

    world.propose_guarded = refuse_once  # type: ignore[method-assign]
    world.chunk(frames(RUN))
    ((failed, _, _),) = world.proposed

    assert isinstance(failed, AttemptFailed)
    assert (failed.code, failed.delay_ns, failed.pause) == (413, None, False)


@covers("AttemptFailed", "ERROR")
def test_an_attempt_fails_once_with_all_that_its_error_says() -> None:
    world = World(greet(1))
    error = AttemptError(418, "tea", 7, Behavior.RETRY, 3, "step", 1041, "Traceback")
    world.keeper.propose_failure(world.attempt, error, lost=None)
    world.keeper.propose_failure(world.attempt, BOOM, lost=None)
    ((failed, touched, _),) = world.proposed

    expected = AttemptFailed(
        ONE,
        1,
        418,
        "tea",
        7,
        False,
        False,
        3,
        "step",
        1041,
        "Traceback",
        world.attempt.invocation.born_lsn,
    )
    assert failed == expected
    assert touched == (attempt_key(ONE),)
    assert world.attempt.over


def test_a_node_that_does_not_lead_proposes_nothing() -> None:
    world = World(greet(1))
    world.leading = False
    world.chunk(frames(RUN))
    world.keeper.propose_failure(world.attempt, BOOM, lost=WorkerLoss.ALONE)
    world.apply(AttemptFailed(ONE, 1, 500, "boom", 50, True))
    world.keeper.retry_due(ONE, 1)

    assert world.proposed == []


def test_a_log_that_takes_nothing_any_more_is_no_error_here() -> None:
    world = World(greet(1))
    world.refuse = LogClosedError("closed")
    world.chunk(frames(RUN))
    world.keeper.propose_failure(world.attempt, BOOM, lost=None)

    assert world.attempt.over


@covers("AttemptStarted")
def test_a_retry_that_is_due_starts_the_next_attempt_and_one_without_reason_nothing() -> None:
    world = World(greet(1), AttemptFailed(ONE, 1, 500, "boom", 50, True))
    for invocation_id, attempt in ((ONE, 0), (ONE, 2), (identity(9), 1)):
        world.keeper.retry_due(invocation_id, attempt)
    assert world.proposed == []
    world.keeper.retry_due(ONE, 1)
    ((started, touched, guard),) = world.proposed
    assert (started, touched) == (AttemptStarted(ONE, 2), (attempt_key(ONE),))
    assert guard.attempt == 2

    world.apply(started)
    world.keeper.retry_due(ONE, 1)
    assert len(world.proposed) == 1


def test_a_notification_is_sent_unless_the_attempt_was_opened_with_it() -> None:
    world = World(greet(1))
    at = world.attempt.entries
    for entries, sent in ((at, b"old"), (at + 1, b"new"), (at + 1, b"again"), (at + 3, b"more")):
        world.keeper.notify(Notify(ONE, 1, 5, sent, entries))
    world.keeper.notify(Notify(ONE, 2, 5, b"of another attempt", at + 9))
    world.keeper.notify(Notify(identity(9), 1, 5, b"of nobody", at + 9))
    assert world.told() == [(5, b"new"), (5, b"more")]

    world.attempt.session = None
    world.keeper.notify(Notify(ONE, 1, 5, b"while it waits for a worker", at + 20))
    assert world.attempt.entries == at + 3


def test_the_end_of_an_attempt_stops_its_worker_only_where_that_cannot_know() -> None:
    for abort in (False, True):
        world = World(greet(1))
        attempt = world.attempt
        world.keeper.end(EndAttempt(ONE, 2, True, 9))
        assert (attempt.over, world.keeper.attempts) == (False, {ONE: attempt})
        world.keeper.end(EndAttempt(ONE, 1, abort, 9))
        assert (attempt.over, world.keeper.attempts) == (True, {})
        assert world.stopped == ([attempt] if abort else [])


def test_a_guard_names_what_is_applied_until_the_attempt_is_taken_away() -> None:
    world = World(greet(1))
    attempt = world.attempt
    assert attempt.condition(41).lsn == 41
    attempt.freeze(50)
    attempt.freeze(60)

    assert (attempt.condition(70).lsn, attempt.condition(70).key) == (49, attempt_key(ONE))


def test_what_the_log_refuses_for_a_later_attempt_is_superseded() -> None:
    world = World(greet(1))
    attempt = world.attempt
    attempt.refused(Sealed(0))
    assert (world.superseded, world.keeper.superseded) == ([], 0)
    attempt.refused(Conflict(attempt_key(ONE), 9))
    assert (world.superseded, world.keeper.superseded) == ([attempt], 1)
    world.keeper.end(EndAttempt(ONE, 1, True, 9))
    attempt.refused(StaleSnapshot(12))
    assert world.keeper.superseded == 2
    world.keeper.restart_refused()
    assert world.proposed == []


def test_a_start_that_the_log_refuses_is_decided_anew() -> None:
    world = World(greet(1), AttemptFailed(ONE, 1, 500, "boom", 50, True))
    world.keeper.retry_due(ONE, 1)
    ((_, _, guard),) = world.proposed
    guard.refused(Conflict(attempt_key(ONE), 9))

    assert world.retries == [(0, 0, ONE, 1)]
    assert world.superseded == []


@covers("Resume")
def test_an_attempt_that_was_refused_for_a_resume_in_vain_begins_anew() -> None:
    world = World(greet(1), Resume(ONE))
    attempt = world.attempt
    attempt.refused(Conflict(attempt_key(ONE), 2))
    world.keeper.restart_refused()
    ((failed, _, _),) = world.proposed
    assert isinstance(failed, AttemptFailed)
    assert (failed.delay_ns, failed.counts) == (0, False)
    world.keeper.restart_refused()
    assert len(world.proposed) == 1


def test_a_partition_that_stops_gives_all_attempts_up() -> None:
    world = World(greet(1), greet(2))
    world.keeper.give_up_all()

    assert world.keeper.attempts == {}
    assert [attempt.over for attempt in world.started] == [True, True]
    assert world.stopped == world.started


@pytest.mark.parametrize("flowing", [True, False])
def test_whether_workers_can_be_answered_is_what_the_leader_says(flowing: bool) -> None:
    world = World(greet(1))
    world.flowing = flowing

    assert world.keeper.listening is flowing
