"""All partitions of this node: start, the end of each turn, and finding the one for a key."""

from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping
from functools import partial

import structlog
from msgspec.structs import replace

from ..core.clock import Clock
from ..core.errors import PerdureError, StorageCorruptError, StorageError
from ..core.ids import InvocationId, LogId, PartitionKey, partition_key_of, partition_of
from ..core.pauses import pause
from ..core.random import Random
from ..core.storage.kv import KvStore, PutOrDelete
from ..core.tasks import TaskScope
from ..log.errors import LogError
from ..log.logs import Logs
from ..log.virtual_log import VirtualLog
from ..metadata.api import MetadataStore, VersionedValue
from ..metadata.values import read_modify_write
from .context import PartitionRange
from .deployments import SCHEMA_KEY, Deployment, Schema, Targets
from .drivers import Drivers
from .errors import SetAsideError
from .handling import HandlingDefaults
from .invoker.invoker import Invoker
from .invoker.silence import tick_ns_for
from .leadership import claim_leadership
from .listener import ProcessorListener
from .log_trimmer import LogTrimmer
from .machine import RecordFailedError
from .minting import Minter
from .partition import Elsewhere, Partition
from .processor import PartitionProcessor
from .read_barrier import barrier_for
from .records import Deliver
from .refilling import check_refill
from .role_changes import Placement, RoleChanges
from .schema_value import decode_schema, encode_schema
from .skipping import KnownElsewhere, skip_record
from .snapshots.service import Snapshots
from .status import PartitionDetail, PartitionStatus
from .tables import keys
from .tables.aside import Aside, write_aside
from .tables.skipped import Skip
from .timers import Timers

_log = structlog.get_logger("partitions")


class PartitionManager:
    """Owns the node's partition processors, their common store and the known deployments.

    Attributes:
        elsewhere: the partitions that other nodes lead; None where this node leads them all.
        latest_elsewhere_ns: gives the latest time that other nodes' clocks and records are known to
            have, 0 where there are none.
        schema_version: of the deployments that are known, 0 before the first.
    """

    def __init__(
        self,
        *,
        partition_count: int,
        node: str,
        store: KvStore,
        metadata: MetadataStore,
        loop: AbstractEventLoop,
        clock: Clock,
        random: Random,
        defaults: HandlingDefaults,
        scope: TaskScope,
        on_failure: Callable[[PerdureError], None],
        on_parked: Callable[[PartitionProcessor, RecordFailedError], None],
    ) -> None:
        """Read every partition's progress.

        Args:
            partition_count: how many partitions the cluster has.
            defaults: how invocations are handled whose handlers say nothing.
            store: the partition store, common to all partitions of the node.
            scope: for the rare work that waits, such as recovering a log.
            on_failure: the store failed; the node must stop.
            on_parked: a record cannot be applied; the rest goes on.
        """
        self._partition_count = partition_count
        self._node = node
        self._store = store
        self._metadata = metadata
        self._loop, self._clock = loop, clock
        self._on_failure, self._on_parked = on_failure, on_parked
        self._scope = scope
        self.elsewhere: Elsewhere | None = None
        self.latest_elsewhere_ns: Callable[[], int] = int
        self._dirty: list[PartitionProcessor] = []
        self._failed = self._stopping = False
        self._schema = Schema()
        self.schema_version = 0
        self._defaults = defaults
        tick_ns = tick_ns_for(defaults.inactivity_timeout_ns, defaults.abort_timeout_ns)
        self.invoker = Invoker(self._find_targets, tick_ns)
        self.minter = Minter(clock, random)
        self.targets = Targets(self._schema, (), defaults)

        self._roles = roles = RoleChanges(
            self,
            partition_count=partition_count,
            node=node,
            metadata=metadata,
            loop=loop,
            clock=clock,
            random=random,
            scope=scope,
        )

        listener = ProcessorListener(
            dirty=self._dirty.append,
            parked=self._parked,
            log_sealed=roles.log_sealed,
            leads=self._leads,
            superseded=roles.superseded,
            records_lost=roles.lost_records,
        )

        def make_processor(number: int) -> PartitionProcessor:
            return PartitionProcessor(
                partition_range(number, partition_count),
                node=node,
                store=store,
                random=random,
                invoker=self.invoker,
                minter=self.minter,
                targets=lambda: self.targets,
                make_timers=partial(Timers, loop, clock),
                make_drivers=self._make_drivers,
                carrier=self,
                listener=listener,
                make_barrier=partial(barrier_for, scope=scope, loop=loop),
            )

        self._snapshots: Snapshots | None = None
        self._make_processor = make_processor
        self.processors = [make_processor(number) for number in range(partition_count)]

    def _make_drivers(self, processor: PartitionProcessor) -> Drivers:
        return Drivers(
            processor.own,
            store=self._store,
            loop=self._loop,
            clock=self._clock,
            carrier=self,
            propose=processor.propose_own,
            propose_now=processor.propose_now,
            followed=lambda: processor.log is not None and processor.log.shared,
        )

    async def start(
        self,
        logs: Logs,
        snapshots: Snapshots | None = None,
        placement: Mapping[int, Placement] | None = None,
    ) -> None:
        """Claim, restore where need be, replay and announce every partition.

        On return all of them lead or have stopped. With a placement, begin to move there instead,
        and return at once; what it does not name is absent. Raises what logs, metadata and stores
        raise.
        """
        await self._load_schema()
        self._snapshots = snapshots
        self._roles.logs = logs
        if placement is not None:
            self._roles.apply(placement)
            return
        self._roles.wants_all_to_lead()
        for processor in self.processors:
            claim = await claim_leadership(self._metadata, processor.partition, self._node)
            log = await logs.open(LogId(processor.partition), create=True)
            await self.prepare(processor, log)
            if processor.role != "stopped":
                self._roles.know_skips(processor, log, claim)
            if processor.role != "stopped":
                await self._roles.take_lead(processor, log, claim.epoch)
        while any(processor.role == "candidate" for processor in self.processors):
            if self._failed:
                raise StorageError("the disk failed while the partitions started")
            # Not turn by turn: the announcements wait for a disk, and nobody is served meanwhile.
            await pause(self._loop, 0.001)

    @property
    def restores(self) -> bool:
        """Whether there is something to restore from, or that knows why not."""
        return self._snapshots is not None

    async def prepare(self, processor: PartitionProcessor, log: VirtualLog) -> None:
        """Restore a partition from a snapshot if the log alone does not lead to its end.

        What can be built from neither is stopped, and so is what was set aside. Raises
        what `Snapshots.prepare` does.
        """
        aside = processor.aside
        if aside is not None and not (aside.refill and self.restores):
            processor.lose(SetAsideError(aside.error))
        elif self._snapshots is not None:
            await self._snapshots.prepare(processor, log)

    def apply_placement(self, placement: Mapping[int, Placement]) -> None:
        """Have these partitions be absent, followers or leaders here; those not named stay.

        May be called at any time after `start`, also while earlier changes are under way: the last
        one wins. The same once more does nothing, but for one thing: where another node has taken
        the lead since, ``leader`` asks for it back. So call it with each new placement, and not
        again and again with an old one.

        Who stops leading takes and acknowledges nothing more when this returns: whoever waits for
        an answer has been told NotLeadingError, which is retryable.
        """
        if not self._failed:
            self._roles.apply(placement)

    def read_anew(self, partition: int) -> PartitionProcessor:
        """Have an idle partition begin where the store is, as after a restart."""
        processor = self.processors[partition] = self._make_processor(partition)
        return processor

    async def shorten(self, log: VirtualLog, applied_lsn: int) -> None:
        """Let old segments go before this start adds one more.

        A node that ends again and again before its first trim would fill the chain up, and then
        could not start any more.
        """
        segments = log.chain.segments
        if len(segments) <= 2 * LogTrimmer.SEGMENTS_KEPT:
            return
        self._store.sync()  # What was found in it may not have been synced before.
        target = min(applied_lsn, segments[-LogTrimmer.SEGMENTS_KEPT].base_lsn - 1)
        snapshots = self._snapshots
        archived_lsn = None if snapshots is None else snapshots.archived_lsn(log.log)
        try:
            await log.trim(target if archived_lsn is None else min(target, archived_lsn))
        except (LogError, StorageCorruptError) as error:
            _log.warning("log not trimmed", partition=log.log, reason=str(error))

    def finish_turn(self) -> None:
        """Write what this turn's commits came to, then carry out their effects."""
        dirty = self._dirty
        if not dirty or self._failed:
            return
        taken = dirty.copy()
        # The processors hold `dirty.append`, so the list must stay the same one.
        dirty.clear()
        operations: list[PutOrDelete] = []
        for processor in taken:
            operations += processor.take_writes()
        try:
            self._store.write(operations)
        except StorageError as error:
            self.fail(error)
            return
        for processor in taken:
            processor.run_effects()

    def fail(self, error: PerdureError) -> None:
        """The disk failed: acknowledge nothing more."""
        if not self._failed:
            self._failed = True
            for processor in self.processors:
                processor.stop()
                processor.clients.fail(error)
            self._on_failure(error)

    # Between partitions --------------------------------------------------------------------------

    def _parked(self, processor: PartitionProcessor, error: RecordFailedError) -> None:
        if processor.aside is not None:
            self._set_aside(processor, processor.aside)
        self._on_parked(processor, error)
        self._roles.parked()

    def _leads(self, leader: PartitionProcessor) -> None:
        """A partition takes messages again: have the others send what it may have lost."""
        self.resend(leader.own.number)
        if self.elsewhere is not None:
            self.elsewhere.leads_here(leader.own.number)

    def resend(self, destination: int) -> None:
        """Have the partitions that lead here send what a partition may have lost."""
        for processor in self.processors:
            if processor.leading:
                processor.drivers.shipments.resend(destination)

    def carry(self, destination: int, deliver: Deliver) -> bool:
        """Hand messages to a partition; False when it takes none now and will ask for them."""
        if self.elsewhere is not None:
            return self.elsewhere.carry(destination, deliver)
        return self.processors[destination].propose_now(deliver)

    def taken(self, source: int, destination: int, last: int, gap: bool) -> None:
        """Tell a source that a destination has applied everything up to the message `last`."""
        if self.elsewhere is not None:
            self.elsewhere.taken(source, destination, last, gap)
        else:
            self.processors[source].drivers.shipments.taken(destination, last, gap)

    # Finding the partition -----------------------------------------------------------------------

    def partition_for(self, partition_key: PartitionKey) -> Partition:
        """The partition that a key belongs to, wherever it is led."""
        processor = self.processors[partition_of(partition_key, self._partition_count)]
        elsewhere = self.elsewhere
        return processor if elsewhere is None else elsewhere.partition(processor.partition)

    def asked_ns(self, partition: int) -> int:
        """The time at which a request for a partition is said to be asked, for what expires.

        This node's clock, but not behind a time that other nodes' clocks or records are known to
        have: a clock that was ahead while its node led has put the time of records ahead for good,
        and what was asked just now would seem to be hours old.
        """
        record_time_ns = self.processors[partition].record_time_ns
        return max(self._clock.time_ns(), record_time_ns, self.latest_elsewhere_ns())

    def latest_record_ns(self) -> int:
        """The latest time of any record that was applied here."""
        return max((processor.record_time_ns for processor in self.processors), default=0)

    def is_elsewhere(self, partition: int) -> bool:
        """Whether another node leads the partition, or nobody, so that its rows here may be old."""
        return self.elsewhere is not None and not self.processors[partition].leading

    def processor_for(self, partition_key: PartitionKey) -> PartitionProcessor:
        """The processor of the partition that a key belongs to."""
        return self.processors[partition_of(partition_key, self._partition_count)]

    def processor_of(self, invocation_id: InvocationId) -> PartitionProcessor:
        """The processor of the partition that an invocation lives in."""
        return self.processor_for(partition_key_of(invocation_id))

    # Deployments ---------------------------------------------------------------------------------

    async def _load_schema(self) -> None:
        value = await self._metadata.get(SCHEMA_KEY)
        if value is not None:
            self.use_schema(value)

    def use_schema(self, stored: VersionedValue) -> None:
        """Know the deployments that are stored; what is not newer changes nothing.

        Raises StorageCorruptError.
        """
        if stored.version > self.schema_version:
            self._use_schema(stored.version, decode_schema(stored.value))

    def _use_schema(self, version: int, schema: Schema) -> None:
        if version <= self.schema_version:
            return
        self.schema_version, self._schema = version, schema
        self.invoker.set_schema(schema)
        self._find_targets()

    def _find_targets(self) -> None:
        connected = {session.deployment for session in self.invoker.sessions}
        self.targets = Targets(self._schema, connected, self._defaults)

    async def register(self, deployment: Deployment) -> None:
        """Make a deployment known, durably.

        Raises DeploymentConflictError or ServiceKindChangedError, and StorageError when the
        metadata's disk failed, which stops the node. Cancelling may leave it registered.
        """
        schema = Schema()

        def change(current: VersionedValue | None) -> bytes | None:
            nonlocal schema
            known = Schema() if current is None else decode_schema(current.value)
            schema = known.register(deployment)
            return None if schema is known else encode_schema(schema)

        try:
            stored = await read_modify_write(self._metadata, SCHEMA_KEY, change)
        except StorageError as error:
            self.fail(error)
            raise
        assert stored is not None, "there is a schema once something is registered"
        self._use_schema(stored.version, schema)

    # Parked --------------------------------------------------------------------------------------

    async def skip(
        self,
        skip: Skip,
        partition: int,
        elsewhere: KnownElsewhere,
        *,
        accept_loss: bool,
        dry_run: bool,
    ) -> tuple[Skip, bool]:
        """Have a partition that is parked here go on without its record; see `skip_record`."""
        processor = self.processors[partition]
        decided = await skip_record(
            self._metadata,
            processor,
            skip,
            elsewhere=elsewhere,
            accept_loss=accept_loss,
            dry_run=dry_run,
        )
        if not dry_run:
            await self._roles.look_at_decision(processor)
        return decided

    def _set_aside(self, processor: PartitionProcessor, aside: Aside) -> None:
        """Before anybody is told: what is applied may be lost with the process, this may not."""
        try:
            write_aside(self._store, processor.own.first, aside)
        except StorageError as error:
            self.fail(error)

    def refill(self, partition: int) -> None:
        """Have a copy that has stopped begun anew from a snapshot, or from the log.

        Its rows stay until it is certain that either leads to the log's end. When this returns, it
        is certain that it will be done, also after a crash; raises RefillRefusedError.
        """
        processor = self.processors[partition]
        check_refill(processor, self._node, stopping=self._failed or self._stopping)
        before = processor.aside or Aside(0, processor.error)
        self._set_aside(processor, replace(before, refill=True))
        if not self._failed:
            self._roles.begin_again(processor)

    # Looking in ----------------------------------------------------------------------------------

    @property
    def schema(self) -> Schema:
        """All deployments that are known."""
        return self._schema

    def partitions(self) -> list[PartitionStatus]:
        """How all partitions are."""
        return [processor.status() for processor in self.processors]

    def unserved(self) -> dict[int, int]:
        """How many invocations of each partition wait for another worker to come; without zeros."""
        found = self.invoker.unserved()
        counts = {item.partition: found[item.keeper] for item in self.processors}
        return {partition: count for partition, count in counts.items() if count}

    def partition(self, partition: int) -> PartitionDetail | None:
        """One partition in full, None if there is no such partition."""
        if not 0 <= partition < len(self.processors):
            return None
        return self.processors[partition].detail()

    def in_flight(self) -> int:
        """Requests taken and not answered yet."""
        return sum(len(processor.clients) for processor in self.processors)

    def stop(self, error: PerdureError) -> None:
        """Take and do nothing more; whoever still waits is told `error`."""
        self._stopping = True
        for processor in self.processors:
            processor.stop()
            processor.clients.fail(error)


def partition_range(number: int, count: int) -> PartitionRange:
    """The part of the key space that partition `number` of `count` has."""
    pack = keys.PARTITION_KEY.pack
    last = _range_start(number + 1, count) - 1
    return PartitionRange(number, count, pack(_range_start(number, count)), pack(last))


def _range_start(number: int, count: int) -> int:
    """The first partition key of partition `number`; inverse of `ids.partition_of`."""
    return -(-(number << 64) // count)
