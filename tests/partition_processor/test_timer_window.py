"""The timers of the store: a window of them in memory, all of them fired, each in its time."""

from collections.abc import Iterator

import pytest

from perdure.core.random import SeededRandom
from perdure.partition_processor.durable_timers import DurableTimers
from perdure.partition_processor.effects import ArmTimer
from perdure.partition_processor.records import Timer

from .hand_loop import SECOND_NS, HandLoop
from .support import identity

Due = tuple[int, object, int]


class Table:
    """A timers table with its driver; what fires is applied, so deleted, when `applies` says so."""

    def __init__(self) -> None:
        self.hand = HandLoop()
        self.start_ns = self.hand.clock.time_ns()
        self.rows: set[Due] = set()
        self.fired: list[tuple[int, Timer]] = []
        self.records: list[int] = []
        self.applies = True
        self.reads = 0
        self.driver = DurableTimers(self.hand.loop, self.hand.clock, self._after, self._fire)

    def _after(self, after: Due | None) -> Iterator[ArmTimer]:
        self.reads += 1
        for due in sorted(self.rows):
            if after is None or due > after:
                yield ArmTimer(*due)  # type: ignore[arg-type]

    def _fire(self, timers: tuple[Timer, ...]) -> None:
        now_ns = self.hand.clock.time_ns()
        self.records.append(len(timers))
        for timer in timers:
            self.fired.append((now_ns, timer))
            if self.applies:
                self.rows.discard((timer.due_ns, timer.invocation_id, timer.number))

    def put(self, number: int, after_ns: int, *, told: bool = True) -> None:
        """Write a timer that is due so long after the start; the driver is told, or finds it."""
        due = (self.start_ns + after_ns, identity(number), 1)
        self.rows.add(due)
        if told:
            self.driver.add(ArmTimer(*due), self.hand.clock.time_ns())


def test_timers_found_at_the_start_and_told_of_later_fire_in_their_order() -> None:
    table = Table()
    table.put(1, 3 * SECOND_NS, told=False)
    table.driver.start()
    table.put(2, 2 * SECOND_NS)
    table.put(3, 0)
    table.hand.advance(10 * SECOND_NS)

    assert [timer.invocation_id for _, timer in table.fired] == [
        identity(3),
        identity(2),
        identity(1),
    ]
    assert [fired - table.start_ns for fired, _ in table.fired] == [0, 2 * SECOND_NS, 3 * SECOND_NS]
    assert (table.hand.waiting(), table.rows) == (0, set())


@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
def test_more_timers_than_memory_holds_all_fire_once_and_on_time(order: str) -> None:
    count = 3 * DurableTimers.WINDOW + 5_000
    numbers = list(range(count))
    if order == "descending":
        numbers.reverse()
    elif order == "shuffled":
        random = SeededRandom(1)
        numbers.sort(key=lambda _number: random.bits(32))
    table = Table()
    half = count // 2
    for number in numbers[:half]:
        table.put(number, number * SECOND_NS, told=False)
    table.driver.start()
    most = 0
    for number in numbers[half:]:
        table.put(number, number * SECOND_NS)
        most = max(most, len(table.driver))
    assert most <= 3 * DurableTimers.WINDOW
    table.hand.advance(count * SECOND_NS)

    assert table.rows == set()
    assert len(table.fired) == count
    late = [fired_ns - timer.due_ns for fired_ns, timer in table.fired]
    assert (min(late), max(late)) == (0, 0)
    assert table.reads >= count // (3 * DurableTimers.WINDOW)


def test_a_new_timer_before_the_window_is_not_overlooked() -> None:
    table = Table()
    for number in range(2 * DurableTimers.WINDOW):
        table.put(number, (1_000 + number) * SECOND_NS, told=False)
    table.driver.start()
    assert len(table.driver) == DurableTimers.WINDOW
    table.put(100_000, SECOND_NS)
    table.put(100_001, 1_000_000 * SECOND_NS)
    assert len(table.driver) == DurableTimers.WINDOW + 1
    table.hand.advance(2 * SECOND_NS)

    assert [timer.invocation_id for _, timer in table.fired] == [identity(100_000)]


def test_what_is_due_together_goes_in_records_of_bounded_length() -> None:
    table = Table()
    for number in range(1_200):
        table.put(number, 0, told=False)
    table.driver.start()
    table.hand.advance(SECOND_NS)

    most = DurableTimers.FIRED_PER_RECORD_MAX
    assert table.records == [most, most, 1_200 - 2 * most]


def test_timers_that_fire_are_not_fired_again_while_their_record_is_under_way() -> None:
    table = Table()
    table.applies = False
    for number in range(DurableTimers.WINDOW + 10):
        table.put(number, 0, told=False)
    table.driver.start()
    table.hand.advance(60 * SECOND_NS)

    assert len(table.fired) == DurableTimers.WINDOW + 10
    assert len({timer.invocation_id for _, timer in table.fired}) == len(table.fired)


def test_a_wall_clock_that_was_set_back_delays_no_timer() -> None:
    table = Table()
    table.put(1, 100 * SECOND_NS, told=False)
    table.driver.start()
    table.hand.advance(50 * SECOND_NS)
    table.hand.clock.set_ns = -3_600 * SECOND_NS
    table.hand.advance(49 * SECOND_NS)
    assert table.fired == []
    table.hand.advance(SECOND_NS)

    assert len(table.fired) == 1


def test_a_wall_clock_behind_the_time_of_the_records_delays_no_timer() -> None:
    table = Table()
    table.driver.start()
    record_ns = table.start_ns + 600 * SECOND_NS
    due_ns = record_ns + 5 * SECOND_NS
    table.rows.add((due_ns, identity(1), 1))
    table.driver.add(ArmTimer(due_ns, identity(1), 1), record_ns)
    table.hand.advance(4 * SECOND_NS)
    assert table.fired == []
    table.hand.advance(SECOND_NS)

    assert len(table.fired) == 1


def test_a_wall_clock_that_was_set_forward_is_noticed() -> None:
    table = Table()
    table.put(1, 1_000 * SECOND_NS, told=False)
    table.driver.start()
    table.hand.clock.set_ns = 2_000 * SECOND_NS
    table.hand.advance(round(DurableTimers.LOOK_AGAIN_SECONDS) * SECOND_NS)

    assert len(table.fired) == 1


def test_nothing_fires_before_the_start_or_after_the_end() -> None:
    table = Table()
    table.put(1, 0)
    assert (table.hand.waiting(), len(table.driver)) == (0, 0)
    table.driver.start()
    table.driver.close()
    table.put(2, 0)
    table.hand.advance(60 * SECOND_NS)

    assert table.fired == []


def test_a_driver_that_could_not_fire_once_still_fires_the_next() -> None:
    table = Table()
    table.driver.start()
    broken = [True]

    def fire(timers: tuple[Timer, ...]) -> None:
        if broken:
            broken.clear()
            raise RuntimeError("a bug")
        table.fired.append((0, timers[0]))

    table.driver._fire = fire
    table.put(1, SECOND_NS)
    table.put(2, 2 * SECOND_NS)
    with pytest.raises(RuntimeError):
        table.hand.advance(SECOND_NS)
    table.hand.advance(5 * SECOND_NS)

    assert [timer.invocation_id for _, timer in table.fired] == [identity(2)]
