"""A partition's attempts: from the invoker into the log, guarded, and back as effects of apply."""

from collections.abc import Callable
from typing import Final, Protocol

import structlog

from ..core.ids import InvocationId, invocation_id_text
from ..core.random import Random
from ..log.answers import Answer, Conflict, StaleSnapshot
from ..log.errors import LogClosedError, NotSequencerError, RecordTooLargeError
from ..log.types import RECORD_BYTES_MAX
from . import effects as effect
from .call_resolver import CallResolver
from .deployments import Targets
from .invoker.attempt import Attempt, WorkerLoss
from .invoker.attempt_frames import AttemptError, Behavior
from .invoker.invoker import Invoker
from .invoker.session import WORKER_LOST
from .invoker.start_segments import start_segments
from .next_attempt import next_attempt
from .records import (
    ATTEMPT_CHUNK,
    ATTEMPT_FAILED,
    ATTEMPT_STARTED,
    AttemptChunk,
    AttemptFailed,
    AttemptStarted,
    CallTarget,
    Command,
    object_key,
)
from .tables.invocations import STATUS_BACKING_OFF
from .timers import Timers
from .transaction import Transaction

_log = structlog.get_logger("partition")

CHUNK_BYTES_MAX: Final = RECORD_BYTES_MAX - 64 * 1024
"""What a chunk asks of another partition goes there in a record of its own, which is longer."""


class Leader(Protocol):
    """What the attempts need of their partition."""

    @property
    def leading(self) -> bool:
        """Whether this node leads the partition now."""
        ...

    @property
    def flowing(self) -> bool:
        """Whether what is proposed gets into the log now."""
        ...

    @property
    def epoch(self) -> int:
        """The leader's."""
        ...

    @property
    def targets(self) -> Targets:
        """What can be called now."""
        ...

    def propose_guarded(
        self, kind: int, command: Command, keys: tuple[bytes, ...], attempt: Attempt
    ) -> None:
        """Propose a record that rests on the attempt being current.

        Raises LogClosedError, NotSequencerError or RecordTooLargeError.
        """
        ...


class AttemptKeeper:
    """The attempts of one partition that are open or wait for a worker; it owns them.

    Attributes:
        attempts: by invocation.
        superseded: records of attempts that the log refused.
        timers: wait for the next attempts; each reign of the partition's leader has its own.
    """

    def __init__(
        self,
        leader: Leader,
        *,
        partition: int,
        transaction: Transaction,
        invoker: Invoker,
        resolver: CallResolver,
        timers: Timers,
        now_ns: Callable[[], int],
        random: Random,
    ) -> None:
        """Start without attempts.

        Args:
            now_ns: the time by which the partition counts sleeps.
        """
        self.attempts: dict[InvocationId, Attempt] = {}
        self.superseded = 0
        self._refused: list[Attempt] = []
        self._leader = leader
        self._partition = partition
        self._transaction = transaction
        self._invoker = invoker
        self._resolver = resolver
        self.timers = timers
        self._now_ns = now_ns
        self._random = random

    # Effects -------------------------------------------------------------------------------------

    def start(self, item: effect.StartAttempt) -> None:
        """An invocation has an attempt: have it run."""
        assert item.invocation_id not in self.attempts, "two attempts of one invocation at once"
        invocation = item.invocation
        handling = self._leader.targets.handling(invocation.service, invocation.handler)
        attempt = Attempt(self, item.invocation_id, invocation, handling)
        self.attempts[item.invocation_id] = attempt
        self._invoker.start(attempt)

    def notify(self, item: effect.Notify) -> None:
        """Send notifications to the attempt, unless it was opened with them."""
        attempt = self.attempts.get(item.invocation_id)
        if attempt is None or attempt.attempt != item.attempt or attempt.session is None:
            return
        if item.entries > attempt.entries:
            attempt.entries = item.entries
            attempt.session.notify(attempt, item.record_time_ns, item.frames)

    def end(self, item: effect.EndAttempt) -> None:
        """The attempt is over."""
        attempt = self.attempts.get(item.invocation_id)
        if attempt is not None and attempt.attempt == item.attempt:
            del self.attempts[item.invocation_id]
            attempt.freeze(item.lsn)
            if item.abort:
                self._invoker.ask_to_stop(attempt)

    def give_up_all(self, applied_lsn: int | None = None) -> None:
        """Nothing that attempts send counts any more: their workers have others to run.

        With `applied_lsn` the partition may lead here again, and then runs the same attempts anew:
        what these ones know ends there, so that the next announcement is in the way of whatever
        their workers still send.
        """
        attempts, self.attempts = self.attempts, {}
        self._refused.clear()
        for attempt in attempts.values():
            attempt.over = True
            if applied_lsn is not None:
                attempt.freeze(applied_lsn + 1)
            self._invoker.ask_to_stop(attempt)

    # As the owner of attempts, for the invoker ---------------------------------------------------

    @property
    def listening(self) -> bool:
        """Whether what workers send gets into the log now, so that they can be answered."""
        return self._leader.flowing

    def start_segments(self, attempt: Attempt) -> list[tuple[int, bytes]]:
        """What opens the attempt on a worker: (record time in ns, frames), in order."""
        return start_segments(
            self._transaction,
            attempt,
            self._leader.epoch,
            self._now_ns(),
            lazy_state=attempt.handling.lazy_state,
        )

    def propose_chunk(
        self, attempt: Attempt, deployment: str, frames: bytes, *, ended: bool, calls: bool
    ) -> None:
        """The worker sent frames; they count once they are in the log.

        Whether the attempt is current is not looked at here: the log refuses what is not.
        """
        if not self._leader.leading:
            return
        problem = None
        targets: tuple[CallTarget, ...] = ()
        if calls:
            resolution = self._resolver.resolve(frames, attempt.invocation_id)
            targets, problem = resolution.calls, resolution.problem
            if problem is not None:
                frames, ended = frames[: resolution.end], False
        command = AttemptChunk(
            attempt.invocation_id,
            attempt.attempt,
            deployment,
            frames,
            targets,
            attempt.invocation.born_lsn,
        )
        try:
            if len(frames) > CHUNK_BYTES_MAX:
                raise RecordTooLargeError(
                    f"{len(frames)} bytes of one message are over the limit of {CHUNK_BYTES_MAX}"
                )
            if frames:
                self._try_propose(ATTEMPT_CHUNK, command, attempt, gives_attempt=ended)
        except RecordTooLargeError as error:
            too_large = AttemptError(413, error.message, behavior=Behavior.FAIL)
            self.propose_failure(attempt, too_large, lost=None)
        if problem is not None:
            unresolved = AttemptError(problem.code, problem.message)
            self.propose_failure(attempt, unresolved, lost=None)

    def propose_failure(
        self, attempt: Attempt, error: AttemptError, *, lost: WorkerLoss | None
    ) -> None:
        """The attempt ended without an answer: have the next one follow by the policy."""
        if attempt.over or not self._leader.leading:
            return
        attempt.over = True
        following = next_attempt(attempt.invocation, error, lost, attempt.handling, self._random)
        command = AttemptFailed(
            attempt.invocation_id,
            attempt.attempt,
            error.code,
            error.message,
            following.delay_ns,
            following.counts,
            following.pause,
            error.related_index,
            error.related_name,
            error.related_type,
            error.stacktrace,
            attempt.invocation.born_lsn,
        )
        delay_ns = following.delay_ns
        _log.info(
            "attempt failed",
            invocation=invocation_id_text(attempt.invocation_id),
            attempt=attempt.attempt,
            error_code=error.code,
            error=error.message,
            retry_in_ms=None if delay_ns is None else delay_ns // 1_000_000,
            paused=following.pause,
        )
        self._try_propose(ATTEMPT_FAILED, command, attempt, gives_attempt=True)

    def retry_due(self, invocation_id: InvocationId, failed_attempt: int) -> None:
        """The wait after a failed attempt is over."""
        invocation = self._transaction.invocation(invocation_id)
        if (
            not self._leader.leading
            or invocation is None
            or invocation.status != STATUS_BACKING_OFF
            or invocation.attempt != failed_attempt
        ):
            return
        handling = self._leader.targets.handling(invocation.service, invocation.handler)
        attempt = Attempt(self, invocation_id, invocation, handling)
        attempt.attempt = failed_attempt + 1
        started = AttemptStarted(invocation_id, attempt.attempt)
        self._try_propose(ATTEMPT_STARTED, started, attempt, gives_attempt=True)

    def attempt_refused(self, attempt: Attempt, answer: Answer) -> None:
        """The log has refused what was proposed for an attempt: a later one has replaced it."""
        if not isinstance(answer, Conflict | StaleSnapshot):
            return  # The log was closed over it: the node stops, or another one leads.
        assert attempt.over or isinstance(answer, Conflict), (
            "the leader has applied everything committed, so its snapshot cannot be stale"
        )
        if attempt.attempt > attempt.invocation.attempt:
            # It was to start, while a record of the one before was on its way: decide anew.
            self.timers.add(0, 0, attempt.invocation_id, attempt.invocation.attempt)
            return
        self.superseded += 1
        _log.info(
            "attempt superseded",
            invocation=invocation_id_text(attempt.invocation_id),
            attempt=attempt.attempt,
            partition=self._partition,
        )
        self._invoker.supersede(attempt)
        if not attempt.frozen:
            self._refused.append(attempt)

    def restart_refused(self) -> None:
        """Have attempts begin anew that were refused, and are current all the same.

        Called once the effects of what caused the refusal were carried out. A record may carry the
        attempt key and yet take no attempt away, such as a Resume of what was woken just before it.
        """
        refused, self._refused = self._refused, []
        for attempt in refused:
            if self.attempts.get(attempt.invocation_id) is attempt:
                attempt.over = False
                error = AttemptError(WORKER_LOST, "its frames were refused for a resume in vain")
                self.propose_failure(attempt, error, lost=WorkerLoss.WITH_OTHERS)

    def _try_propose(
        self, kind: int, command: Command, attempt: Attempt, *, gives_attempt: bool
    ) -> None:
        """Propose for an attempt; `gives_attempt` when the record gives or takes the attempt.

        On a log that failed there is nobody to tell: the node stops. Raises RecordTooLargeError.
        """
        invocation = attempt.invocation
        touched: tuple[bytes, ...] = ()
        if gives_attempt:
            touched = (attempt.key,)
        if invocation.key is not None:
            touched = (*touched, object_key(invocation.service, invocation.key))
        try:
            self._leader.propose_guarded(kind, command, touched, attempt)
        except (LogClosedError, NotSequencerError) as error:
            _log.warning("an attempt's record was not taken", code=error.code, reason=str(error))
