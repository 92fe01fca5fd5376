"""Bringing a snapshot into the partition store, and when that is wanted.

A restore is atomic by its order: the mark that says so goes in and the progress row out in one
write; then the old rows go and the new ones come; the progress row, in one write with the mark's
removal, comes last. The store keeps a prefix of its writes over a crash, so whoever finds the mark
begins again, and whoever finds a progress row has all of its rows.
"""

from typing import Final

import msgspec

from ...core.errors import PerdureError
from ...core.storage.kv import KvStore, PutOrDelete
from ..context import PartitionRange
from ..tables import keys
from ..tables.aside import no_longer_aside
from .errors import (
    ForeignSnapshotError,
    SnapshotAheadError,
    SnapshotMissingError,
    SnapshotRefusedError,
)
from .manifest import Manifest
from .writer import partition_spans

_REASONS_SHOWN: Final = 5


class Situation(msgspec.Struct, frozen=True):
    """A partition before its replay.

    Attributes:
        applied_lsn: what the store has; 0 when nothing, also when a restore was interrupted.
        interrupted: a restore was begun and not finished.
        trim_point_lsn: the last LSN that the log does not have any more.
        tail_lsn: where the log ends.
        refill: what the store has is not to be gone on from, whatever it is.
    """

    partition: int
    partition_count: int
    applied_lsn: int
    interrupted: bool
    trim_point_lsn: int
    tail_lsn: int
    refill: bool = False

    @property
    def complete(self) -> bool:
        """Whether the store has something, and the log everything behind it."""
        reaches = self.applied_lsn > 0 and self.applied_lsn >= self.trim_point_lsn
        return reaches and not self.interrupted and not self.refill

    @property
    def from_the_beginning(self) -> bool:
        """Whether the log alone has it all."""
        return self.trim_point_lsn == 0


def check_usable(situation: Situation, manifest: Manifest) -> None:
    """See whether a snapshot leads to the log's end.

    Raises ForeignSnapshotError, SnapshotAheadError or SnapshotRefusedError.
    """
    if manifest.partition_count != situation.partition_count:
        raise ForeignSnapshotError(
            f"{manifest.name} was taken with {manifest.partition_count} partitions, and there are "
            f"{situation.partition_count}"
        )
    check_not_ahead(situation, manifest)
    if manifest.lsn < situation.trim_point_lsn:
        raise SnapshotRefusedError(
            f"{manifest.name} is too old: the log is trimmed up to LSN {situation.trim_point_lsn}"
        )


def check_not_ahead(situation: Situation, manifest: Manifest) -> None:
    """Raise SnapshotAheadError when a snapshot has applied what the log does not have."""
    if manifest.lsn >= situation.tail_lsn:
        raise SnapshotAheadError(
            f"partition {situation.partition}: the snapshot {manifest.name} was taken at LSN "
            f"{manifest.lsn}, but the log ends before LSN {situation.tail_lsn}: the log is older "
            "than its snapshots; restore the log, or move this partition's newer snapshots and "
            "its file latest away if what they hold is to be given up"
        )


def missing(situation: Situation, place: str, problems: list[PerdureError]) -> SnapshotMissingError:
    """The error for a partition that nothing leads to the log's end of.

    Args:
        place: where snapshots were looked for; empty when nowhere.
    """
    if not place:
        found = "no place for snapshots is set"
        way = "set snapshots.directory to where this cluster keeps them and restart"
    elif problems:
        shown = "; ".join(str(problem) for problem in problems[:_REASONS_SHOWN])
        more = len(problems) - _REASONS_SHOWN
        found = f"none in {place} can be used: {shown}" + (f"; and {more} more" * (more > 0))
        way = "bring back a snapshot of this partition from a copy and restart"
    else:
        found = f"there is none in {place}"
        way = "set snapshots.directory to where they are, or bring one back, and restart"
    return SnapshotMissingError(
        f"partition {situation.partition}: the store has applied LSN {situation.applied_lsn} and "
        f"the log is trimmed up to LSN {situation.trim_point_lsn}; what lies between is only in a "
        f"snapshot, and {found}. Ways out: {way}; or restore the base directory from a backup of "
        "one time. The other partitions go on"
    )


class StoreRestore:
    """One restore into a store; every method is for the thread that writes to the store.

    All of them raise StorageError.
    """

    def __init__(self, store: KvStore, own: PartitionRange) -> None:
        """Take the store and the partition's range."""
        self._store = store
        self._own = own
        self._mark = keys.RESTORING + own.first
        self._progress = keys.PROGRESS + own.first

    @property
    def interrupted(self) -> bool:
        """Whether a restore was begun and not finished."""
        return self._store.get(self._mark) is not None

    def begin(self, name: str) -> None:
        """Mark the partition as being restored, and clear it."""
        self._store.write([(self._mark, name.encode()), (self._progress, None)])
        for start, end in partition_spans(self._own):
            # A deleted range costs later reads something, so empty ones are left alone.
            if next(iter(self._store.scan(start, end)), None) is not None:
                self._store.delete_range(start, end)

    def add(self, rows: list[PutOrDelete]) -> None:
        """Write rows of the snapshot."""
        self._store.write(rows)

    def finish(self, progress: bytes) -> None:
        """Have the partition be as of the snapshot."""
        # Whatever was wrong with the rows before, these are another copy's.
        counts = no_longer_aside(self._own.first)
        self._store.write([(self._progress, progress), (self._mark, None), counts])

    def give_up(self) -> None:
        """Have the partition be empty, as new: the log has everything."""
        self.begin("")
        self._store.write([(self._mark, None), no_longer_aside(self._own.first)])
