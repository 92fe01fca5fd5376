"""One partition on this node: feeds committed records to the machine and, as leader, acts on them.

Life: *replaying* what the log has beyond the store → *candidate*, its announcement on the way →
*leader*. A record that cannot be applied *stops* this partition alone. Everything here runs on the
event loop and nothing waits; the log's writer calls in with commits.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

from ..core.clock import Clock
from ..core.errors import PerdureError
from ..core.ids import InvocationId, PartitionId, invocation_id_text
from ..core.random import Random
from ..core.retry import RetryPolicy
from ..core.storage.kv import KvStore, PutOrDelete
from ..log.answers import Answer, Conflict, StaleSnapshot
from ..log.errors import LogClosedError, NotSequencerError, RecordTooLargeError
from ..log.types import LogBatch
from ..log.virtual_log import VirtualLog
from . import effects as effect
from .clients import Clients, InvokeReply, Proposed
from .invoker.attempt import Attempt, WorkerLoss
from .invoker.attempt_frames import AttemptError
from .invoker.invoker import Invoker
from .invoker.start_segments import start_segments
from .machine import Machine, RecordFailedError
from .next_attempt import next_attempt
from .pending import pending_effects
from .proposals import Proposal, Proposals
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
    encode_command,
    object_key,
)
from .same_time import check_same_time
from .status import PartitionDetail, PartitionStatus
from .tables import keys
from .tables.invocations import STATUS_BACKING_OFF, STATUS_COMPLETED, STATUS_NAMES, Invocation
from .tables.progress import Progress, decode_progress, encode_progress
from .timers import Timers
from .transaction import Transaction

_log = structlog.get_logger("partition")


class NotLeadingError(PerdureError):
    """The partition takes no requests here now."""

    code = "PD0906"
    retryable = True


class PartitionProcessor:
    """One partition's interpreter and what surrounds it.

    Attributes:
        log: the partition's log, None before `open`.
        written_lsn: the last LSN whose effect on the rows was given to the store.
        durable_lsn: the last LSN whose effect is known to survive a crash; set by `LogTrimmer`.
        superseded: records of attempts that the log refused.
    """

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
        on_log_sealed: Callable[["PartitionProcessor"], None],
    ) -> None:
        """Read the progress from the store; `open` follows.

        Args:
            key_first: first partition key of the range.
            key_last: last one.
            on_dirty: called when a commit was applied, once until `take_writes`.
            on_parked: called when a record cannot be applied.
            on_log_sealed: somebody else sealed the log's last segment: have it recovered.
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
        # What opening the store found may not have been synced before; the first round does that.
        self.written_lsn = progress.applied_lsn
        self.durable_lsn = 0
        self._timers = make_timers(self._retry_due)
        self.log: VirtualLog | None = None
        self.superseded = 0
        self._on_log_sealed = on_log_sealed
        self._proposals: Proposals | None = None
        self._open_tail_lsn = 0
        self._dirty = False
        self.clients = Clients()

    # Start ---------------------------------------------------------------------------------------

    async def open(self, log: VirtualLog, epoch: int) -> None:
        """Take the log, which this node leads under `epoch`.

        Raises StorageCorruptError when store and log are not of one time.
        """
        tail = (await log.find_tail()).lsn
        check_same_time(self.partition, self._machine.context, log, tail, epoch)
        self.log = log
        self.epoch = epoch
        self._proposals = Proposals(log, epoch, lambda: self._machine.context.lsn)
        self._open_tail_lsn = tail

    async def replay_some(self) -> bool:
        """Apply some of the log that the store has not seen; whether all is applied now."""
        assert self.log is not None
        context = self._machine.context
        if context.lsn + 1 >= self._open_tail_lsn:
            return True
        for item in await self.log.read(context.lsn + 1):
            self.committed(item)
            if self.role == "stopped":
                return True
        return context.lsn + 1 >= self._open_tail_lsn

    def announce(self) -> None:
        """Ask for the lead: it begins when the announcement comes back from the log."""
        assert self.log is not None
        self.role = "candidate"
        self.log.listen(
            self.committed,
            on_open=self._log_opened,
            on_sealed=lambda: self._on_log_sealed(self),
            on_closed=self._log_closed,
        )
        self._propose(ANNOUNCE_LEADER, AnnounceLeader(self._node, self.epoch), None)

    def _log_opened(self) -> None:
        """The log takes records again after a reconfiguration."""
        if self.role != "stopped" and self._proposals is not None:
            self._proposals.send_held()

    def _log_closed(self) -> None:
        """The log is sealed as a whole: calls held back are refused, as all from here on are."""
        assert self._proposals is not None
        self._proposals.withdraw_calls()
        self.clients.refuse_held(self._sealed())

    def _sealed(self) -> NotLeadingError:
        return NotLeadingError(
            f"the log of partition {self.partition} is sealed: open it again with "
            f"perdure logs reconfigure {self.partition}"
        )

    # From the log --------------------------------------------------------------------------------

    def committed(self, item: LogBatch) -> None:
        """Apply a committed batch; its writes and effects wait for the end of the turn."""
        if self.role == "stopped":
            return
        try:
            self._machine.apply_batch(item.batch, item.base_lsn)
        except RecordFailedError as error:
            self._park(error)
        if not self._dirty:
            self._dirty = True
            self._on_dirty(self)

    def _park(self, error: RecordFailedError) -> None:
        self._stop_for(error)
        self._on_parked(self, error)

    def _stop_for(self, error: PerdureError) -> None:
        self._timers.close()
        self.role = "stopped"
        self.error = f"{error.code} {error}"
        _log.error("partition stopped", partition=self.partition, reason=self.error)
        # Nothing that attempts send counts any more: their workers have others to run.
        attempts, self.attempts = self.attempts, {}
        for attempt in attempts.values():
            attempt.over = True
            self._invoker.ask_to_stop(attempt)

    def take_writes(self) -> list[PutOrDelete]:
        """Everything applied since the last call, with the progress; to be written atomically."""
        self._dirty = False
        operations = self._transaction.take()
        operations.append((self._progress_row, encode_progress(self._machine.progress())))
        return operations

    def run_effects(self) -> None:
        """Carry out what was applied, after its writes are in the store. Only a leader acts."""
        self.written_lsn = self._machine.context.lsn
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
        if item.epoch == self.epoch:
            self.clients.accepted(item)

    def _run_answer(self, item: effect.Answer) -> None:
        self.clients.answered(item)

    def _run_start_attempt(self, item: effect.StartAttempt) -> None:
        attempt = Attempt(self, item.invocation_id, item.invocation)
        assert item.invocation_id not in self.attempts, "two attempts of one invocation at once"
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
            attempt.freeze(item.lsn)
            if item.abort:
                self._invoker.ask_to_stop(attempt)

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
        attempt: Attempt | None = None,
        *,
        guarded: bool = False,
        traceparent: str | None = None,
        admitted: Callable[[int], None] | None = None,
    ) -> int | None:
        """The record's number; None while the log is being reconfigured."""
        assert self._proposals is not None
        return self._proposals.propose(
            Proposal(
                kind,
                encode_command(command),
                record_keys,
                0 if attempt is None else attempt.attempt,
                traceparent,
                attempt if guarded else None,
                admitted,
            )
        )

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
        if self.log is not None and self.log.sealed:
            raise self._sealed()
        # Not the attempt key: a client that repeats its request must not supersede the attempt
        # that is running, and before the first Invoke is applied there is none.
        touched = () if command.key is None else (object_key(command.service, command.key),)
        target = (command.service, command.handler, command.key)
        proposed = Proposed(reply, wait, command.invocation_id, target)
        sequence = self._propose(
            INVOKE,
            command,
            touched,
            traceparent=traceparent,
            admitted=partial(self.clients.proposed, proposed),
        )
        if sequence is None:
            self.clients.hold(proposed)
        else:
            self.clients.proposed(proposed, sequence)

    @property
    def listening(self) -> bool:
        """Whether what workers send gets into the log now, so that they can be answered."""
        return self._proposals is not None and self._proposals.flowing

    def propose_chunk(
        self, attempt: Attempt, deployment: str, frames: bytes, *, ended: bool
    ) -> None:
        """The worker sent frames; they count once they are in the log.

        Whether the attempt is current is not looked at here: the log refuses what is not.
        """
        if self.role != "leader":
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
        delay_ns, counts = next_attempt(attempt.invocation, error, lost, self._policy, self._random)
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

    def attempt_refused(self, attempt: Attempt, answer: Answer) -> None:
        """The log has refused what was proposed for an attempt: a later one has replaced it."""
        if not isinstance(answer, Conflict | StaleSnapshot):
            return  # The log was closed over it: the node stops, or another one leads.
        assert attempt.over or isinstance(answer, Conflict), (
            "the leader has applied everything committed, so its snapshot cannot be stale"
        )
        if attempt.attempt > attempt.invocation.attempt:
            # It was to start, while a record of the one before was on its way: decide anew.
            self._timers.add(0, 0, attempt.invocation_id, attempt.invocation.attempt)
            return
        self.superseded += 1
        _log.info(
            "attempt superseded",
            invocation=invocation_id_text(attempt.invocation_id),
            attempt=attempt.attempt,
            partition=self.partition,
        )
        self._invoker.supersede(attempt)

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
            self._propose(kind, command, touched, attempt, guarded=True)
        except (LogClosedError, NotSequencerError) as error:
            _log.warning("an attempt's record was not taken", code=error.code, reason=str(error))

    def start_segments(self, attempt: Attempt) -> list[tuple[int, bytes]]:
        """What opens the attempt on a worker: (record time in ns, frames), in order."""
        return start_segments(self._transaction, attempt, self.epoch, self._clock.time_ns())

    def lose(self, error: PerdureError) -> None:
        """This node cannot lead the partition any more."""
        if self.role != "stopped":
            self._stop_for(error)
            self.clients.fail(NotLeadingError(f"partition {self.partition} stopped: {self.error}"))

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
        committed = 0 if self.log is None else self.log.committed_tail_lsn
        tail = max(progress.applied_lsn + 1, committed)
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
