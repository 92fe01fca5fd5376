"""The newest snapshot of each partition, as far as this node knows: taken here, or found."""

from collections.abc import Iterable

import msgspec
import structlog

from ...core.errors import PerdureError
from ..processor import PartitionProcessor
from .archive import Archive
from .errors import SnapshotRefusedError, SnapshotRepositoryError
from .manifest import Manifest
from .step_runner import StepRunner

_log = structlog.get_logger("snapshots")


class SnapshotFigures(msgspec.Struct, frozen=True):
    """A partition's newest snapshot at scrape time."""

    partition: int
    lsn: int
    age_seconds: float


class NewestSnapshots:
    """What trimming goes by, and what is listed of a partition."""

    def __init__(self) -> None:
        """Know of none."""
        self._newest: dict[int, Manifest] = {}
        self._looked: dict[int, int] = {}

    def get(self, partition: int) -> Manifest | None:
        """The newest one of a partition that this node knows of."""
        return self._newest.get(partition)

    def use(self, manifest: Manifest) -> None:
        """This is the newest one: it was taken here, or the partition was built from it."""
        self._newest[manifest.partition] = manifest

    def forget(self, manifest: Manifest) -> None:
        """It counts for nothing any more."""
        newest = self._newest.get(manifest.partition)
        if newest is not None and newest.name == manifest.name:
            del self._newest[manifest.partition]

    def is_to_be_looked_for(self, processor: PartitionProcessor) -> bool:
        """Whether a partition has come to be led here, and others may have taken snapshots before.

        Whoever follows does not hear of those. One look per lead is enough: a node that leads
        later trims nothing of what this one holds to be its log.
        """
        return processor.leading and self._looked.get(processor.partition) != processor.epoch

    def found(self, processor: PartitionProcessor, epoch: int, latest: Manifest | None) -> None:
        """What was there to be found after the lead of an epoch had begun.

        Everybody who led before has applied less than who leads now. So one that has more is of
        another history of the log, or of a later leader that this one has not heard of yet: it is
        no reason to trim anything.
        """
        self._looked[processor.partition] = epoch
        newest = self._newest.get(processor.partition)
        if (
            latest is not None
            and latest.lsn <= processor.written_lsn
            and (newest is None or newest.lsn < latest.lsn)
        ):
            self._newest[processor.partition] = latest

    def figures(
        self, processors: Iterable[PartitionProcessor], now_ns: int
    ) -> list[SnapshotFigures]:
        """Of each partition that has a snapshot; not of those that others lead and look after."""
        return [
            SnapshotFigures(processor.partition, last.lsn, max(0, now_ns - last.created_ns) / 1e9)
            for processor in processors
            if processor.role not in ("absent", "follower")
            and (last := self._newest.get(processor.partition)) is not None
        ]


async def latest_of(archive: Archive, partition: int, steps: StepRunner) -> Manifest | None:
    """The snapshot that an archive's pointer names; None where that is none, or unusable.

    Raises SnapshotRepositoryError, or SnapshotRefusedError at the node's end.
    """
    try:
        return await steps.step(lambda: archive.latest(partition))
    except (SnapshotRepositoryError, SnapshotRefusedError):
        raise
    except PerdureError as error:
        # It stays like that until there is a new one.
        tell_unknown(partition, error)
        return None


def tell_unknown(partition: int, error: PerdureError) -> None:
    """Say why the newest snapshot is not known: the log is not trimmed until there is a new one."""
    _log.error("latest snapshot not known", partition=partition, code=error.code, reason=str(error))
