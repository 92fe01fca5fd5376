"""Keeping the logs of one node short: what the partition store holds durably, the log may forget.

Order matters: read how far each partition has been applied and written, sync the store, and only
then trim up to what was read. A crash at any point leaves a log that reaches back far enough. Where
snapshots are taken, what no snapshot has stays too: a partition is built anew from the two.
"""

from asyncio import AbstractEventLoop, Task, TimerHandle
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from ..core.errors import PerdureError, StorageCorruptError, StorageError
from ..core.storage.kv import KvStore
from ..core.tasks import TaskScope
from ..log.errors import LogError
from ..log.local.sync_runner import SyncRunner
from ..log.virtual_log import VirtualLog
from .processor import PartitionProcessor

_log = structlog.get_logger("log-trimmer")


class LogTrimmer:
    """Every interval: sync the partition store, then trim the logs behind it."""

    RECORDS_MIN: Final = 256
    """A log is left alone until so many records can go: each trim costs a write and a sync."""

    SEGMENTS_KEPT: Final = 256
    """More of a log's segments do not stay, however few records they hold: a start adds one."""

    RECLAIM_RECORDS: Final = 100_000
    """After so many trimmed records the disk is asked to give their space back at once."""

    def __init__(
        self,
        processors: Sequence[PartitionProcessor],
        *,
        store: KvStore,
        sync_runner: SyncRunner,
        loop: AbstractEventLoop,
        scope: TaskScope,
        interval_ns: int,
        keep_records: int,
        archived_lsn: Callable[[int], int | None],
        wanted_lsn: Callable[[PartitionProcessor], int],
        on_failure: Callable[[PerdureError], None],
        reclaim: Callable[[], None],
    ) -> None:
        """Do nothing before `start`.

        Args:
            store: what the partitions are applied to.
            sync_runner: syncs it beside the event loop.
            interval_ns: between the end of one round and the next.
            keep_records: so many of each log stay for people to look into.
            archived_lsn: how far snapshots have a partition; None where none are taken.
            wanted_lsn: what is to go as soon as it may, whatever stays else.
            on_failure: the store failed.
            reclaim: gives the space of trimmed records back; called beside the event loop.
        """
        self._processors = processors
        self._store = store
        self._sync_runner = sync_runner
        self._loop = loop
        self._scope = scope
        self._interval_seconds = interval_ns / 1e9
        self._keep_records = keep_records
        self._archived_lsn = archived_lsn
        self._wanted_lsn = wanted_lsn
        self._on_failure = on_failure
        self._reclaim = reclaim
        self._seen_before: list[tuple[int | None, int]] = [(None, 0) for _ in processors]
        self._trimmed = 0
        self._timer: TimerHandle | None = None
        self._task: Task[None] | None = None
        self._stopped = False

    def start(self) -> None:
        """Begin the rounds."""
        if not self._stopped:
            self._timer = self._loop.call_later(self._interval_seconds, self._round)

    def stop(self) -> None:
        """No more rounds; a sync that is running ends by itself."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        self._sync_runner.close()

    def _round(self) -> None:
        written = [(processor, processor.written_lsn) for processor in self._processors]
        unchanged = all(processor.durable_lsn == lsn for processor, lsn in written)
        seen = [
            (self._archived_lsn(processor.partition), self._wanted_lsn(processor))
            for processor in self._processors
        ]
        if unchanged and seen == self._seen_before:
            self.start()  # Nothing has happened since the last round.
            return
        self._seen_before = seen

        def synced(result: int | StorageError) -> None:
            if self._stopped:
                return
            if isinstance(result, StorageError):
                self._on_failure(result)
                return
            for processor, lsn in written:
                processor.durable_lsn = lsn
            self._task = self._scope.spawn(self._trim(), name="trim-logs")

        self._sync_runner.run(self._sync, synced)

    def _sync(self) -> int:
        self._store.sync()
        return 0

    async def _trim(self) -> None:
        for processor in self._processors:
            log = processor.log
            if log is None or processor.role == "follower":
                continue  # Who leads trims: others know less of who still needs what.
            target = log.committed_tail_lsn - 1 - self._keep_records
            segments = log.chain.segments
            many = len(segments) > self.SEGMENTS_KEPT
            if many:
                target = max(target, segments[-self.SEGMENTS_KEPT].base_lsn - 1)
            wanted_lsn = self._wanted_lsn(processor)
            target = min(max(target, wanted_lsn), processor.durable_lsn)
            archived_lsn = self._archived_lsn(processor.partition)
            if archived_lsn is not None:
                target = min(target, archived_lsn)
            try:
                before = _trim_point(log)
                soon = many or before < wanted_lsn
                if target - before >= (1 if soon else self.RECORDS_MIN):
                    trim_point = await log.trim(target)
                    self._trimmed += trim_point - before
                    _log.debug("log trimmed", partition=processor.partition, lsn=trim_point)
            except (LogError, StorageCorruptError) as error:
                # The next round tries again; a disk that failed has stopped the node already. A
                # damaged record that is applied is no reason to stop for those who work.
                _log.warning("log not trimmed", partition=processor.partition, reason=str(error))
        if self._stopped:
            return
        if self._trimmed < self.RECLAIM_RECORDS:
            self.start()
        else:
            self._trimmed = 0
            self._sync_runner.run(self._reclaim_now, self._reclaimed)

    def _reclaim_now(self) -> int:
        self._reclaim()
        return 0

    def _reclaimed(self, result: int | StorageError) -> None:
        if isinstance(result, StorageError) and not self._stopped:
            # Nothing was lost by it, and a disk in trouble says so at the next write.
            _log.warning("space of trimmed records not given back", reason=str(result))
        self.start()


def _trim_point(log: VirtualLog) -> int:
    """What is gone already, as far as the first segment can be looked at."""
    try:
        return log.trim_point_lsn
    except StorageCorruptError:
        return log.chain.first_lsn - 1
