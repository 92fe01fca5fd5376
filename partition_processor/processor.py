"""One partition on this node: feeds committed records to the machine and, as leader, acts on them.

Life: *replaying* what the log has beyond the store → *candidate*, its announcement on the way →
*leader*. A record that cannot be applied *stops* this partition alone. Everything here runs on the
event loop and nothing waits; the log's writer calls in with commits.
"""

from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from ..core.clock import Clock
from ..core.errors import PerdureError, StorageCorruptError
from ..core.ids import InvocationId, PartitionId, invocation_id_text
from ..core.random import Random
from ..core.retry import RetryPolicy
from ..core.storage.kv import KvStore, PutOrDelete
from ..log.errors import LogClosedError, RecordTooLargeError
from ..log.loglet import Loglet
from ..log.types import Batch, Record
from . import effects as effect
from .clients import Clients, InvokeReply, Proposed
from .invoker.attempt import Attempt, WorkerLoss
from .invoker.attempt_frames import AttemptError, journal_segments, start_frames
from .invoker.invoker import Invoker
from .machine import Machine, RecordFailedError
from .pending import pending_effects
from .records import (
    ANNOUNCE_LEADER,
    ATTEMPT_CHUNK,
    ATTEMPT_FAILED,
    ATTEMPT_STARTED,
    INVOKE,
    AnnounceLeader,
    AttemptChunk,
    AttemptFailed,
    AttemptStarted,
    Command,
    Invoke,
    attempt_key,
    encode_command,
    object_key,
)
from .status import PartitionDetail, PartitionStatus
from .tables import keys
from .tables.invocations import STATUS_BACKING_OFF, STATUS_COMPLETED, STATUS_NAMES, Invocation
from .tables.progress import Progress, decode_progress, encode_progress
from .timers import Timers
from .transaction import Transaction

_log = structlog.get_logger("partition")

BASE_LSN: Final = 1
"""LSN of the first record; the log has one segment so far."""


class NotLeadingError(PerdureError):
    """The partition takes no requests here now."""

    code = "PD0906"
    retryable = True


class PartitionProcessor:
    """One partition's interpreter and what surrounds it."""

    def __init__(
        self,
        partition: PartitionId,
        *,
        key_first: int,
        key_last: int,
        node: str,
        store: KvStore,
        clock: Clock,
        random: Random,
        invoker: Invoker,
        policy: RetryPolicy,
        make_timers: Callable[[Callable[[InvocationId, int], None]], Timers],
        on_dirty: Callable[["PartitionProcessor"], None],
        on_parked: Callable[["PartitionProcessor", RecordFailedError], None],
    ) -> None:
        """Read the progress from the store; `open` follows.

        Args:
            key_first: first partition key of the range.
            key_last: last one.
            on_dirty: called when a commit was applied, once until `take_writes`.
            on_parked: called when a record cannot be applied.
        """
        self.partition = partition
        self.key_first = key_first
        self.key_last = key_last
        self.role = "replaying"
        self.error = ""
        self.epoch = 0
        self.attempts: dict[InvocationId, Attempt] = {}
        self._node = node
        self._clock = clock
        self._random = random
        self._invoker = invoker
        self._policy = policy
        self._on_dirty = on_dirty
        self._on_parked = on_parked
        self._first = keys.PARTITION_KEY.pack(key_first)
        self._last = keys.PARTITION_KEY.pack(key_last)
        self._progress_row = keys.PROGRESS + self._first
        self._transaction = Transaction(store)
        stored = store.get(self._progress_row)
        progress = Progress() if stored is None else decode_progress(stored)
        self._machine = Machine(self._transaction, progress)
        self._timers = make_timers(self._retry_due)
        self._loglet: Loglet | None = None
        self._sequence = 0
        self._dirty = False
        self.clients = Clients()

    # Start ---------------------------------------------------------------------------------------

    def open(self, loglet: Loglet, epoch: int) -> None:
        """Take the log; `epoch` is the one that was claimed for this node."""
        context = self._machine.context
        tail = loglet.find_tail().offset
        if tail <= context.lsn or epoch <= context.epoch:
            raise StorageCorruptError(
                f"partition {self.partition}: the store has applied LSN {context.lsn} of leader "
                f"epoch {context.epoch}, but the log ends before LSN {tail} and the epoch claimed "
                f"is {epoch}: log, store and metadata are not of one time; restore them together"
            )
        self._loglet = loglet
        self.epoch = epoch

    def replay_some(self) -> bool:
        """Apply some of the log that the store has not seen; whether all is applied now."""
        assert self._loglet is not None
        context = self._machine.context
        batches = self._loglet.read(context.lsn + 1, 1024 * 1024)
        for batch in batches:
            self.committed(batch)
            if self.role == "stopped":
                return True
        return context.lsn + 1 >= self._loglet.find_tail().offset

    def announce(self) -> None:
        """Ask for the lead: it begins when the announcement comes back from the log."""
        self.role = "candidate"
        self._propose(ANNOUNCE_LEADER, AnnounceLeader(self._node, self.epoch), None, 0)

    # From the log --------------------------------------------------------------------------------

    def committed(self, batch: Batch) -> None:
        """Apply a committed batch; its writes and effects wait for the end of the turn."""
        if self.role == "stopped":
            return
        try:
            self._machine.apply_batch(batch, BASE_LSN)
        except RecordFailedError as error:
            self._park(error)
        if not self._dirty:
            self._dirty = True
            self._on_dirty(self)

    def _park(self, error: RecordFailedError) -> None:
        self.role = "stopped"
        self.error = f"{error.code} {error}"
        _log.error("partition stopped", partition=self.partition, reason=self.error)
        self._on_parked(self, error)

    def take_writes(self) -> list[PutOrDelete]:
        """Everything applied since the last call, with the progress; to be written atomically."""
        self._dirty = False
        operations = self._transaction.take()
        operations.append((self._progress_row, encode_progress(self._machine.progress())))
        return operations

    def run_effects(self) -> None:
        """Carry out what was applied, after its writes are in the store. Only a leader acts."""
        effects = self._machine.take_effects()
        if self.role == "leader":
            for item in effects:
                self._RUN[type(item)](self, item)
        elif self.role == "candidate":
            for item in effects:
                if type(item) is effect.LeaderAnnounced and item.epoch == self.epoch:
                    self._become_leader()
        if self.role == "stopped":
            self.clients.fail(NotLeadingError(f"partition {self.partition} stopped: {self.error}"))

    def _become_leader(self) -> None:
        self.role = "leader"
        # Derived from the store, which holds this whole batch: the batch's own effects are in it.
        for item in pending_effects(self._transaction, self._first, self._last):
            self._RUN[type(item)](self, item)
        _log.debug("partition leads", partition=self.partition, epoch=self.epoch)

    # Effects -------------------------------------------------------------------------------------

    def _run_accepted(self, item: effect.Accepted) -> None:
        self.clients.accepted(item)

    def _run_answer(self, item: effect.Answer) -> None:
        self.clients.answered(item)

    def _run_start_attempt(self, item: effect.StartAttempt) -> None:
        attempt = Attempt(self, item.invocation_id, item.invocation)
        previous = self.attempts.get(item.invocation_id)
        if previous is not None:
            self._invoker.end(previous, abort=True)
        self.attempts[item.invocation_id] = attempt
        self._invoker.start(attempt)

    def _run_notify(self, item: effect.Notify) -> None:
        attempt = self.attempts.get(item.invocation_id)
        if attempt is not None and attempt.attempt == item.attempt and attempt.session is not None:
            attempt.session.notify(attempt, item.record_time_ns, item.frames)

    def _run_end_attempt(self, item: effect.EndAttempt) -> None:
        attempt = self.attempts.get(item.invocation_id)
        if attempt is not None and attempt.attempt == item.attempt:
            del self.attempts[item.invocation_id]
            self._invoker.end(attempt, abort=item.abort)

    def _run_arm_retry(self, item: effect.ArmRetry) -> None:
        record_time_ns = self._machine.context.record_time_ns
        self._timers.add(item.due_ns, record_time_ns, item.invocation_id, item.attempt)

    def _run_leader_announced(self, item: effect.LeaderAnnounced) -> None:
        assert item.epoch <= self.epoch, "another leader announced itself on a log of one node"

    _RUN: Final[dict[type, Callable[..., None]]] = {
        effect.Accepted: _run_accepted,
        effect.StartAttempt: _run_start_attempt,
        effect.Notify: _run_notify,
        effect.EndAttempt: _run_end_attempt,
        effect.Answer: _run_answer,
        effect.ArmRetry: _run_arm_retry,
        effect.LeaderAnnounced: _run_leader_announced,
    }

    # To the log ----------------------------------------------------------------------------------

    def _propose(
        self,
        kind: int,
        command: Command,
        record_keys: tuple[bytes, ...] | None,
        attempt: int,
        traceparent: str | None = None,
    ) -> int:
        assert self._loglet is not None
        sequence = self._sequence + 1
        record = Record(
            kind,
            encode_command(command),
            record_keys,
            self.epoch,
            None,
            sequence,
            attempt,
            traceparent,
        )
        lsn = BASE_LSN + self._loglet.enqueue(record) - 1
        # Only now: a record that was refused must not leave a gap.
        self._sequence = sequence
        return lsn

    def invoke(
        self, command: Invoke, traceparent: str | None, reply: InvokeReply, *, wait: bool
    ) -> None:
        """Propose an invocation; `reply` gets `Answer` when `wait`, else `Accepted`, or an error.

        Raises NotLeadingError, LogClosedError or RecordTooLargeError, and then nothing happened.
        """
        if self.role != "leader":
            raise NotLeadingError(
                f"partition {self.partition} is {self.role} on this node: try again shortly"
            )
        touched: tuple[bytes, ...] = (attempt_key(command.invocation_id),)
        if command.key is not None:
            touched = (*touched, object_key(command.service, command.key))
        lsn = self._propose(INVOKE, command, touched, 0, traceparent)
        target = (command.service, command.handler, command.key)
        self.clients.proposed(lsn, Proposed(reply, wait, command.invocation_id, target))

    def propose_chunk(
        self, attempt: Attempt, deployment: str, frames: bytes, *, ended: bool
    ) -> None:
        """The worker sent frames; they count once they are in the log."""
        if attempt.over or self.role != "leader":
            return
        command = AttemptChunk(attempt.invocation_id, attempt.attempt, deployment, frames)
        try:
            self._try_propose(ATTEMPT_CHUNK, command, attempt, gives_attempt=ended)
        except RecordTooLargeError as error:
            too_large = AttemptError(413, error.message, give_up=True)
            self.propose_failure(attempt, too_large, lost=None)

    def propose_failure(
        self, attempt: Attempt, error: AttemptError, *, lost: WorkerLoss | None
    ) -> None:
        """The attempt ended without an answer: have the next one follow by the policy."""
        if attempt.over or self.role != "leader":
            return
        attempt.over = True
        invocation = attempt.invocation
        counts = error.delay_ns is None and lost is not WorkerLoss.WITH_OTHERS
        delay_ns: int | None
        if error.give_up:
            delay_ns = None
        elif error.delay_ns is not None:
            delay_ns = error.delay_ns
        elif lost is not None:
            delay_ns = self._delay_after_loss(invocation, counts=counts)
        else:
            delay_ns = self._policy.delay_ns(invocation.failed_attempts + 1, self._random)
        command = AttemptFailed(
            attempt.invocation_id, attempt.attempt, error.code, error.message, delay_ns, counts
        )
        _log.info(
            "attempt failed",
            invocation=invocation_id_text(attempt.invocation_id),
            attempt=attempt.attempt,
            error_code=error.code,
            error=error.message,
            retry_in_ms=None if delay_ns is None else delay_ns // 1_000_000,
        )
        self._try_propose(ATTEMPT_FAILED, command, attempt, gives_attempt=True)

    def _delay_after_loss(self, invocation: Invocation, *, counts: bool) -> int | None:
        """A worker that went away says little about the code: the next attempt may start at once.

        But not for ever, as it may be this very invocation that brings workers down.
        """
        if counts and self._policy.delay_ns(invocation.failed_attempts + 1, self._random) is None:
            return None
        if invocation.failures_since_entry == 0:
            return 0
        endless = msgspec.structs.replace(self._policy, attempts_max=None)
        return endless.delay_ns(invocation.failures_since_entry, self._random)

    def _retry_due(self, invocation_id: InvocationId, failed_attempt: int) -> None:
        invocation = self._transaction.invocation(invocation_id)
        if (
            self.role != "leader"
            or invocation is None
            or invocation.status != STATUS_BACKING_OFF
            or invocation.attempt != failed_attempt
        ):
            return
        attempt = Attempt(self, invocation_id, invocation)
        attempt.attempt = failed_attempt + 1
        started = AttemptStarted(invocation_id, attempt.attempt)
        self._try_propose(ATTEMPT_STARTED, started, attempt, gives_attempt=True)

    def _try_propose(
        self, kind: int, command: Command, attempt: Attempt, *, gives_attempt: bool
    ) -> None:
        """Propose for an attempt; `gives_attempt` when the record gives or takes the attempt.

        On a log that failed there is nobody to tell: the node stops. Raises RecordTooLargeError.
        """
        invocation = attempt.invocation
        touched: tuple[bytes, ...] = ()
        if gives_attempt:
            touched = (attempt_key(attempt.invocation_id),)
        if invocation.key is not None:
            touched = (*touched, object_key(invocation.service, invocation.key))
        try:
            self._propose(kind, command, touched, attempt.attempt)
        except LogClosedError as error:
            _log.warning("an attempt's record was not taken", code=error.code, reason=str(error))

    def start_segments(self, attempt: Attempt) -> list[tuple[int, bytes]]:
        """What opens the attempt on a worker: (record time in ns, frames), in order."""
        # A waiting attempt has let go of its input; the store has it.
        invocation = self._transaction.invocation(attempt.invocation_id)
        assert invocation is not None
        state: dict[bytes, bytes] = {}
        if invocation.key is not None:
            object_name = keys.object_suffix(invocation.service, invocation.key)
            state = self._transaction.object_state(attempt.invocation_id[:8], object_name)
        opening = start_frames(
            attempt.invocation_id,
            invocation,
            epoch=self.epoch,
            state=state,
            now_ns=self._clock.time_ns(),
        )
        segments = journal_segments(self._transaction.journal(attempt.invocation_id, invocation))
        first_time_ns, first_frames = segments[0]
        segments[0] = (first_time_ns, opening + first_frames)
        return segments

    # The rest ------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Take and do nothing more."""
        self._timers.close()
        if self.role != "stopped":
            self.role = "stopped"
            self.error = "the node is shutting down"

    def invocation(self, invocation_id: InvocationId) -> Invocation | None:
        """An invocation as applied so far."""
        return self._transaction.invocation(invocation_id)

    @property
    def active(self) -> int:
        """Invocations that have not completed."""
        counts = self._machine.context.counts
        return sum(counts) - counts[STATUS_COMPLETED]

    def status(self) -> PartitionStatus:
        """How the partition is."""
        progress = self._machine.progress()
        tail = BASE_LSN
        if self._loglet is not None:
            tail = BASE_LSN + self._loglet.find_tail().offset - 1
        return PartitionStatus(
            partition=self.partition,
            node=self._node,
            role=self.role,
            leader_epoch=progress.epoch,
            applied_lsn=progress.applied_lsn,
            tail_lsn=tail,
            lag=max(0, tail - 1 - progress.applied_lsn),
            invocations=dict(zip(STATUS_NAMES, progress.counts, strict=True)),
            error=self.error,
        )

    def detail(self) -> PartitionDetail:
        """The partition in full."""
        waiting = self._invoker.waiting_of(self)
        return PartitionDetail(
            status=self.status(),
            key_first=self.key_first,
            key_last=self.key_last,
            digest=self._machine.progress().digest.hex(),
            running=len(self.attempts) - waiting,
            waiting_for_worker=waiting,
        )
