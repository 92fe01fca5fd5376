"""Which attempt runs on which worker."""

from collections import Counter, deque
from collections.abc import Callable
from typing import Final

import msgspec

from ..deployments import Schema
from .attempt import Attempt
from .attempt_frames import AttemptError
from .session import WorkerSession
from .ticks import Ticks

ATTEMPT_TIMEOUT: Final = 408
"""Failure code of attempts whose worker was silent for too long."""

SWEPT_MIN: Final = 1_024
"""A queue of so many, or twice as many as last time, is rid of what waits for nothing any more."""


class Invoker:
    """Gives attempts to worker sessions; those that nobody can take wait in order of arrival, and
    those that need different code take turns.

    An invocation that has stored an entry is pinned to its deployment. Any other runs on the newest
    deployment that is connected and offers the service, so that a rollback, which brings an older
    deployment back and takes the newer one away, needs no word to the server.
    """

    def __init__(self, on_workers: Callable[[], None], tick_ns: int) -> None:
        """Start without workers.

        Args:
            on_workers: called when they come and go.
            tick_ns: how often `silence.SilenceWatch` moves the ticks on.
        """
        self._on_workers = on_workers
        self.sessions: list[WorkerSession] = []
        # They finish what they have and take nothing new.
        self._draining: list[WorkerSession] = []
        self._ranks: dict[str, int] = {}
        self._routes: dict[str, list[WorkerSession]] = {}
        self._pinned_routes: dict[str, list[WorkerSession]] = {}
        self.ticks = Ticks(tick_ns)
        self._waiting: dict[tuple[str | None, str], deque[Attempt]] = {}
        self._sweep_at: dict[tuple[str | None, str], int] = {}

    # Attempts ------------------------------------------------------------------------------------

    def start(self, attempt: Attempt) -> None:
        """Open the attempt on a worker now, or as soon as one can take it."""
        session = self._choose(attempt)
        if session is None:
            # Input and output stay in the store while nobody can take them: a long queue is short
            # in memory.
            attempt.invocation = msgspec.structs.replace(attempt.invocation, head=(), output=None)
            self._wait(attempt)
            self._make_room(attempt)
        else:
            session.open(attempt)

    def _wait(self, attempt: Attempt) -> None:
        key = self._queue_of(attempt)
        queue = self._waiting.setdefault(key, deque())
        queue.append(attempt)
        if len(queue) > self._sweep_at.get(key, SWEPT_MIN):
            # Those that were killed or paused meanwhile would stay until a worker comes.
            waiting = [item for item in queue if not item.over]
            queue.clear()
            queue.extend(waiting)
            self._sweep_at[key] = max(SWEPT_MIN, 2 * len(queue))

    def _make_room(self, attempt: Attempt) -> None:
        """Have an attempt that is blocked suspended where work waits.

        Attempts that wait for others must not keep these from running: with all of a worker's
        places taken by callers, their calls would never begin.
        """
        for session in self._candidates(attempt):
            blocked = session.some_blocked()
            if blocked is not None:
                session.ask_to_suspend(blocked)
                return

    def _candidates(self, attempt: Attempt) -> list[WorkerSession]:
        deployment = attempt.invocation.deployment
        if deployment is None:
            return self._routes.get(attempt.invocation.service, [])
        return self._pinned_routes.get(deployment, [])

    def ask_to_stop(self, attempt: Attempt) -> None:
        """The attempt is over and its worker may not know."""
        if attempt.session is not None:
            attempt.session.ask_to_stop(attempt)

    def supersede(self, attempt: Attempt) -> None:
        """The log has refused what the attempt wrote."""
        if attempt.session is not None:
            attempt.session.supersede(attempt)

    def waiting_count(self) -> int:
        """Attempts that no connected worker can take now."""
        return sum(1 for queue in self._waiting.values() for attempt in queue if not attempt.over)

    def waiting_of(self, owner: object) -> int:
        """Those of `waiting_count` that belong to one partition."""
        return sum(
            1
            for queue in self._waiting.values()
            for attempt in queue
            if attempt.owner is owner and not attempt.over
        )

    def unserved(self) -> Counter[object]:
        """Those of `waiting_count` that wait for another worker to come, by their owner.

        No worker that is connected has their service, or the deployment that they have begun on.
        """
        found: Counter[object] = Counter()
        for queue in self._waiting.values():
            if queue and not self._candidates(queue[0]):
                found.update(attempt.owner for attempt in queue if not attempt.over)
        return found

    @staticmethod
    def _queue_of(attempt: Attempt) -> tuple[str | None, str]:
        return (attempt.invocation.deployment, attempt.invocation.service)

    def _choose(self, attempt: Attempt) -> WorkerSession | None:
        best: WorkerSession | None = None
        for session in self._candidates(attempt):
            if session.has_room() and (best is None or len(session.attempts) < len(best.attempts)):
                best = session
        return best

    def end_silent(self) -> None:
        """Have attempts that have been quiet suspend; give up those that do not, in their time."""
        now = self.ticks.now
        # Where nothing arrives and nothing leaves, this is what keeps callers from holding places.
        self.drain_waiting()
        for session in (*self.sessions, *self._draining):
            for attempt in tuple(session.attempts.values()):
                if attempt.over:
                    continue
                if not attempt.owner.listening:
                    # The worker may be waiting for an answer that cannot come.
                    attempt.heard = now
                elif attempt.suspending < 0:
                    if self.ticks.have_passed(
                        attempt.heard, attempt.handling.inactivity_timeout_ns
                    ):
                        session.ask_to_suspend(attempt)
                elif self.ticks.have_passed(
                    max(attempt.heard, attempt.suspending), attempt.handling.abort_timeout_ns
                ):
                    error = AttemptError(
                        ATTEMPT_TIMEOUT,
                        f"worker {session.worker} was asked to suspend this attempt and has sent "
                        "nothing within the abort timeout: split long steps, or raise it "
                        "(abort_timeout of handler or service, retry.abort_timeout of the node)",
                    )
                    attempt.owner.propose_failure(attempt, error, lost=None)

    # Sessions ------------------------------------------------------------------------------------

    def set_schema(self, schema: Schema) -> None:
        """Learn the order of deployments."""
        self._ranks = {item.name: rank for rank, item in enumerate(schema.deployments)}
        self._route()

    def add(self, session: WorkerSession) -> None:
        """A worker has connected."""
        self.sessions.append(session)
        self._route()
        self._on_workers()
        self.drain_waiting()

    def drain(self, session: WorkerSession) -> None:
        """A worker takes no more attempts; those that it has go on."""
        if session in self.sessions:
            self.remove(session)
            self._draining.append(session)

    @property
    def draining(self) -> list[WorkerSession]:
        """The workers that finish what they have and take nothing new."""
        return self._draining

    def remove(self, session: WorkerSession) -> None:
        """A worker is gone."""
        if session in self._draining:
            self._draining.remove(session)
        if session in self.sessions:
            self.sessions.remove(session)
            self._route()
            self._on_workers()

    def _route(self) -> None:
        routes: dict[str, list[WorkerSession]] = {}
        pinned: dict[str, list[WorkerSession]] = {}
        for session in self.sessions:
            pinned.setdefault(session.deployment, []).append(session)
            for service in session.services:
                routes.setdefault(service, []).append(session)
        for service, sessions in routes.items():
            newest = max(self._ranks.get(session.deployment, -1) for session in sessions)
            routes[service] = [
                session for session in sessions if self._ranks.get(session.deployment, -1) == newest
            ]
        self._routes = routes
        self._pinned_routes = pinned

    def drain_waiting(self) -> None:
        """Give waiting attempts to workers that have room."""
        waiting = self._waiting
        if not waiting:
            return
        turns = deque(waiting)
        while turns:
            key = turns.popleft()
            queue = waiting[key]
            if self._open_first(queue):
                # The other queues come before its next one, now and where room is made later: new
                # invocations without end must not keep those waiting that had begun.
                waiting[key] = waiting.pop(key)
                turns.append(key)
            elif not queue:
                del waiting[key]
                self._sweep_at.pop(key, None)

    def _open_first(self, queue: deque[Attempt]) -> bool:
        """Open the first attempt of a queue; False when there is none or no worker has room."""
        while queue:
            attempt = queue[0]
            if attempt.over:
                queue.popleft()
                continue
            session = self._choose(attempt)
            if session is None:
                self._make_room(attempt)
                return False
            session.open(attempt)
            queue.popleft()
            return True
        return False
