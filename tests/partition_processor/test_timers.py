"""The due-queue and its driver, on a clock that is moved by hand."""

import asyncio

from perdure.core.clock import ManualClock
from perdure.core.ids import InvocationId
from perdure.partition_processor.timers import DueQueue, Timers

FIRST, SECOND = InvocationId(bytes(24)), InvocationId(b"\x01" * 24)
HOUR_NS = 3_600 * 10**9


class TwoClocks(ManualClock):
    """A wall clock that can be set back while the monotonic one goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.set_back_ns = 0

    def time_ns(self) -> int:
        return super().time_ns() - self.set_back_ns


def test_what_is_due_comes_in_order_of_time_then_of_arrival() -> None:
    due = DueQueue()
    due.add(20, FIRST, 1)
    due.add(10, SECOND, 2)
    due.add(20, SECOND, 3)

    assert due.next_due_ns() == 10
    assert due.take(9, 10) == []
    assert due.take(20, 2) == [(SECOND, 2), (FIRST, 1)]
    assert due.take(20, 2) == [(SECOND, 3)]
    assert (len(due), due.next_due_ns()) == (0, None)


def test_a_wall_clock_that_was_set_back_delays_nothing() -> None:
    async def scenario() -> None:
        clock = TwoClocks()
        fired: list[int] = []
        timers = Timers(
            asyncio.get_running_loop(), clock, lambda _invocation, attempt: fired.append(attempt)
        )
        record_time_ns = clock.time_ns()
        clock.set_back_ns = HOUR_NS
        timers.add(record_time_ns, record_time_ns, FIRST, 1)
        await asyncio.sleep(0.01)

        assert fired == [1]
        timers.close()

    asyncio.run(scenario())


def test_a_fire_that_raises_stops_no_later_timer() -> None:
    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
        clock = ManualClock()
        fired: list[int] = []

        def fire(_invocation: InvocationId, attempt: int) -> None:
            fired.append(attempt)
            if attempt == 1:
                raise RuntimeError("a bug")

        timers = Timers(asyncio.get_running_loop(), clock, fire)
        timers.add(0, 0, FIRST, 1)
        timers.add(0, 0, SECOND, 2)
        await asyncio.sleep(0.01)
        timers.add(0, 0, SECOND, 3)
        await asyncio.sleep(0.01)

        assert fired == [1, 2, 3]
        timers.close()

    asyncio.run(scenario())
