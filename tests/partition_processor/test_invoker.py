"""Which attempt runs on which worker: the newest code, pins, turns, places, silence and loss."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest

from perdure.core.protocol import messages
from perdure.core.protocol.envelope import SESSION_STREAM, EnvelopeReader, EnvelopeWriter
from perdure.core.protocol.session import (
    HandlerManifest,
    Hello,
    ServiceKind,
    ServiceManifest,
)
from perdure.partition_processor.deployments import Deployment, Schema
from perdure.partition_processor.handling import Handling
from perdure.partition_processor.invoker.attempt import Attempt, WorkerLoss
from perdure.partition_processor.invoker.attempt_frames import AttemptError, Behavior
from perdure.partition_processor.invoker.invoker import SWEPT_MIN, Invoker
from perdure.partition_processor.invoker.session import WorkerSession
from perdure.partition_processor.tables.invocations import STATUS_RUNNING, Invocation

from ..covering import covers
from .frames import entry
from .support import END, OUTPUT_OK, RUN, frames, identity

TICK_NS = 10**9
HANDLING = Handling(
    retry=cast(Any, None),
    pause_when_exhausted=True,
    inactivity_timeout_ns=3 * TICK_NS,
    abort_timeout_ns=5 * TICK_NS,
    plain_retention_ns=0,
    journal_retention_ns=0,
    completion_retention_ns=0,
    lazy_state=False,
    private=False,
)


class Owner:
    """The partition of attempts; remembers what it was asked to propose."""

    listening = True

    def __init__(self) -> None:
        self.segments: list[tuple[int, bytes]] = [(5, frames(OUTPUT_OK))]
        self.chunks: list[tuple[Attempt, str, bytes, bool, bool]] = []
        self.failures: list[tuple[Attempt, AttemptError, WorkerLoss | None]] = []

    def start_segments(self, attempt: Attempt) -> list[tuple[int, bytes]]:
        return self.segments

    def propose_chunk(
        self, attempt: Attempt, deployment: str, sent: bytes, *, ended: bool, calls: bool
    ) -> None:
        self.chunks.append((attempt, deployment, sent, ended, calls))

    def propose_failure(
        self, attempt: Attempt, error: AttemptError, *, lost: WorkerLoss | None
    ) -> None:
        self.failures.append((attempt, error, lost))
        attempt.over = True

    def attempt_refused(self, attempt: Attempt, answer: object) -> None:
        raise AssertionError("nothing was proposed to a log")


class World:
    """An invoker with workers at the other end of fake connections."""

    queued_bytes = 0

    def __init__(self) -> None:
        self.owner = Owner()
        self.changes = 0
        self.ready: deque[Callable[[], None]] = deque()
        self.sent: list[bytes] = []
        self.invoker = Invoker(self._changed, TICK_NS)
        self._numbers = iter(range(1, 1_000_000))

    def _changed(self) -> None:
        self.changes += 1

    # As a loop and as a connection.

    def call_soon(self, call: Callable[[], None]) -> None:
        self.ready.append(call)

    def send(self, message: bytes) -> None:
        self.sent.append(message)

    def worker(
        self, deployment: str = "dp-1", *services: str, places: int = 10, name: str = "w"
    ) -> WorkerSession:
        """A worker connects."""
        manifests = tuple(
            ServiceManifest(service, ServiceKind.SERVICE, (HandlerManifest("h"),))
            for service in services or ("S",)
        )
        session = WorkerSession(
            Hello(deployment, deployment, name, places, 6, manifests),
            cast(Any, self),
            cast(asyncio.AbstractEventLoop, self),
            self.invoker.drain_waiting,
            self.invoker.ticks,
        )
        self.invoker.add(session)
        return session

    def ranks(self, *deployments: str) -> None:
        """The deployments that are known, oldest first."""
        known = tuple(Deployment(name, name, (), 0) for name in deployments)
        self.invoker.set_schema(Schema(known))

    def start(self, service: str = "S", deployment: str | None = None, **changes: Any) -> Attempt:
        """An invocation has an attempt."""
        invocation = Invocation(
            STATUS_RUNNING, service, "h", None, 0, 1, 0, 1, (b"head",), deployment=deployment
        )
        handling = msgspec.structs.replace(HANDLING, **changes)
        number = next(self._numbers)
        attempt = Attempt(cast(Any, self.owner), identity(number), invocation, handling)
        self.invoker.start(attempt)
        return attempt

    def tick(self, count: int = 1) -> None:
        """Let ticks pass, and have the silent ones looked for after each."""
        for _ in range(count):
            self.invoker.ticks.now += 1
            self.invoker.end_silent()

    def told(self) -> list[tuple[int, int]]:
        """What the workers were sent since the last call: (stream, type)."""
        while self.ready:
            self.ready.popleft()()
        sent, self.sent = self.sent, []
        reader = EnvelopeReader()
        return [
            (stream, kind)
            for message in sent
            for stream, _, data in reader.read(message)
            for kind, _, _ in messages.split_frames(data)
        ]


def says(session: WorkerSession, stream: int, *items: tuple[int, bytes]) -> None:
    """The worker sends frames on a stream."""
    writer = EnvelopeWriter()
    writer.add(stream, 0, frames(*items))
    for message in writer.take():
        session.received(message)


ABORT = (messages.ABORT, b"")
SUSPEND = messages.SUSPEND


def test_an_attempt_goes_to_the_worker_with_the_fewest() -> None:
    world = World()
    first, second = world.worker(), world.worker()
    attempts = [world.start() for _ in range(4)]

    assert [attempt.session for attempt in attempts] == [first, second, first, second]
    assert world.told() == [
        (1, messages.OUTPUT_COMMAND),
        (2, messages.OUTPUT_COMMAND),
        (1, messages.OUTPUT_COMMAND),
        (2, messages.OUTPUT_COMMAND),
    ]


def test_what_is_new_runs_on_the_newest_code_and_what_has_begun_on_its_own() -> None:
    world = World()
    world.ranks("dp-1", "dp-2", "dp-3")
    newer, older = world.worker("dp-2"), world.worker("dp-1")
    assert world.start().session is newer
    assert world.start(deployment="dp-1").session is older
    unknown = world.start(deployment="dp-9")
    assert unknown.session is None
    assert world.invoker.waiting_count() == 1

    world.invoker.remove(newer)
    assert world.start().session is older
    world.ranks("dp-2", "dp-1")
    world.invoker.add(newer)
    assert world.start().session is older


def test_what_nobody_can_take_waits_in_its_order_and_forgets_its_input() -> None:
    world = World()
    attempts = [world.start() for _ in range(3)]
    assert all(attempt.invocation.head == () for attempt in attempts)
    assert world.invoker.waiting_of(world.owner) == 3
    assert world.invoker.waiting_of(object()) == 0
    attempts[1].over = True
    assert world.invoker.waiting_count() == 2
    session = world.worker(places=1)
    assert list(session.attempts.values()) == [attempts[0]]
    says(session, attempts[0].stream, OUTPUT_OK, END)

    assert list(session.attempts.values()) == [attempts[2]]
    assert world.invoker.waiting_count() == 0


def test_what_waits_for_another_worker_is_told_from_what_waits_for_a_place() -> None:
    world = World()
    assert world.invoker.unserved() == {}
    world.start()
    world.start().over = True
    assert world.invoker.unserved() == {world.owner: 1}
    session = world.worker(places=1)
    world.start()
    assert world.invoker.waiting_count() == 1
    assert world.invoker.unserved() == {}
    for _ in range(2):
        world.start("Other")
    world.start(deployment="dp-9")
    assert world.invoker.unserved() == {world.owner: 3}
    world.invoker.remove(session)
    assert world.invoker.unserved() == {world.owner: 4}


def test_what_has_begun_takes_turns_with_what_is_new() -> None:
    world = World()
    session = world.worker(places=1)
    world.start()
    new = [world.start() for _ in range(4)]
    begun = [world.start(deployment="dp-1") for _ in range(2)]
    other = world.start(deployment="dp-9")
    order: list[Attempt] = []
    for _ in range(6):
        (running,) = session.attempts.values()
        says(session, running.stream, OUTPUT_OK, END)
        order += session.attempts.values()

    assert order == [new[0], begun[0], new[1], begun[1], new[2], new[3]]
    assert other.session is None
    assert world.invoker.waiting_count() == 1


def test_a_long_queue_is_rid_of_what_is_over() -> None:
    world = World()
    for _ in range(3 * SWEPT_MIN):
        world.start().over = True

    assert len(world.invoker._waiting[(None, "S")]) <= SWEPT_MIN + 1


def test_a_worker_that_drains_takes_nothing_and_may_answer() -> None:
    world = World()
    session = world.worker()
    running = world.start()
    says(session, SESSION_STREAM, (messages.DRAIN, b""))
    world.invoker.drain(session)
    assert session.draining
    assert world.start().session is None
    assert (world.invoker.sessions, world.invoker.draining) == ([], [session])
    says(session, running.stream, OUTPUT_OK, END)
    assert len(world.owner.chunks) == 1
    world.invoker.remove(session)

    assert world.invoker.draining == []


@covers("SUSPEND")
def test_where_work_waits_one_that_is_blocked_is_asked_to_suspend() -> None:
    world = World()
    session = world.worker(places=2)
    stepping, blocked = world.start(), world.start()
    says(session, stepping.stream, RUN)
    world.told()
    world.start()
    assert world.told() == [(blocked.stream, SUSPEND)]
    world.start()
    assert world.told() == []

    session.notify(stepping, 7, frames(entry("RUN_COMPLETION", completion_id=1, value={})))
    world.start()
    assert world.told() == [
        (stepping.stream, messages.RUN_COMPLETION),
        (stepping.stream, SUSPEND),
    ]


@covers("SUSPEND")
def test_a_handler_without_patience_is_asked_to_suspend_from_the_start() -> None:
    world = World()
    world.worker()
    attempt = world.start(inactivity_timeout_ns=0)

    assert world.told() == [(attempt.stream, messages.OUTPUT_COMMAND), (attempt.stream, SUSPEND)]


@covers("SUSPEND")
def test_silence_suspends_then_gives_up_and_words_either_way_put_that_off() -> None:
    world = World()
    session = world.worker()
    attempt = world.start()
    world.told()
    world.tick(3)
    session.notify(attempt, 7, frames(entry("SIGNAL", signal_index=17, void={})))
    world.tick(3)
    assert world.told() == [(attempt.stream, messages.SIGNAL)]
    world.tick()
    assert world.told() == [(attempt.stream, SUSPEND)]

    world.tick(3)
    says(session, attempt.stream, RUN)
    world.tick(5)
    assert world.owner.failures == []
    world.tick()
    ((failed, error, lost),) = world.owner.failures
    assert (failed, error.code, lost) == (attempt, 408, None)
    assert "abort timeout" in error.message
    world.tick(20)
    assert len(world.owner.failures) == 1


def test_who_cannot_be_answered_is_not_taken_for_silent() -> None:
    world = World()
    world.worker()
    attempt = world.start()
    world.told()
    world.owner.listening = False
    world.tick(20)
    assert world.told() == []
    world.owner.listening = True
    world.tick(3)
    assert world.told() == []
    world.tick()
    assert world.told() == [(attempt.stream, SUSPEND)]


def test_what_a_worker_answers_goes_to_the_owner_of_the_attempt() -> None:
    world = World()
    session = world.worker(places=1)
    attempt = world.start()
    says(session, attempt.stream, RUN)
    says(session, 99, OUTPUT_OK, END)
    assert world.owner.chunks == [(attempt, "dp-1", frames(RUN), False, False)]
    assert not session.has_room()
    says(session, attempt.stream, OUTPUT_OK, entry("ERROR", code=418, message="tea"))

    assert world.owner.chunks[1:] == [(attempt, "dp-1", frames(OUTPUT_OK), False, False)]
    ((_, error, lost),) = world.owner.failures
    assert (error.code, error.message, lost) == (418, "tea", None)
    assert session.has_room()


@covers("ABORT")
def test_an_attempt_that_is_stopped_keeps_its_place_until_the_worker_says_so() -> None:
    world = World()
    session = world.worker(places=1)
    attempt = world.start()
    world.told()
    attempt.over = True
    world.invoker.ask_to_stop(attempt)
    assert world.told() == [(attempt.stream, messages.ABORT)]
    waiting = world.start()
    assert waiting.session is None
    says(session, attempt.stream, ABORT)

    assert waiting.session is session
    assert world.owner.failures == []
    says(session, waiting.stream, ABORT)
    ((given_back, error, lost),) = world.owner.failures
    assert (given_back, error.code, lost) == (waiting, 503, WorkerLoss.WITH_OTHERS)


@covers("SUPERSEDED")
def test_a_superseded_attempt_is_told_and_frees_its_place_at_once() -> None:
    world = World()
    session = world.worker(places=1)
    attempt = world.start()
    world.told()
    waiting = world.start()
    world.invoker.supersede(attempt)

    assert waiting.session is session
    assert (attempt.stream, messages.SUPERSEDED) in world.told()


@pytest.mark.parametrize(("count", "lost"), [(1, WorkerLoss.ALONE), (3, WorkerLoss.WITH_OTHERS)])
def test_the_attempts_of_a_lost_worker_fail_all(count: int, lost: WorkerLoss) -> None:
    world = World()
    session = world.worker()
    attempts = [world.start() for _ in range(count)]
    over = world.start()
    over.over = True
    session.lost(None)

    assert [(attempt, how) for attempt, _, how in world.owner.failures] == [
        (attempt, lost) for attempt in attempts
    ]
    assert {error.code for _, error, _ in world.owner.failures} == {503}
    assert not session.has_room()
    session.notify(attempts[0], 1, frames(OUTPUT_OK))
    world.ready.clear()


def test_an_attempt_too_large_for_a_message_ends_its_invocation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "perdure.partition_processor.invoker.session.REASSEMBLED_BYTES_MAX",
        len(frames(OUTPUT_OK)) - 1,
    )
    world = World()
    session = world.worker()
    world.start()
    ((_, error, _),) = world.owner.failures
    assert (error.code, error.behavior) == (413, Behavior.FAIL)
    assert session.attempts == {}

    world.owner.segments = []
    over = world.start()
    assert (over.session, session.attempts) == (None, {})


def test_a_worker_that_does_not_keep_up_gets_no_more() -> None:
    world = World()
    session = world.worker()
    assert session.has_room()
    world.queued_bytes = WorkerSession.QUEUED_BYTES_MAX

    assert not session.has_room()
