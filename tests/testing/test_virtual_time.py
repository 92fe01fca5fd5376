"""Virtual time on asyncio's own loop: it jumps, stands still for threads, and ends cleanly."""

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import perdure.testing.virtual_time
from perdure.core.clock import Clock
from perdure.testing import StalledError, run
from perdure.testing.virtual_time import (
    TimeUser,
    UnsuitableLoopError,
    VirtualClock,
    virtual_time,
)

from ..conformance.clock import ClockSuite

YEAR_SECONDS = 365 * 86400.0


class StoppedTime:
    """The part of virtual time that a clock needs."""

    def __init__(self) -> None:
        self._now_ns = 5

    @property
    def now_ns(self) -> int:
        self._now_ns += 300_000
        return self._now_ns


class TestVirtualClock(ClockSuite):
    @pytest.fixture
    def clock(self) -> Clock:
        stopped: Any = StoppedTime()
        return VirtualClock(stopped, datetime(2030, 1, 1, tzinfo=UTC))


def with_virtual_time(body: Any, user: TimeUser | None = None) -> Any:
    async def main() -> Any:
        user_now = user or TimeUser()
        virtual = virtual_time(asyncio.get_running_loop())
        virtual.add(user_now)
        try:
            return await body(virtual)
        finally:
            virtual.remove(user_now)

    return run(main())


def test_a_year_takes_no_time() -> None:
    async def body(virtual: Any) -> float:
        before_ns = virtual.now_ns
        await asyncio.sleep(YEAR_SECONDS)
        return float((virtual.now_ns - before_ns) / 1e9)

    before = time.monotonic()

    assert YEAR_SECONDS <= with_virtual_time(body) < YEAR_SECONDS + 1
    assert time.monotonic() - before < YEAR_SECONDS


def test_time_stands_still_while_a_thread_works() -> None:
    async def body(virtual: Any) -> tuple[str, bool]:
        sleeping = asyncio.ensure_future(asyncio.sleep(3600))
        value = await asyncio.to_thread(lambda: time.sleep(0.02) or "from a thread")
        early = sleeping.done()
        await sleeping
        return value, early

    assert with_virtual_time(body) == ("from a thread", False)


def test_whoever_spins_gets_to_the_next_timer() -> None:
    async def body(virtual: Any) -> bool:
        sleeping = asyncio.ensure_future(asyncio.sleep(0.01))
        while not sleeping.done():
            await asyncio.sleep(0)
        return True

    assert with_virtual_time(body)


def test_without_jumps_only_advance_moves_time() -> None:
    async def body(virtual: Any) -> list[int]:
        woken: list[int] = []
        loop = asyncio.get_running_loop()
        for hour in (1, 2, 3):
            loop.call_later(hour * 3600, woken.append, hour)
        virtual.skipping = False
        await virtual.advance(2 * 3600 * 10**9)
        return woken

    assert with_virtual_time(body) == [1, 2]


def test_waiting_for_nothing_is_found_out() -> None:
    async def body(virtual: Any) -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(StalledError, match="nothing is left"):
        with_virtual_time(body)


def test_the_clock_never_goes_back_when_real_time_returns() -> None:
    async def main() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        user = TimeUser()
        virtual_time(loop).add(user)
        await asyncio.sleep(1000)
        virtual = loop.time()
        virtual_time(loop).remove(user)
        await asyncio.sleep(0.001)
        return virtual, loop.time()

    virtual, real = run(main())

    assert virtual <= real < virtual + 500


def test_loops_without_a_selector_are_refused() -> None:
    loop: Any = asyncio.AbstractEventLoop()

    with pytest.raises(UnsuitableLoopError, match=r"perdure\.testing\.run"):
        virtual_time(loop)


def test_a_loop_of_another_kind_is_refused() -> None:
    uvloop: Any = pytest.importorskip("uvloop")

    async def main() -> None:
        virtual_time(asyncio.get_running_loop())

    with (
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        pytest.raises(UnsuitableLoopError, match="Loop has no clock"),
    ):
        runner.run(main())


def test_a_thread_that_hangs_stops_time_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perdure.testing.virtual_time, "STILL_SECONDS", 0.005)
    hanging = threading.Event()

    async def body(virtual: Any) -> None:
        async with asyncio.timeout(0.02):
            await asyncio.to_thread(hanging.wait)

    async def main(virtual: Any) -> None:
        try:
            await body(virtual)
        finally:
            hanging.set()

    with pytest.raises(TimeoutError):
        with_virtual_time(main)


def test_a_clock_shows_its_start_and_what_has_passed() -> None:
    start = datetime(2031, 5, 4, 3, 2, 1, 5000, tzinfo=UTC)

    async def body(virtual: Any) -> int:
        clock = VirtualClock(virtual, start)
        await asyncio.sleep(60)
        return clock.time_ns() // 10**9

    expected = (start + timedelta(minutes=1)).timestamp()
    assert with_virtual_time(body) == int(expected)
