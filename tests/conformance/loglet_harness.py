"""How the conformance suite of loglets gets at one kind of them, and what its tests share."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Protocol

from perdure.log.errors import LogClosedError
from perdure.log.loglet import Loglet, LogletProvider
from perdure.log.types import Batch

from ..log.support import Committed, SetClock, group, numbers

HANG_SECONDS = 120


class LogletHarness(Protocol):
    """How the suite gets at one kind of loglet.

    Attributes:
        clock: of every life.
        appends_after_restart: whether a new life of the process goes on appending to the loglets of
            the one before, or only reads and seals them.
    """

    clock: SetClock
    appends_after_restart: bool

    def start(self) -> LogletProvider:
        """Begin a life of the process on the running loop, with what earlier ones have left."""
        ...

    async def ready(self) -> None:
        """Wait until what was started can be appended to."""
        ...

    async def stop(self) -> None:
        """End it in order."""
        ...


def live(harness: LogletHarness, scenario: Callable[[LogletProvider], Awaitable[None]]) -> None:
    """One life of the process; what hangs in it fails."""

    async def life() -> None:
        provider = harness.start()
        try:
            async with asyncio.timeout(HANG_SECONDS):
                await harness.ready()
                await scenario(provider)
        finally:
            await harness.stop()

    asyncio.run(life())


async def filled(loglet: Loglet, *counts: int) -> Committed:
    """Append a batch of so many records for each count, numbered by their offsets."""
    committed = Committed(loglet)
    for count in counts:
        first = loglet.committed_tail
        assert loglet.enqueue(group(first, count)) == first
        await loglet.wait_for_tail(first + count - 1)
    return committed


def spans(batches: list[Batch]) -> list[tuple[int, int]]:
    """First and last offset of each batch."""
    return [(batch.first_offset, batch.last_offset) for batch in batches]


def check_content(batches: list[Batch]) -> None:
    """Every record stands where its number says."""
    for batch in batches:
        assert numbers([batch]) == list(range(batch.first_offset, batch.last_offset + 1))


async def outcome(operation: Awaitable[object]) -> BaseException | None:
    """What a closed log says to this, None when it is done."""
    try:
        await operation
    except LogClosedError as error:
        return error
    return None


def futures_alive() -> int:
    """How many futures this process holds on to, settled or not."""
    gc.collect()
    return sum(1 for item in gc.get_objects() if type(item) is asyncio.Future)
