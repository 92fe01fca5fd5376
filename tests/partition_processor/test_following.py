"""A follower lets batches gather, and loses no time while it is behind."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from perdure.core.random import SeededRandom
from perdure.log.virtual_log import VirtualLog
from perdure.partition_processor.following import GATHER_SECONDS, follow
from perdure.partition_processor.processor import PartitionProcessor
from perdure.partition_processor.role_changes import RETRY
from perdure.testing.simulation.loop import SimulationClock, SimulationLoop, run_simulated

STEP_SECONDS = GATHER_SECONDS / 4
PIECE = 2
"""Batches that one read gives at most."""


class GrowingLog:
    """A log of one record per batch that somebody else appends to."""

    def __init__(self) -> None:
        self.tail_lsn = 1
        self.grown = asyncio.Event()

    def append(self) -> None:
        self.tail_lsn += 1
        self.grown.set()

    async def find_tail(self) -> Any:
        return SimpleNamespace(lsn=self.tail_lsn)

    async def wait_for_tail(self, above: int) -> None:
        while self.tail_lsn <= above:
            self.grown.clear()
            await self.grown.wait()

    async def read(self, lsn: int) -> list[int]:
        return list(range(lsn, min(self.tail_lsn, lsn + PIECE)))


class Following:
    """A follower of it, and what was written when."""

    role, partition, known_tail_lsn, next_lsn = "follower", 0, 0, 1

    def __init__(self, loop: SimulationLoop) -> None:
        self.loop = loop
        self.log = GrowingLog()
        self.written: list[tuple[float, int]] = []

    def committed(self, lsn: int) -> None:
        assert lsn == self.next_lsn
        self.next_lsn += 1

    def finish_turn(self) -> None:
        self.written.append((self.loop.time(), self.next_lsn - 1))

    async def run(self) -> None:
        await follow(
            cast(PartitionProcessor, self),
            cast(VirtualLog, self.log),
            loop=self.loop,
            clock=SimulationClock(self.loop),
            random=SeededRandom(1),
            retry=RETRY,
            finish_turn=self.finish_turn,
        )


def test_what_comes_soon_after_the_first_batch_is_applied_with_it() -> None:
    loop = SimulationLoop()

    async def scenario() -> None:
        following = Following(loop)
        task = asyncio.ensure_future(following.run())
        await asyncio.sleep(1)
        began = loop.time()
        for _ in range(PIECE):
            following.log.append()
            await asyncio.sleep(STEP_SECONDS)
        assert following.written == []
        await asyncio.sleep(GATHER_SECONDS)
        ((when, last_lsn),) = following.written
        assert last_lsn == PIECE
        assert GATHER_SECONDS <= when - began < 1.5 * GATHER_SECONDS
        # The next one waits no longer than the first did.
        following.log.append()
        await asyncio.sleep(1.5 * GATHER_SECONDS)
        assert following.written[-1][1] == PIECE + 1
        task.cancel()

    run_simulated(scenario(), loop)


def test_what_is_behind_is_applied_without_a_pause() -> None:
    loop = SimulationLoop()

    async def scenario() -> None:
        following = Following(loop)
        for _ in range(10 * PIECE):
            following.log.append()
        began = loop.time()
        task = asyncio.ensure_future(following.run())
        await asyncio.sleep(GATHER_SECONDS / 2)
        assert following.next_lsn == 10 * PIECE + 1
        assert all(when - began < GATHER_SECONDS / 2 for when, _ in following.written)
        task.cancel()

    run_simulated(scenario(), loop)
