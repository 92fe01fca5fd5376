"""One partition on this node: feeds committed records to the machine and, as leader, acts on them.

Life: *replaying* what the log has beyond the store → *candidate*, its announcement on the way →
*leader*. A record that cannot be applied *stops* this partition alone. Everything here runs on the
event loop and nothing waits; the log's writer calls in with commits.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from ..core.clock import Clock
from ..core.errors import PerdureError
from ..core.ids import InvocationId, PartitionId
from ..core.random import Random
from ..core.storage.kv import KvStore, PutOrDelete
from ..log.errors import LogClosedError, NotSequencerError
from ..log.types import LogBatch
from ..log.virtual_log import VirtualLog
from . import effects as effect
from .attempt_keeper import AttemptKeeper
from .call_resolver import CallResolver
from .clients import Clients, InvokeReply, OperationReply, Proposed
from .context import PartitionRange
from .deployments import Targets
from .drivers import Drivers
from .invoker.attempt import Attempt
from .invoker.invoker import Invoker
from .machine import Machine, RecordFailedError
from .minting import Minter
from .operations import Operation, keys_of
from .pending import pending_effects
from .proposals import Proposal, Proposals
from .records import (
    ANNOUNCE_LEADER,
    INVOKE,
    KINDS,
    AnnounceLeader,
    Command,
    Invoke,
    encode_command,
    object_key,
)
from .same_time import check_same_time
from .shipments import Carrier
from .status import PartitionDetail, PartitionStatus
from .tables import keys
from .tables.invocations import STATUS_COMPLETED, STATUS_NAMES
from .tables.progress import Progress, decode_progress, encode_progress
from .timers import Timers
from .transaction import Transaction

_log = structlog.get_logger("partition")


class NotLeadingError(PerdureError):
    """The partition takes no requests here now."""

    code = "PD0906"
    retryable = True


class InvocationNotFoundError(PerdureError):
    """Nobody knows the invocation, or not any more."""

    code = "PD0912"


class PartitionProcessor:
    """One partition's interpreter and what surrounds it.

    Attributes:
        log: the partition's log, None before `open`.
        written_lsn: the last LSN whose effect on the rows was given to the store.
        durable_lsn: the last LSN whose effect is known to survive a crash; set by `LogTrimmer`.
        transaction: the rows as applied so far, to be read between records.
        keeper: the attempts of its invocations.
        drivers: what moves its timers, messages and purges.
    """

    def __init__(
        self,
        own: PartitionRange,
        *,
        node: str,
        store: KvStore,
        clock: Clock,
        random: Random,
        invoker: Invoker,
        minter: Minter,
        targets: Callable[[], Targets],
        make_timers: Callable[[Callable[[InvocationId, int], None]], Timers],
        make_drivers: Callable[["PartitionProcessor"], Drivers],
        carrier: Carrier,
        on_dirty: Callable[["PartitionProcessor"], None],
        on_parked: Callable[["PartitionProcessor", RecordFailedError], None],
        on_log_sealed: Callable[["PartitionProcessor"], None],
        on_lead: Callable[["PartitionProcessor"], None],
    ) -> None:
        """Read the progress from the store; `open` follows.

        Args:
            own: the partition's part of the key space.
            targets: what can be called now.
            carrier: the other partitions.
            on_dirty: called when a commit was applied, once until `take_writes`.
            on_parked: called when a record cannot be applied.
            on_log_sealed: somebody else sealed the log's last segment: have it recovered.
            on_lead: this node leads the partition, and its log takes records, from now on.
        """
        self.own = own
        self.partition = PartitionId(own.number)
        self.role = "replaying"
        self.error = ""
        self.epoch = 0
        self._node = node
        self._targets = targets
        self._carrier = carrier
        self._on_dirty = on_dirty
        self._on_parked = on_parked
        self._on_lead = on_lead
        self._invoker = invoker
        self._progress_row = keys.PROGRESS + own.first
        self._store = store
        self.transaction = Transaction(store)
        self.read_progress()
        self.durable_lsn = 0
        self._retries = make_timers(self._retry_due)
        self.keeper = AttemptKeeper(
            self,
            partition=own.number,
            transaction=self.transaction,
            invoker=invoker,
            resolver=CallResolver(targets, minter),
            timers=self._retries,
            clock=clock,
            random=random,
        )
        self.drivers = make_drivers(self)
        self.log: VirtualLog | None = None
        self._on_log_sealed = on_log_sealed
        self._proposals: Proposals | None = None
        self._open_tail_lsn = 0
        self._dirty = False
        self.clients = Clients()
        self._run: dict[type, Callable[[Any], None]] = {
            effect.Accepted: self._run_accepted,
            effect.Done: self._run_done,
            effect.StateChanged: self.clients.state_changed,
            effect.StartAttempt: self.keeper.start,
            effect.Notify: self.keeper.notify,
            effect.EndAttempt: self.keeper.end,
            effect.Answer: self._run_answer,
            effect.ArmRetry: self._run_arm_retry,
            effect.ArmTimer: self._run_arm_timer,
            effect.Ship: self.drivers.shipments.add,
            effect.Delivered: self._run_delivered,
            effect.LeaderAnnounced: self._run_leader_announced,
        }

    def _retry_due(self, invocation_id: InvocationId, failed_attempt: int) -> None:
        self.keeper.retry_due(invocation_id, failed_attempt)

    # Start ---------------------------------------------------------------------------------------

    def read_progress(self) -> None:
        """Begin where the store is: when it was opened, and once a snapshot was restored to it."""
        stored = self._store.get(self._progress_row)
        progress = Progress() if stored is None else decode_progress(stored)
        self._machine = Machine(self.transaction, progress, self.own)
        # What opening the store found may not have been synced before; the first round does that.
        self.written_lsn = progress.applied_lsn

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
        if self.role == "leader":
            self._on_lead(self)

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
        self._close_timers()
        self.role = "stopped"
        self.error = f"{error.code} {error}"
        _log.error("partition stopped", partition=self.partition, reason=self.error)
        self.keeper.give_up_all()

    def _close_timers(self) -> None:
        self._retries.close()
        self.drivers.close()

    def take_writes(self) -> list[PutOrDelete]:
        """Everything applied since the last call, with the progress; to be written atomically."""
        self._dirty = False
        operations = self.transaction.take()
        operations.append((self._progress_row, encode_progress(self._machine.progress())))
        return operations

    def run_effects(self) -> None:
        """Carry out what was applied, after its writes are in the store. Only a leader acts."""
        self.written_lsn = self._machine.context.lsn
        effects = self._machine.take_effects()
        if self.role == "leader":
            for item in effects:
                self._run[type(item)](item)
            self.keeper.restart_refused()
            self.drivers.shipments.flush()
        elif self.role == "candidate":
            for item in effects:
                if type(item) is effect.LeaderAnnounced and item.epoch == self.epoch:
                    self._become_leader()
        if self.role == "stopped":
            self.clients.fail(NotLeadingError(f"partition {self.partition} stopped: {self.error}"))

    def _become_leader(self) -> None:
        self.role = "leader"
        # Derived from the store, which holds this whole batch: the batch's own effects are in it.
        for item in pending_effects(self.transaction, self.own):
            self._run[type(item)](item)
        self.drivers.start()
        _log.debug("partition leads", partition=self.partition, epoch=self.epoch)
        self._on_lead(self)

    # Effects -------------------------------------------------------------------------------------

    def _run_accepted(self, item: effect.Accepted) -> None:
        if item.epoch == self.epoch:
            self.clients.accepted(item)

    def _run_done(self, item: effect.Done) -> None:
        if item.epoch == self.epoch:
            self.clients.done(item)

    def _run_answer(self, item: effect.Answer) -> None:
        self.clients.answered(item)
        self.drivers.completed(item.invocation)

    def _run_arm_retry(self, item: effect.ArmRetry) -> None:
        record_time_ns = self._machine.context.record_time_ns
        self._retries.add(item.due_ns, record_time_ns, item.invocation_id, item.attempt)

    def _run_arm_timer(self, item: effect.ArmTimer) -> None:
        self.drivers.timers.add(item, self._machine.context.record_time_ns)

    def _run_delivered(self, item: effect.Delivered) -> None:
        self._carrier.taken(item.source, self.own.number, item.last)

    def _run_leader_announced(self, item: effect.LeaderAnnounced) -> None:
        assert item.epoch <= self.epoch, "another leader announced itself on a log of one node"

    # To the log ----------------------------------------------------------------------------------

    @property
    def leading(self) -> bool:
        """Whether this node leads the partition now."""
        return self.role == "leader"

    @property
    def flowing(self) -> bool:
        """Whether what is proposed gets into the log now."""
        return self._proposals is not None and self._proposals.flowing

    @property
    def targets(self) -> Targets:
        """What can be called now."""
        return self._targets()

    def _propose(
        self,
        kind: int,
        command: Command,
        record_keys: tuple[bytes, ...] | None,
        *,
        guard: Attempt | None = None,
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
                0 if guard is None else guard.attempt,
                traceparent,
                guard,
                admitted,
            )
        )

    def propose_guarded(
        self, kind: int, command: Command, keys: tuple[bytes, ...], attempt: Attempt
    ) -> None:
        """Propose a record that rests on the attempt being current.

        Raises LogClosedError, NotSequencerError or RecordTooLargeError.
        """
        self._propose(kind, command, keys, guard=attempt)

    def propose_own(self, command: Command) -> bool:
        """Propose something that nobody waits for; whether it was taken."""
        if self.role != "leader":
            return False
        try:
            self._propose(KINDS[type(command)], command, ())
        except (LogClosedError, NotSequencerError) as error:
            _log.warning("a record was not taken", code=error.code, reason=str(error))
            return False
        return True

    def propose_now(self, command: Command) -> bool:
        """As `propose_own`, but held back by nobody: what is refused is asked for again later."""
        return self.flowing and self.propose_own(command)

    def _check_takes(self) -> None:
        if self.role != "leader":
            raise NotLeadingError(
                f"partition {self.partition} is {self.role} on this node: try again shortly"
            )
        if self.log is not None and self.log.sealed:
            raise self._sealed()

    def invoke(
        self, command: Invoke, traceparent: str | None, reply: InvokeReply, *, wait: bool
    ) -> None:
        """Propose an invocation; `reply` gets `Answer` when `wait`, else `Accepted`, or an error.

        Raises NotLeadingError, LogClosedError or RecordTooLargeError, and then nothing happened.
        """
        self._check_takes()
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

    def operate(self, operation: Operation, reply: OperationReply) -> None:
        """Propose an operation; `reply` gets its outcome, one of `outcomes`, or an error.

        Raises NotLeadingError, LogClosedError or RecordTooLargeError, and then nothing happened.
        """
        self._check_takes()
        sequence = self._propose(
            KINDS[type(operation)],
            operation,
            keys_of(operation),
            admitted=partial(self.clients.operated, reply),
        )
        if sequence is None:
            self.clients.hold_operation(reply)
        else:
            self.clients.operated(reply, sequence)

    def attach(self, invocation_id: InvocationId, reply: InvokeReply) -> None:
        """Have `reply` get the invocation's `Answer`, now or once it has completed.

        Raises NotLeadingError or InvocationNotFoundError.
        """
        self._check_takes()
        invocation = self.transaction.invocation(invocation_id)
        if invocation is None:
            raise InvocationNotFoundError("not found")
        self.clients.wait_for(invocation_id, invocation, reply)

    def lose(self, error: PerdureError) -> None:
        """This node cannot lead the partition any more."""
        if self.role != "stopped":
            self._stop_for(error)
            self.clients.fail(NotLeadingError(f"partition {self.partition} stopped: {self.error}"))

    # The rest ------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Take and do nothing more."""
        self._close_timers()
        if self.role != "stopped":
            self.role = "stopped"
            self.error = "the node is shutting down"

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
        waiting = self._invoker.waiting_of(self.keeper)
        return PartitionDetail(
            status=self.status(),
            key_first=int.from_bytes(self.own.first, "big"),
            key_last=int.from_bytes(self.own.last, "big"),
            digest=self._machine.progress().digest.hex(),
            running=len(self.keeper.attempts) - waiting,
            waiting_for_worker=waiting,
        )
