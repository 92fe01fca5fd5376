"""One partition on this node: feeds committed records to the machine and, as leader, acts on them.

Life: *absent*, or *follower* of a log that is led elsewhere → *replaying* what the log has beyond
the store, with an epoch claimed → *candidate*, its announcement on the way → *leader* → *follower*
again when it hands over or is deposed. A record that cannot be applied *stops* this partition
alone. Everything here runs on the event loop and nothing waits; the log's writer calls in with
commits, and who follows feeds what it reads (`role_changes`).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import structlog

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
from .clients import Clients, InvokeReply, Look, OperationReply, Proposed, look_later
from .context import PartitionRange
from .deployments import Targets
from .describing import partition_detail, partition_status
from .drivers import Drivers
from .errors import InvocationNotFoundError as InvocationNotFoundError
from .errors import NotLeadingError as NotLeadingError
from .errors import sealed_error
from .invoker.attempt import Attempt
from .invoker.invoker import Invoker
from .leader_effects import SupersededError, effect_table
from .listener import ProcessorListener
from .machine import Machine, RecordFailedError
from .minting import Minter
from .operations import Operation, keys_of
from .pending import pending_effects
from .proposals import Proposal, Proposals
from .read_barrier import ReadBarrier
from .records import (
    ANNOUNCE_LEADER,
    INVOKE,
    KINDS,
    Command,
    Invoke,
    encode_command,
    object_key,
)
from .same_time import check_same_records, check_same_time
from .shipments import Carrier
from .status import PartitionDetail, PartitionStatus
from .tables import keys
from .tables.aside import Aside, read_aside
from .tables.invocations import STATUS_COMPLETED
from .tables.progress import Progress, decode_progress, encode_progress
from .tables.skipped import Skip
from .timers import Timers
from .transaction import Transaction

_log = structlog.get_logger("partition")


class PartitionProcessor:
    """One partition's interpreter and what surrounds it.

    Attributes:
        log: the partition's log, None before `open`.
        written_lsn: the last LSN whose effect on the rows was given to the store.
        record_time_ns: of that record; 0 before any was applied in this process.
        durable_lsn: the last LSN whose effect is known to survive a crash; set by `LogTrimmer`.
        known_tail_lsn: where the log ended when a follower last looked; may trail the truth.
        transaction: the rows as applied so far, to be read between records.
        keeper: the attempts of its invocations.
        drivers: what moves its timers, messages and purges.
        barrier: where reads wait whose answers leave the node.
        parked: the record that cannot be applied, where that is why it stopped.
        aside: why this copy does not count any more; None while it does.
    """

    def __init__(
        self,
        own: PartitionRange,
        *,
        node: str,
        store: KvStore,
        random: Random,
        invoker: Invoker,
        minter: Minter,
        targets: Callable[[], Targets],
        make_timers: Callable[[Callable[[InvocationId, int], None]], Timers],
        make_drivers: Callable[["PartitionProcessor"], Drivers],
        carrier: Carrier,
        listener: ProcessorListener["PartitionProcessor"],
        make_barrier: Callable[["PartitionProcessor"], ReadBarrier],
    ) -> None:
        """Read the progress from the store; `open` follows.

        Args:
            own: the partition's part of the key space.
            targets: what can be called now.
            carrier: the other partitions.
            listener: told of what is the node's concern.
            make_barrier: makes what reads wait at until it is certain that nobody else leads.
        """
        self.own = own
        self.partition = PartitionId(own.number)
        self.role, self.error = "absent", ""
        self.parked: RecordFailedError | None = None
        self.epoch = self.record_time_ns = 0
        self._node = node
        self._targets = targets
        self._carrier = carrier
        self._listener = listener
        self._invoker = invoker
        self._progress_row = keys.PROGRESS + own.first
        self._store = store
        self.transaction = Transaction(store)
        self.read_progress()
        self.durable_lsn = self.known_tail_lsn = 0
        self._make_timers = make_timers
        self._make_drivers = make_drivers
        self._retries = make_timers(self._retry_due)
        self.keeper = AttemptKeeper(
            self,
            partition=own.number,
            transaction=self.transaction,
            invoker=invoker,
            resolver=CallResolver(targets, minter),
            timers=self._retries,
            now_ns=lambda: max(self.drivers.timers.now_ns(), self.record_time_ns),
            random=random,
        )
        self.drivers = make_drivers(self)
        self.log: VirtualLog | None = None
        self._proposals: Proposals | None = None
        self.barrier = make_barrier(self)
        self._open_tail_lsn = 0
        self._dirty = False
        self.clients = Clients()
        self._run: dict[type, Callable[[Any], None]] = {}

    def _retry_due(self, invocation_id: InvocationId, failed_attempt: int) -> None:
        self.keeper.retry_due(invocation_id, failed_attempt)

    def read_progress(self) -> None:
        """Begin where the store is: when it was opened, and once a snapshot was restored to it."""
        stored = self._store.get(self._progress_row)
        progress = Progress() if stored is None else decode_progress(stored)
        self.aside = read_aside(self._store, self.own.first)
        self._machine = Machine(self.transaction, progress, self.own)
        # What opening the store found may not have been synced before; the first round does that.
        self.written_lsn = progress.applied_lsn

    async def open(self, log: VirtualLog, epoch: int) -> None:
        """Take the log, which this node leads under `epoch`.

        Raises StorageCorruptError when store and log are not of one time.
        """
        tail = (await log.find_tail()).lsn
        check_same_time(self.partition, self._machine.context, log, tail, epoch)
        self.role = "replaying"
        self.log = log
        self.epoch = epoch
        context = self._machine.context
        self._proposals = Proposals(log, epoch, lambda: context.lsn)
        self._run = effect_table(
            epoch, context, self.clients, self.keeper, self.drivers, self._retries, self._carrier
        )
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
            on_sealed=lambda: self._listener.log_sealed(self),
            on_closed=self._log_closed,
        )
        self._propose(ANNOUNCE_LEADER, self._machine.announcement(self._node, self.epoch), None)

    def _log_opened(self) -> None:
        """The log takes records again after a reconfiguration."""
        proposals = self._proposals
        if self.role != "stopped" and proposals is not None:
            if proposals.have_lost_records(self._machine.context):
                self._listener.records_lost(self)
                return
            proposals.send_held()
        if self.role == "leader":
            self._listener.leads(self)

    def _log_closed(self) -> None:
        """The log is sealed as a whole: calls held back are refused, as all from here on are."""
        assert self._proposals is not None
        self._proposals.withdraw_calls()
        self.clients.refuse_held(sealed_error(self.partition))

    # Following -----------------------------------------------------------------------------------

    @property
    def next_lsn(self) -> int:
        """The first LSN that is not applied."""
        return self._machine.context.lsn + 1

    def follow(self, log: VirtualLog) -> None:
        """Be a follower of the log; whoever reads it calls `committed`. Not while it leads."""
        assert self.role in ("absent", "follower"), self.role
        self.role = "follower"
        self.log = log

    def know_skips(self, skips: Sequence[Skip], log: VirtualLog) -> None:
        """Before it applies anything. Raises SkipMissedError and AheadOfLogError."""
        check_same_records(self.partition, self._machine.context, log)
        self._machine.know_skips(skips)

    def step_down(self, reason: str) -> None:
        """Lead no more, nor try to: from here on nothing is taken, answered or told.

        Whoever waits is told to try again; what is on its way to the log may still count.
        """
        if self.role not in ("replaying", "candidate", "leader"):
            return
        assert self.log is not None
        self.role = "follower"
        self.log.resign()
        self._proposals = None
        self._close_timers()
        self.keeper.give_up_all(self._machine.context.lsn)
        self._retries = self.keeper.timers = self._make_timers(self._retry_due)
        self.drivers = self._make_drivers(self)
        error = NotLeadingError(f"partition {self.partition} is not led here any more: {reason}")
        _log.info("partition steps down", epoch=self.epoch, reason=error.message)
        self.barrier.refuse(error)
        self.clients.fail(error)

    # From the log --------------------------------------------------------------------------------

    def committed(self, item: LogBatch) -> None:
        """Apply a committed batch; its writes and effects wait for the end of the turn."""
        if self.role == "stopped":
            return
        try:
            self._machine.apply_batch(item.batch, item.base_lsn)
        except RecordFailedError as error:
            self.parked = None if error.rows_differ else error
            self.aside = Aside(error.lsn, str(error.__cause__)) if error.rows_differ else None
            self._stop_for(error)
            self._listener.parked(self, error)
        except PerdureError as error:
            self._stop_for(error)  # The store failed, half-way through a record.
            raise
        if not self._dirty:
            self._dirty = True
            self._listener.dirty(self)

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
        self.record_time_ns = self._machine.context.record_time_ns
        effects = self._machine.take_effects()
        if self.role == "leader":
            try:
                for item in effects:
                    self._run[type(item)](item)
            except SupersededError:  # What follows is another leader's to carry out.
                self._listener.superseded(self)
                return
            self.keeper.restart_refused()
            self.drivers.shipments.flush()
        elif self.role == "candidate":
            for item in effects:
                if type(item) is not effect.LeaderAnnounced or item.epoch < self.epoch:
                    continue
                if item.epoch > self.epoch:
                    self._listener.superseded(self)
                    return
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
        self._listener.leads(self)

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
        body, attempt = encode_command(command), 0 if guard is None else guard.attempt
        return self._proposals.propose(
            Proposal(kind, body, record_keys, attempt, traceparent, guard, admitted)
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
            raise sealed_error(self.partition)

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
        proposed = Proposed(reply, wait, command.invocation_id, target, command.request_id)
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
        operated = partial(self.clients.operated, reply)
        sequence = self._propose(
            KINDS[type(operation)], operation, keys_of(operation), admitted=operated
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
        if invocation is not None and invocation.status != STATUS_COMPLETED:
            # Its answer will be an effect of apply, and no read.
            self.clients.wait_for(invocation_id, invocation, reply)
        else:
            self._read(self.clients.attach, invocation_id, reply)

    async def confirm_lead(self) -> None:
        """Return once what is read here now is not older than this call.

        Raises NotLeadingError. Cancelling is safe.
        """
        if self.role != "leader":
            self._check_takes()  # Reading is allowed while the log takes nothing.
        if self.barrier.needed(self.log):
            await self.barrier.passed()

    def output(self, invocation_id: InvocationId, reply: InvokeReply) -> None:
        """Have `reply` get an `Answer` with the invocation as it is now. Raises as `attach`."""
        if self.role != "leader":
            self._check_takes()  # Reading is allowed while the log takes nothing.
        self._read(self.clients.output, invocation_id, reply)

    def _read(self, look: Look, invocation_id: InvocationId, reply: InvokeReply) -> None:
        """Look once nobody else leads for sure: now, and raise; or later, and tell."""
        find = self.transaction.invocation
        if self.barrier.needed(self.log):
            self.barrier.read(partial(look_later, look, find, invocation_id, reply), reply)
        else:
            look(invocation_id, find(invocation_id), reply)

    def lose(self, error: PerdureError) -> None:
        """This node cannot lead the partition any more."""
        if self.role != "stopped":
            self._stop_for(error)
            self.clients.fail(NotLeadingError(f"partition {self.partition} stopped: {self.error}"))

    # The rest ------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Take and do nothing more."""
        self._close_timers()
        self.parked = None
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
        return partition_status(self, self._node, self._machine.progress())

    def detail(self) -> PartitionDetail:
        """The partition in full."""
        waiting = self._invoker.waiting_of(self.keeper)
        return partition_detail(self, self._node, self._machine.progress(), waiting)
