"""Reads wait for a check that began after they came, and share it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from perdure.core.errors import PerdureError, TransportError
from perdure.partition_processor.errors import NotLeadingError
from perdure.partition_processor.read_barrier import ReadBarrier


class Checks:
    """Checks that end when the test says so."""

    def __init__(self) -> None:
        self.running: list[asyncio.Future[bool]] = []
        self.begun = 0
        self.outcomes: list[object] = []

    async def check(self) -> bool:
        self.begun += 1
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.running.append(future)
        return await future

    def read(self, barrier: ReadBarrier, name: str) -> None:
        def refuse(error: PerdureError) -> None:
            self.outcomes.append((name, error.code, error.retryable))

        barrier.read(lambda: self.outcomes.append(name), refuse)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def with_barrier(scenario: Callable[[Checks, ReadBarrier], Awaitable[None]]) -> None:
    async def run() -> None:
        tasks: list[asyncio.Task[None]] = []
        loop = asyncio.get_running_loop()
        checks = Checks()
        barrier = ReadBarrier(
            checks.check, spawn=lambda work: tasks.append(loop.create_task(work)), loop=loop
        )
        await scenario(checks, barrier)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())


def test_reads_of_one_turn_share_a_check_and_later_ones_take_the_next() -> None:
    async def scenario(checks: Checks, barrier: ReadBarrier) -> None:
        checks.read(barrier, "a")
        checks.read(barrier, "b")
        await turns()
        assert checks.begun == 1
        checks.read(barrier, "late")
        await turns()
        assert checks.begun == 1
        checks.running.pop().set_result(True)
        await turns()
        assert checks.outcomes == ["a", "b"]
        assert checks.begun == 2
        checks.running.pop().set_result(False)
        await turns()
        assert checks.outcomes == ["a", "b", ("late", "PD0906", True)]

    with_barrier(scenario)


def test_a_check_that_fails_refuses_and_the_next_read_is_checked_anew() -> None:
    async def scenario(checks: Checks, barrier: ReadBarrier) -> None:
        waiting = asyncio.ensure_future(barrier.passed())
        await turns()
        checks.running.pop().set_exception(TransportError("no quorum"))
        with pytest.raises(NotLeadingError, match="no quorum"):
            await waiting
        again = asyncio.ensure_future(barrier.passed())
        await turns()
        checks.running.pop().set_result(True)
        await again

    with_barrier(scenario)


def test_who_is_deposed_refuses_those_who_wait() -> None:
    async def scenario(checks: Checks, barrier: ReadBarrier) -> None:
        checks.read(barrier, "early")
        await turns()
        checks.read(barrier, "waiting")
        barrier.refuse(NotLeadingError("deposed"))
        assert checks.outcomes == [("waiting", "PD0906", True)]
        checks.running.pop().set_result(False)
        await turns()
        assert checks.outcomes[1:] == [("early", "PD0906", True)]
        assert checks.begun == 1

    with_barrier(scenario)
