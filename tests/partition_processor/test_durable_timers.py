"""The timers of the store: they wait for as long as they say, whatever went before."""

import asyncio

from perdure.core.ids import InvocationId
from perdure.partition_processor.durable_timers import DurableTimers
from perdure.partition_processor.effects import ArmTimer
from perdure.partition_processor.records import Timer
from perdure.testing.simulation import SimulationClock, SimulationLoop
from perdure.testing.simulation.loop import run_simulated

INVOCATION = InvocationId(bytes(24))
MINUTE_NS = 60 * 10**9


def test_a_timer_after_a_quiet_time_waits_as_long_as_any() -> None:
    """The time in which nothing was waited for does not count."""
    loop = SimulationLoop()
    clock = SimulationClock(loop)
    fired_ns: list[int] = []

    async def main() -> None:
        def fire(_timers: tuple[Timer, ...]) -> None:
            fired_ns.append(clock.time_ns())

        timers = DurableTimers(loop, clock, lambda _after: iter(()), fire)
        timers.start()
        await asyncio.sleep(3600)
        due_ns = clock.time_ns() + 30 * MINUTE_NS
        timers.add(ArmTimer(due_ns, INVOCATION, 1), clock.time_ns())
        await asyncio.sleep(3600)

        assert len(fired_ns) == 1
        assert fired_ns[0] >= due_ns

        timers.close()

    run_simulated(main(), loop)
