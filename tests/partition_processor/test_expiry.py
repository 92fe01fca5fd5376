"""The expiry table's driver: it looks when something is due, and purges in small portions."""

from perdure.partition_processor.expiry import ExpiryWatch
from perdure.partition_processor.records import PurgeExpired

from .hand_loop import SECOND_NS, HandLoop


class Table:
    """An expiry table with its driver; purges are applied at once."""

    def __init__(self) -> None:
        self.hand = HandLoop()
        self.rows: list[int] = []
        self.purges: list[PurgeExpired] = []
        self.asked: list[int] = []
        self.watch = ExpiryWatch(self.hand.loop, self.hand.clock, self._first, self._purge)

    @property
    def now_ns(self) -> int:
        return self.hand.clock.time_ns()

    def _first(self, from_ns: int) -> int | None:
        self.asked.append(from_ns)
        return min((due_ns for due_ns in self.rows if due_ns >= from_ns), default=None)

    def _purge(self, command: PurgeExpired) -> None:
        self.purges.append(command)
        due = sorted(item for item in self.rows if command.from_ns <= item < command.before_ns)
        for due_ns in due[: command.count_max]:
            self.rows.remove(due_ns)


def test_what_is_due_is_purged_in_portions_until_nothing_is_left() -> None:
    table = Table()
    table.rows = [table.now_ns - 5] * (2 * ExpiryWatch.COUNT_MAX + 1)
    table.watch.start()
    table.hand.advance(SECOND_NS)

    assert table.rows == []
    assert len(table.purges) == 3
    assert {command.count_max for command in table.purges} == {ExpiryWatch.COUNT_MAX}
    assert table.hand.waiting() == 0


def test_the_watch_waits_for_what_is_due_first_and_a_minute_at_most() -> None:
    table = Table()
    table.rows = [table.now_ns + 90 * SECOND_NS]
    table.watch.start()
    table.hand.advance(89 * SECOND_NS)
    assert table.purges == []
    assert len(table.asked) == 2
    table.hand.advance(3 * SECOND_NS)
    assert table.rows == []


def test_a_completion_wakes_a_watch_that_has_nothing_to_wait_for() -> None:
    table = Table()
    table.watch.start()
    table.hand.advance(SECOND_NS)
    assert table.hand.waiting() == 0
    table.rows = [table.now_ns + 10]
    table.watch.completed(table.rows[0])
    table.watch.completed(table.rows[0])
    assert table.hand.waiting() == 1
    table.hand.advance(5 * SECOND_NS)

    assert (table.rows, len(table.purges)) == ([], 1)


def test_each_search_begins_where_the_last_one_purged() -> None:
    table = Table()
    first_ns = table.now_ns - 100
    table.rows = [first_ns, first_ns + 50, table.now_ns + 20 * SECOND_NS]
    table.watch.start()
    table.hand.advance(SECOND_NS)

    assert table.asked[0] == 0
    assert table.asked[1] == first_ns
    assert table.purges[0].from_ns == first_ns


def test_what_is_due_before_what_was_purged_already_is_found_as_well() -> None:
    table = Table()
    table.rows = [table.now_ns - 100]
    table.watch.start()
    table.hand.advance(SECOND_NS)
    late_ns = table.now_ns - 5 * SECOND_NS
    table.rows = [late_ns]
    table.watch.completed(late_ns)
    table.hand.advance(5 * SECOND_NS)

    assert table.rows == []


def test_nothing_is_looked_for_before_the_start_or_after_the_end() -> None:
    table = Table()
    table.rows = [0]
    table.watch.completed(0)
    assert table.hand.waiting() == 0
    table.watch.start()
    table.watch.close()
    table.watch.completed(0)
    table.hand.advance(120 * SECOND_NS)

    assert (table.asked, table.purges) == ([], [])
