"""Going through the stored invocations of a node, a slice at a time."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Final

import msgspec

from ...core.ids import InvocationId
from ...core.tasks import TaskScope
from ...partition_processor.manager import PartitionManager
from ...partition_processor.processor import NotLeadingError, PartitionProcessor
from ...partition_processor.tables import keys
from ...partition_processor.tables.invocations import (
    STATUS_NAMES,
    STATUS_RUNNING,
    Invocation,
    decode_invocation,
)
from .pacing import Pacer

READY: Final = "ready"
"""It has an attempt, which no worker has taken yet."""
STATUSES: Final = (*STATUS_NAMES, READY)

CONFIRM_SECONDS: Final = 3.0
"""So long it may take to make sure that nobody else leads; where log-servers are lost, for ever."""
_ROWS_PER_READ: Final = 50


class Found(msgspec.Struct, frozen=True):
    """A stored invocation and the partition that has it."""

    processor: PartitionProcessor
    invocation_id: InvocationId
    invocation: Invocation

    @property
    def status(self) -> str:
        """One of `STATUSES`."""
        return status_of(self.processor, self.invocation_id, self.invocation)


def status_of(
    processor: PartitionProcessor, invocation_id: InvocationId, invocation: Invocation
) -> str:
    """The status of an invocation for people; one of `STATUSES`."""
    if invocation.status == STATUS_RUNNING:
        attempt = processor.keeper.attempts.get(invocation_id)
        if attempt is None or attempt.session is None:
            return READY
    return STATUS_NAMES[invocation.status]


def _tells(processor: PartitionProcessor) -> bool:
    """Whether what the partition has here is told; of one that stopped, for those who look why."""
    return processor.role in ("leader", "stopped")


def find(manager: PartitionManager, invocation_id: InvocationId) -> Found | None:
    """One invocation, None when its partition does not know it.

    Raises NotLeadingError where another node leads that partition.
    """
    processor = manager.processor_of(invocation_id)
    if not _tells(processor):
        raise NotLeadingError(
            f"partition {processor.partition}, which has the invocation, is {processor.role} on "
            "this node: ask the node that leads it"
        )
    invocation = processor.transaction.invocation(invocation_id)
    return None if invocation is None else Found(processor, invocation_id, invocation)


async def confirm_lead(processor: PartitionProcessor) -> None:
    """Return once what this node has of a partition is not older than this call.

    One that stopped is shown as it is. Raises NotLeadingError. Cancelling is safe.
    """
    if processor.role == "stopped":
        return
    try:
        async with asyncio.timeout(CONFIRM_SECONDS):
            await processor.confirm_lead()
    except TimeoutError:
        raise NotLeadingError(
            f"this node cannot make sure that it still leads partition {processor.partition}, as "
            "too few log-servers answer: perdure logs list and perdure doctor tell which"
        ) from None


async def confirm_leads(manager: PartitionManager, partitions: Iterable[int]) -> list[int]:
    """Those of the partitions of which this node can tell now, and nothing that is out of date.

    Cancelling is safe.
    """

    async def tells(partition: int) -> bool:
        processor = manager.processors[partition]
        try:
            await confirm_lead(processor)
        except NotLeadingError:
            return False
        return _tells(processor)

    chosen = [partition for partition in partitions if _tells(manager.processors[partition])]
    async with TaskScope("confirm leads") as scope:
        tasks = [scope.spawn(tells(partition), name=str(partition)) for partition in chosen]
    return [partition for partition, task in zip(chosen, tasks, strict=True) if task.result()]


async def scan(
    manager: PartitionManager,
    pacer: Pacer,
    *,
    partitions: Iterable[int],
    after: InvocationId | None = None,
    partition_key: bytes | None = None,
    active_only: bool = False,
) -> AsyncIterator[Found]:
    """Stored invocations in order of their ids, each as it is when its turn comes.

    Args:
        partitions: where to look, in order; what a follower has may be out of date, so that only
            those are for it that `confirm_leads` gives.
        after: only those behind this one.
        partition_key: only those of this one, 8 bytes.
        active_only: only those that have an attempt or wait for the next.
    """
    table = keys.ACTIVE if active_only else keys.INVOCATIONS
    for partition in partitions:
        processor = manager.processors[partition]
        own = processor.own
        start, last = own.first, own.last
        if partition_key is not None:
            if not own.first <= partition_key <= own.last:
                continue
            start = last = partition_key
        first = table + start
        if after is not None:
            first = max(first, table + after + b"\x00")
        end = keys.prefix_end(table + last)
        while first < end:
            rows = processor.transaction.scan(first, end, _ROWS_PER_READ)
            for found in _found(processor, rows, decoded=not active_only):
                yield found
            if len(rows) < _ROWS_PER_READ:
                break
            first = rows[-1][0] + b"\x00"
            await pacer.pause()


def _found(
    processor: PartitionProcessor, rows: list[tuple[bytes, bytes]], *, decoded: bool
) -> Iterator[Found]:
    for row, value in rows:
        invocation_id = InvocationId(row[1:])
        if decoded:
            yield Found(processor, invocation_id, decode_invocation(value))
        else:
            invocation = processor.transaction.invocation(invocation_id)
            if invocation is not None:
                yield Found(processor, invocation_id, invocation)
