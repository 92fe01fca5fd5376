"""Following a log that is led elsewhere: read, apply, write, some batches at a time, no effects."""

from asyncio import AbstractEventLoop, timeout
from collections.abc import Callable
from typing import Final

import structlog

from ..core.clock import Clock
from ..core.errors import PerdureError
from ..core.pauses import next_turn, pause
from ..core.random import Random
from ..core.retry import RetryPolicy
from ..log.errors import FuturePositionError, TrimmedError
from ..log.types import LogBatch
from ..log.virtual_log import VirtualLog
from .errors import AheadOfLogError, BehindTrimPointError
from .processor import PartitionProcessor

_log = structlog.get_logger("partition")

TAIL_LOOK_NS: Final = 1_000_000_000
"""A follower that is behind looks so often how far it is behind."""


WAKE_SECONDS: Final = 5.0
"""A follower that hears of nothing for so long looks at the chain."""

GATHER_SECONDS: Final = 0.02
"""A follower that hears of something lets more come for so long, and applies it all at once.

Nobody waits for a follower: whoever takes the lead reads what it lacks itself. But it shares its
node's processor with leaders and log-servers, whose calls would wait for it. Batches that are
applied together are one read and one write, and rows that were written twice are written once.
"""


class LostTrackError(Exception):
    """The store is of another time than the log, and cannot go on with it.

    Attributes:
        reason: what the operator reads.
        trim_point: the last LSN that is gone when the log was trimmed too far, else 0.
    """

    def __init__(self, reason: PerdureError, trim_point: int = 0) -> None:
        """Keep the reason."""
        super().__init__(str(reason))
        self.reason = reason
        self.trim_point = trim_point


async def follow(
    processor: PartitionProcessor,
    log: VirtualLog,
    *,
    loop: AbstractEventLoop,
    clock: Clock,
    random: Random,
    retry: RetryPolicy,
    finish_turn: Callable[[], None],
) -> None:
    """Apply the log as it grows, until the partition stops.

    What cannot be read is tried again with back-off. Raises LostTrackError. Cancelling is safe:
    what was applied was written in the same turn.
    """
    failures = 0
    looked_ns: int | None = None
    while processor.role == "follower":
        try:
            if looked_ns is None or clock.monotonic_ns() - looked_ns >= TAIL_LOOK_NS:
                looked_ns = clock.monotonic_ns()
                processor.known_tail_lsn = (await log.find_tail()).lsn
            if processor.next_lsn >= processor.known_tail_lsn:
                await _wait(processor, log)
                await pause(loop, GATHER_SECONDS)
            batches = await _read(processor, log)
        except PerdureError as error:
            failures += 1
            if failures == 1:
                _log.warning(
                    "follower cannot read its log: trying again",
                    partition=processor.partition,
                    lsn=processor.next_lsn,
                    code=error.code,
                    reason=str(error),
                )
            delay_ns = retry.delay_ns(failures, random)
            assert delay_ns is not None
            await pause(loop, delay_ns / 1e9)
            continue
        failures = 0
        _apply(processor, batches, finish_turn)
        processor.known_tail_lsn = max(processor.known_tail_lsn, processor.next_lsn)
        # Others have their turn, however far this one is behind.
        await next_turn(loop)


async def catch_up(
    processor: PartitionProcessor,
    log: VirtualLog,
    *,
    loop: AbstractEventLoop,
    finish_turn: Callable[[], None],
) -> None:
    """Apply the log up to where it ends now. Raises LostTrackError, and what reading raises."""
    tail_lsn = processor.known_tail_lsn = (await log.find_tail()).lsn
    while processor.next_lsn < tail_lsn and processor.role == "follower":
        _apply(processor, await _read(processor, log), finish_turn)
        await next_turn(loop)


async def _wait(processor: PartitionProcessor, log: VirtualLog) -> None:
    """Wait until there may be something to read."""
    try:
        async with timeout(WAKE_SECONDS):
            await log.wait_for_tail(processor.next_lsn)
    except TimeoutError:
        # Whoever was to wake this one may be gone, and the log go on elsewhere.
        await log.refresh()


async def _read(processor: PartitionProcessor, log: VirtualLog) -> list[LogBatch]:
    lsn = processor.next_lsn
    try:
        return await log.read(lsn)
    except TrimmedError as error:
        reason = BehindTrimPointError(
            f"partition {processor.partition} has applied up to LSN {lsn - 1}, and its log is "
            f"trimmed up to LSN {error.trim_point}: it can only go on from a snapshot that has at "
            f"least LSN {error.trim_point}"
        )
        raise LostTrackError(reason, error.trim_point) from None
    except FuturePositionError as error:
        reason_ahead = AheadOfLogError(
            f"partition {processor.partition} has applied up to LSN {lsn - 1}, but its log ends "
            f"before LSN {error.tail}: log and store are not of one time; restore them together"
        )
        raise LostTrackError(reason_ahead) from None


def _apply(
    processor: PartitionProcessor, batches: list[LogBatch], finish_turn: Callable[[], None]
) -> None:
    """Apply and write: no await in between, so that nobody sees one without the other."""
    for item in batches:
        processor.committed(item)
    if batches:
        finish_turn()
