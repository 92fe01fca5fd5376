"""The snapshots of this node's partitions: taken on schedule or on request, restored at start.

Everything that waits for a disk runs beside the event loop, a bounded step at a time, and one
snapshot is taken at a time. Whatever fails here is reported and tried again; it never stops the
node, and a failed restore stops its partition alone.
"""

from asyncio import AbstractEventLoop, Lock, TimerHandle
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec
import structlog

from ...core.clock import Clock
from ...core.errors import PerdureError, StorageError
from ...core.pauses import pause
from ...core.random import Random
from ...core.storage.kv import KvStore
from ...core.tasks import TaskScope
from ...log.local.sync_runner import SyncRunner
from ...log.virtual_log import VirtualLog
from ..processor import PartitionProcessor
from ..same_time import trim_point_for
from .archive import Archive
from .errors import (
    ForeignSnapshotError,
    SnapshotAheadError,
    SnapshotCorruptError,
    SnapshotRefusedError,
    SnapshotsOffError,
)
from .manifest import ClusterName, Manifest
from .newest import NewestSnapshots, SnapshotFigures, latest_of, tell_unknown
from .reader import SnapshotReader
from .repository import SnapshotRepository
from .restore import Situation, StoreRestore, check_not_ahead, check_usable, missing
from .step_runner import StepRunner
from .writer import SnapshotWriter

_log = structlog.get_logger("snapshots")
_TAKES: Final = ("leader", "candidate")


class SnapshotSettings(msgspec.Struct, frozen=True):
    """When snapshots are taken, and how many stay.

    Attributes:
        interval_records: after so many records; 0 for never.
        interval_ns: after so long, if anything was applied; 0 for never.
        kept: per partition.
    """

    interval_records: int
    interval_ns: int
    kept: int


class Snapshots:
    """Takes, lists and restores snapshots; without a repository it refuses to.

    Attributes:
        failures: snapshots that could not be taken so far.
        wanted_lsn: what is due to be in a partition's snapshot, whatever the schedule says.
    """

    CHECK_SECONDS: Final = 1.0
    """How often it is looked whether a snapshot is due."""

    RETRY_SECONDS: Final = 30.0
    """How long a partition is left alone after a snapshot failed."""

    def __init__(
        self,
        *,
        repository: SnapshotRepository | None,
        settings: SnapshotSettings,
        store: KvStore,
        node: str,
        loop: AbstractEventLoop,
        clock: Clock,
        random: Random,
        scope: TaskScope,
        runner: SyncRunner,
    ) -> None:
        """Do nothing before `open`.

        Args:
            repository: where snapshots are kept; None to take none.
            store: what the partitions are applied to.
            scope: for snapshots on schedule.
            runner: runs the steps beside the loop.
        """
        self._repository = repository
        self._settings = settings
        self._store = store
        self._node = node
        self._loop = loop
        self._clock = clock
        self._random = random
        self._scope = scope
        self._steps = StepRunner(loop, runner, self.place)
        self._archive: Archive | None = None
        self._claimed = False
        self._newest = NewestSnapshots()
        self._started_ns = clock.time_ns()
        self._not_before_ns: dict[int, int] = {}
        self._processors: Sequence[PartitionProcessor] = ()
        self._taking = Lock()
        self._writer: SnapshotWriter | None = None
        self._round_running = False
        self._timer: TimerHandle | None = None
        self._stopped = False
        self.failures = 0
        self.wanted_lsn: Callable[[PartitionProcessor], int] = lambda _: 0

    # Start and stop ------------------------------------------------------------------------------

    async def open(self, cluster: ClusterName) -> None:
        """Learn whose snapshots these are, before anything else.

        Raises ForeignSnapshotError when the repository keeps those of another cluster. Other
        trouble is put off until a snapshot is needed.
        """
        if self._repository is None:
            return
        self._archive = Archive(self._repository, cluster, self._node)
        try:
            await self._claim()
        except ForeignSnapshotError:
            raise
        except PerdureError as error:
            _log.error("no snapshots for now", code=error.code, reason=str(error))

    async def _claim(self) -> Archive:
        """The archive, certainly this cluster's. Raises what `Archive.claim` does."""
        archive = self._archive
        if archive is None:
            raise SnapshotsOffError
        if not self._claimed:
            await self._steps.step(archive.claim)
            self._claimed = True
        return archive

    def start(self, processors: Sequence[PartitionProcessor]) -> None:
        """Begin to take snapshots on schedule; every partition was prepared."""
        self._processors = processors
        if self._archive is not None and not self._stopped:
            self._timer = self._loop.call_later(self.CHECK_SECONDS, self._check)

    def stop(self) -> None:
        """Take no more; one that is being taken is given up. The store may be closed after this."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._writer is not None:
            self._writer.abandon()
        self._steps.stop()

    # Schedule ------------------------------------------------------------------------------------

    def _check(self) -> None:
        self._timer = self._loop.call_later(self.CHECK_SECONDS, self._check)
        if not self._round_running and any(map(self._needs_care, self._processors)):
            self._round_running = True
            self._scope.spawn(self._round(), name="take-snapshots")

    def _needs_care(self, processor: PartitionProcessor) -> bool:
        if self._clock.time_ns() < self._not_before_ns.get(processor.partition, 0):
            return False
        return self._newest.is_to_be_looked_for(processor) or self._is_due(processor)

    def _is_due(self, processor: PartitionProcessor) -> bool:
        last = self._newest.get(processor.partition)
        last_lsn = 0 if last is None else last.lsn
        records = processor.written_lsn - last_lsn
        if not processor.leading or records <= 0:
            return False
        now_ns = self._clock.time_ns()
        settings = self._settings
        if last_lsn < self.wanted_lsn(processor) or 0 < settings.interval_records <= records:
            return True
        since_ns = self._started_ns if last is None else last.created_ns
        # A clock that was set back must not put the next one off for ever.
        return 0 < settings.interval_ns <= now_ns - min(since_ns, now_ns)

    async def _round(self) -> None:
        """Look for what earlier leaders have taken, and take what is due after that."""
        try:
            for processor in filter(self._needs_care, tuple(self._processors)):
                try:
                    if self._newest.is_to_be_looked_for(processor):
                        await self._look(processor)
                    if self._is_due(processor):
                        await self.create(processor)
                except PerdureError as error:
                    if self._stopped:
                        return
                    retry_ns = int(self.RETRY_SECONDS * 1e9)
                    self._not_before_ns[processor.partition] = self._clock.time_ns() + retry_ns
                    _log.error(
                        "snapshot not taken",
                        partition=processor.partition,
                        code=error.code,
                        reason=str(error),
                    )
        finally:
            self._round_running = False

    async def _look(self, processor: PartitionProcessor) -> None:
        """Find what earlier leaders have taken. Raises what `latest_of` does."""
        archive, epoch = await self._claim(), processor.epoch
        latest = await latest_of(archive, processor.partition, self._steps)
        self._newest.found(processor, epoch, latest)

    # Taking --------------------------------------------------------------------------------------

    async def create(self, processor: PartitionProcessor) -> tuple[Manifest, bool]:
        """Take a snapshot of a partition as it is now; whether one was needed.

        The newest one is given when nothing was applied since. Cancelling leaves no snapshot, or
        a whole one.

        Raises SnapshotsOffError, SnapshotRefusedError, SnapshotRepositoryError,
        ForeignSnapshotError, SnapshotCorruptError or SnapshotFormatError.
        """
        async with self._taking:
            try:
                return await self._create(processor)
            except StorageError as error:
                self.failures += 1
                raise SnapshotRefusedError(
                    f"partition {processor.partition} cannot be read for a snapshot: {error}"
                ) from error
            except (SnapshotsOffError, SnapshotRefusedError):
                raise
            except PerdureError:
                self.failures += 1
                raise

    async def _create(self, processor: PartitionProcessor) -> tuple[Manifest, bool]:
        archive = await self._claim()
        partition = processor.partition
        if processor.role not in _TAKES:
            raise SnapshotRefusedError(
                f"partition {partition} is {processor.role} on this node, and a snapshot is taken "
                "of one that works"
            )
        last = self._newest.get(partition)
        if last is not None and last.lsn == processor.written_lsn:
            return last, False
        writer = self._writer = SnapshotWriter(
            archive,
            self._store,
            processor.own,
            log=partition,
            node=self._node,
            random_bits=self._random.bits(32),
            created_ns=self._clock.time_ns(),
        )
        try:
            while not await self._timed_step(writer):
                pass
        finally:
            self._writer = None
            writer.abandon()
        manifest = writer.manifest
        assert manifest is not None, "a snapshot is complete and has no metadata"
        self._newest.use(manifest)
        _log.info(
            "snapshot taken",
            partition=partition,
            lsn=manifest.lsn,
            rows=manifest.rows,
            bytes=manifest.bytes,
        )
        try:
            await self._steps.step(lambda: archive.remove_old(partition, self._settings.kept))
        except PerdureError as error:
            _log.warning("old snapshots not removed", partition=partition, reason=str(error))
        return manifest, True

    async def _timed_step(self, writer: SnapshotWriter) -> bool:
        """One step, and then as long a pause: serving has the interpreter for half of the time."""
        started_ns = self._clock.monotonic_ns()
        complete = await self._steps.step(writer.step)
        if not complete:
            await pause(self._loop, (self._clock.monotonic_ns() - started_ns) / 1e9)
        return complete

    # Looking -------------------------------------------------------------------------------------

    @property
    def place(self) -> str:
        """Where snapshots are kept; empty when none are taken."""
        return "" if self._repository is None else self._repository.place

    def last(self, partition: int) -> Manifest | None:
        """The newest snapshot that this node knows of a partition."""
        return self._newest.get(partition)

    def archived_lsn(self, partition: int) -> int | None:
        """How far a snapshot has it all, 0 for not at all; None when none are taken here."""
        if self._repository is None:
            return None
        last = self._newest.get(partition)
        return 0 if last is None else last.lsn

    def figures(self) -> list[SnapshotFigures]:
        """Of each partition that is looked after here and has a snapshot."""
        return self._newest.figures(self._processors, self._clock.time_ns())

    async def list_complete(
        self, partitions: Sequence[int]
    ) -> tuple[list[Manifest], list[PerdureError]]:
        """All snapshots of these partitions, newest first, and what cannot be used.

        Raises SnapshotsOffError, SnapshotRepositoryError, ForeignSnapshotError,
        SnapshotCorruptError or SnapshotFormatError.
        """
        archive = await self._claim()
        found: list[Manifest] = []
        problems: list[PerdureError] = []
        for partition in partitions:
            complete, wrong = await self._steps.step(partial(archive.complete, partition))
            found += complete
            problems += wrong
        return found, problems

    # Restoring -----------------------------------------------------------------------------------

    async def prepare(self, processor: PartitionProcessor, log: VirtualLog) -> None:
        """Before the replay: have the partition's store begin where the log goes on.

        What can be built neither from the log nor from a snapshot is stopped, alone.

        Raises StorageError when the store fails, and what the log raises.
        """
        restore = StoreRestore(self._store, processor.own)
        last = await self._latest(processor.partition)
        # Another node may lead meanwhile, and take snapshots: the tail is looked for after them.
        tail_lsn = (await log.find_tail()).lsn
        situation = Situation(
            partition=processor.partition,
            partition_count=processor.own.count,
            applied_lsn=processor.written_lsn,
            interrupted=restore.interrupted,
            trim_point_lsn=trim_point_for(log, processor.written_lsn),
            tail_lsn=tail_lsn,
            refill=processor.aside is not None,
        )
        try:
            if last is not None:
                check_not_ahead(situation, last)
                self._newest.use(last)
            if situation.complete:
                return
            problems = await self._restore_newest(processor, log, restore, situation)
        except SnapshotAheadError as error:
            processor.lose(error)
            return
        if problems is None:
            return
        for problem in problems:
            _log.warning(
                "snapshot not usable",
                partition=situation.partition,
                code=problem.code,
                reason=str(problem),
            )
        if not situation.from_the_beginning:
            processor.lose(missing(situation, self.place, problems))
        elif restore.interrupted or situation.refill:
            restore.give_up()
            processor.read_progress()

    async def _latest(self, partition: int) -> Manifest | None:
        """How far the archive is; None when that is not known."""
        if self._archive is None:
            return None
        try:
            return await latest_of(await self._claim(), partition, self._steps)
        except PerdureError as error:
            tell_unknown(partition, error)
            return None

    async def _restore_newest(
        self,
        processor: PartitionProcessor,
        log: VirtualLog,
        restore: StoreRestore,
        situation: Situation,
    ) -> list[PerdureError] | None:
        """Restore the newest snapshot that can be used; else why there is none.

        Raises StorageError when the store fails, SnapshotAheadError, and what the log raises.
        """
        if self._archive is None:
            return []
        problems: list[PerdureError] = []
        tried: set[str] = set()
        while True:
            try:
                archive = await self._claim()
                found, wrong = await self._steps.step(
                    partial(archive.complete, situation.partition)
                )
            except PerdureError as error:
                return [*problems, error]
            # Whoever leads takes new ones meanwhile, and removes those that were found before.
            found = [manifest for manifest in found if manifest.name not in tried]
            problems += [] if tried else wrong
            if not found:
                return problems
            tried.update(manifest.name for manifest in found)
            situation = msgspec.structs.replace(situation, tail_lsn=(await log.find_tail()).lsn)
            if await self._restore_one_of(processor, archive, found, restore, situation, problems):
                return None

    async def _restore_one_of(
        self,
        processor: PartitionProcessor,
        archive: Archive,
        found: list[Manifest],
        restore: StoreRestore,
        situation: Situation,
        problems: list[PerdureError],
    ) -> bool:
        """Restore the first of some snapshots that can be used; what is wrong is added."""
        for manifest in found:
            try:
                check_usable(situation, manifest)
                reader = SnapshotReader(archive, manifest)
                await self._verify(reader)
                await self._load(reader, restore)
            except (SnapshotAheadError, StorageError):
                raise
            except PerdureError as error:
                problems.append(error)
                if isinstance(error, SnapshotCorruptError):
                    await self._mark_damaged(archive, manifest, error)
                continue
            processor.read_progress()
            # Of the newest one it was only the metadata that had been looked at.
            self._newest.use(manifest)
            _log.info(
                "snapshot restored",
                partition=manifest.partition,
                lsn=manifest.lsn,
                rows=manifest.rows,
                bytes=manifest.bytes,
            )
            for reason in map(str, problems):
                _log.error("newer snapshot skipped", partition=manifest.partition, reason=reason)
            return True
        return False

    async def _mark_damaged(
        self, archive: Archive, manifest: Manifest, error: SnapshotCorruptError
    ) -> None:
        """Let nothing rest on a damaged snapshot: not the log's trim point, not the next start."""
        self._newest.forget(manifest)
        try:
            await self._steps.step(lambda: archive.mark_damaged(manifest, str(error)))
        except PerdureError as failure:
            _log.warning(
                "snapshot not marked as damaged",
                partition=manifest.partition,
                reason=str(failure),
            )

    async def _verify(self, reader: SnapshotReader) -> None:
        """Compare all checksums: nothing is cleared for a damaged snapshot."""
        steps = reader.verify()
        while await self._steps.step(lambda: next(steps, _ENDED)) is not _ENDED:
            pass

    async def _load(self, reader: SnapshotReader, restore: StoreRestore) -> None:
        blocks = reader.blocks()
        restore.begin(reader.manifest.name)
        while (rows := await self._steps.step(lambda: next(blocks, None))) is not None:
            restore.add(rows)
        restore.finish(reader.manifest.progress)
        # A crash would begin again without it; the trimmer syncs before it trims.
        await self._steps.begin(self._store.sync)


_ENDED: Final = object()
