"""The simulated loop: virtual time, one order, nothing from outside."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

from perdure.core.clock import Clock
from perdure.core.random import SeededRandom
from perdure.testing.simulation import SimulationClock, SimulationLoop, SimulationStalledError
from perdure.testing.simulation.loop import run_simulated
from perdure.testing.simulation.outside import OutsideSimulationError

from ..conformance.clock import ClockSuite

HOUR_SECONDS = 3600.0


def simulate(main: Coroutine[Any, Any, Any], loop: SimulationLoop | None = None) -> Any:
    return run_simulated(main, loop or SimulationLoop())


class TestSimulationClock(ClockSuite):
    @pytest.fixture
    def clock(self) -> Clock:
        return SimulationClock(SimulationLoop())


def test_waiting_costs_no_time() -> None:
    loop = SimulationLoop()

    async def main() -> None:
        await asyncio.sleep(1000 * HOUR_SECONDS)

    simulate(main(), loop)

    assert 0 <= loop.now_ns - 1000 * 3600 * 10**9 < 10**6


def test_timers_fire_in_order_of_time_and_then_of_making() -> None:
    fired: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(0.2, fired.append, "late")
        loop.call_later(0.1, fired.append, "first of two")
        loop.call_later(0.1, fired.append, "second of two")
        loop.call_later(0.15, fired.append, "cancelled").cancel()
        await asyncio.sleep(0.3)

    simulate(main())

    assert fired == ["first of two", "second of two", "late"]


def test_whoever_spins_gets_to_the_next_timer() -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        end = loop.time() + 0.01
        turns = 0
        while loop.time() < end:
            await asyncio.sleep(0)
            turns += 1
        return turns

    assert simulate(main()) == 500


def test_jitter_makes_timers_late_and_never_early() -> None:
    loop = SimulationLoop(jitter=SeededRandom(1), jitter_ns_max=50_000_000)
    delays: list[float] = []

    async def main() -> None:
        for _ in range(50):
            before = loop.time()
            await asyncio.sleep(0.1)
            delays.append(loop.time() - before)

    simulate(main(), loop)

    assert min(delays) >= 0.1
    assert max(delays) > 0.12
    assert max(delays) < 0.151


def test_waiting_for_nothing_is_an_error_that_names_who_waits() -> None:
    async def waiting_for_godot() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(waiting_for_godot(), name="vladimir")

    with pytest.raises(SimulationStalledError, match="vladimir at wait") as caught:
        simulate(main())
    assert "no timer is set" in str(caught.value)


def test_a_time_limit_is_virtual() -> None:
    async def main() -> None:
        while True:
            await asyncio.sleep(1)

    loop = SimulationLoop()
    with pytest.raises(SimulationStalledError, match="not done after 100 virtual seconds"):
        run_simulated(main(), loop, until_ns=100 * 10**9)


def test_a_callback_that_fails_ends_the_run() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 // 0)
        await asyncio.sleep(HOUR_SECONDS)

    loop = SimulationLoop()
    with pytest.raises(ZeroDivisionError):
        simulate(main(), loop)
    assert loop.now_ns < 10**9


def test_a_task_that_fails_unseen_ends_the_run() -> None:
    async def fail() -> None:
        raise ValueError("nobody looks")

    async def main() -> None:
        task = asyncio.get_running_loop().create_task(fail())
        await asyncio.sleep(0.1)
        del task
        await asyncio.sleep(HOUR_SECONDS)

    with pytest.raises(ValueError, match="nobody looks"):
        simulate(main())


def test_tasks_left_behind_are_cancelled() -> None:
    ended: list[str] = []

    async def stay(name: str) -> None:
        try:
            await asyncio.sleep(HOUR_SECONDS)
        finally:
            ended.append(name)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        tasks.extend(loop.create_task(stay(name)) for name in ("first", "second"))
        await asyncio.sleep(0)

    tasks: list[asyncio.Task[None]] = []
    simulate(main())

    assert ended == ["first", "second"]


def test_sets_of_tasks_iterate_in_the_order_of_their_making() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        tasks = {loop.create_task(asyncio.sleep(0), name=str(number)) for number in range(50)}
        names = [task.get_name() for task in tasks]
        await asyncio.wait(tasks)
        return names

    assert simulate(main()) == simulate(main())


def test_threads_cannot_wake_the_loop() -> None:
    refused: list[BaseException] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(lambda: None)

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(lambda: None)
            except OutsideSimulationError as error:
                refused.append(error)

        thread = threading.Thread(target=wake)
        thread.start()
        thread.join()

    simulate(main())

    assert len(refused) == 1


def test_the_world_outside_is_refused_by_name() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(OutsideSimulationError, match="run_in_executor"):
            loop.run_in_executor(None, print)
        with pytest.raises(OutsideSimulationError, match="create_connection"):
            await asyncio.open_connection("127.0.0.1", 1)
        with pytest.raises(OutsideSimulationError, match="subprocess_exec"):
            await asyncio.create_subprocess_exec("true")

    simulate(main())


def test_asyncio_runs_on_it_as_on_any_loop() -> None:
    async def main() -> list[int]:
        queue: asyncio.Queue[int] = asyncio.Queue(1)

        async def produce() -> None:
            for number in range(3):
                await asyncio.sleep(1)
                await queue.put(number)

        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            group.create_task(produce())
            return [await queue.get() for _ in range(3)]

    with asyncio.Runner(loop_factory=SimulationLoop) as runner:
        assert runner.run(main()) == [0, 1, 2]


def test_a_timeout_is_virtual() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(HOUR_SECONDS):
                await asyncio.Event().wait()
        return loop.time()

    assert simulate(main()) == pytest.approx(HOUR_SECONDS, abs=1)


def test_the_wall_clock_can_be_moved_alone() -> None:
    loop = SimulationLoop()
    clock = SimulationClock(loop)
    wall, monotonic = clock.time_ns(), clock.monotonic_ns()

    clock.shift_ns -= 5_000

    assert clock.time_ns() == wall - 5_000
    assert clock.monotonic_ns() == monotonic
