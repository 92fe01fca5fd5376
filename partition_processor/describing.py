"""What a partition processor tells about itself, put together from where it is known."""

from typing import Final, Protocol

from ..core.ids import PartitionId
from ..log.virtual_log import VirtualLog
from .attempt_keeper import AttemptKeeper
from .context import PartitionRange
from .machine import RecordFailedError
from .skips import skipped
from .status import PartitionDetail, PartitionStatus
from .tables.aside import Aside
from .tables.invocations import STATUS_NAMES
from .tables.progress import Progress
from .transaction import Transaction

IN_ORDER: Final = 0
PARKED: Final = 1
"""A record cannot be applied, on no node that has this release."""
UNFIT: Final = 2
"""This copy has stopped for a reason of its own, or must not be led from."""


class Describable(Protocol):
    """What is told of a partition processor; see there."""

    own: PartitionRange
    partition: PartitionId
    role: str
    error: str
    log: VirtualLog | None
    known_tail_lsn: int
    durable_lsn: int
    parked: RecordFailedError | None
    aside: Aside | None
    keeper: AttemptKeeper
    transaction: Transaction


def partition_status(processor: Describable, node: str, progress: Progress) -> PartitionStatus:
    """How a partition is on `node`."""
    log = processor.log
    known = 0 if log is None else max(log.committed_tail_lsn, processor.known_tail_lsn)
    tail = max(progress.applied_lsn + 1, known)
    return PartitionStatus(
        partition=processor.partition,
        node=node,
        role=processor.role,
        leader_epoch=progress.epoch,
        applied_lsn=progress.applied_lsn,
        tail_lsn=tail,
        lag=max(0, tail - 1 - progress.applied_lsn),
        invocations=dict(zip(STATUS_NAMES, progress.counts, strict=True)),
        error=processor.error,
        durable_lsn=processor.durable_lsn,
        parked_lsn=0 if processor.parked is None else processor.parked.lsn,
        aside=processor.aside is not None,
    )


def standing(processor: Describable) -> int:
    """Whether a copy is `IN_ORDER`, `PARKED` or `UNFIT`."""
    if processor.parked is not None:
        return PARKED
    aside = processor.aside
    if processor.role == "stopped" or (aside is not None and not aside.refill):
        return UNFIT
    return IN_ORDER


def partition_detail(
    processor: Describable, node: str, progress: Progress, waiting: int
) -> PartitionDetail:
    """A partition in full; so many of its attempts are `waiting` for a worker."""
    return PartitionDetail(
        status=partition_status(processor, node, progress),
        key_first=int.from_bytes(processor.own.first, "big"),
        key_last=int.from_bytes(processor.own.last, "big"),
        digest=progress.digest.hex(),
        running=len(processor.keeper.attempts) - waiting,
        waiting_for_worker=waiting,
        skipped=skipped(processor.transaction, processor.own.first),
    )
