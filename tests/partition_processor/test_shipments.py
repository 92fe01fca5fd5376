"""The outbox's driver: order, batches, what is sent again, and when the outbox is truncated."""

from collections.abc import Iterator

import pytest

from perdure.partition_processor.effects import Ship
from perdure.partition_processor.records import SIGNAL, Deliver
from perdure.partition_processor.shipments import Shipments


class Others:
    """The other partitions, which take messages or not, and the partition's own truncations."""

    def __init__(self) -> None:
        self.open: set[int] = {1, 2}
        self.got: list[tuple[int, Deliver]] = []
        self.truncated: list[tuple[int, int]] = []
        self.later = 0
        self.stored: dict[tuple[int, int], Ship] = {}
        self.read = 0
        self.shipments = Shipments(0, self, self._truncate, self._truncate_later, self._read_outbox)

    def carry(self, destination: int, deliver: Deliver) -> bool:
        if destination not in self.open:
            return False
        self.got.append((destination, deliver))
        return True

    def taken(self, source: int, destination: int, last: int, gap: bool) -> None:
        raise AssertionError("only a destination says this")

    def _read_outbox(self, destination: int, first: int, last: int) -> Iterator[Ship]:
        for number in range(first, last + 1):
            self.read += 1
            yield self.stored[destination, number]

    def _truncate(self, destination: int, last: int) -> None:
        self.truncated.append((destination, last))
        for place in [place for place in self.stored if place <= (destination, last)]:
            if place[0] == destination:
                del self.stored[place]

    def _truncate_later(self) -> None:
        self.later += 1

    def ship(self, *numbers: int, destination: int = 1, size: int = 1) -> None:
        """Messages come into the outbox and are sent."""
        for number in numbers:
            body = number.to_bytes(4, "big") + bytes(size)
            ship = Ship(destination, number, SIGNAL, body)
            self.stored[destination, number] = ship
            self.shipments.add(ship)
        self.shipments.flush()

    def numbers(self, destination: int = 1) -> list[int]:
        """The numbers of what a destination got, as its messages' bodies tell."""
        found: list[int] = []
        for where, deliver in self.got:
            if where == destination:
                bodies = [int.from_bytes(body[:4], "big") for _, body in deliver.messages]
                assert bodies == list(range(deliver.first, deliver.first + len(bodies)))
                assert deliver.source == 0
                found += bodies
        return found


def test_messages_go_once_in_order_and_wait_until_taken() -> None:
    others = Others()
    others.ship(1, 2)
    others.ship(3)
    others.shipments.flush()

    assert others.numbers() == [1, 2, 3]
    assert len(others.shipments) == 3
    others.shipments.taken(1, 2)
    assert len(others.shipments) == 1
    others.ship(4)
    assert others.numbers() == [1, 2, 3, 4]


def test_a_batch_is_bounded_in_messages_and_bytes_and_takes_any_one() -> None:
    others = Others()
    most = Shipments.BATCH_MESSAGES_MAX
    others.ship(*range(1, most + 2))
    assert [len(deliver.messages) for _, deliver in others.got] == [most, 1]

    others.got.clear()
    half = Shipments.BATCH_BYTES_MAX // 2
    others.ship(*range(most + 2, most + 5), size=half)
    assert [len(deliver.messages) for _, deliver in others.got] == [1, 1, 1]
    others.got.clear()
    others.ship(most + 5, size=3 * Shipments.BATCH_BYTES_MAX)
    assert others.numbers() == [most + 5]


def test_one_destination_that_takes_nothing_keeps_no_other_waiting() -> None:
    others = Others()
    others.open = {2}
    others.ship(1, 2)
    others.ship(1, destination=2)
    assert (others.numbers(1), others.numbers(2)) == ([], [1])

    others.open = {1, 2}
    others.shipments.flush()
    assert others.numbers(1) == []
    others.shipments.resend(1)
    assert others.numbers(1) == [1, 2]


def test_a_new_message_to_a_destination_that_took_nothing_brings_the_older_ones() -> None:
    others = Others()
    others.open = set()
    others.ship(1)
    others.open = {1}
    others.ship(2)

    assert others.numbers() == [1, 2]


def test_after_a_lost_delivery_everything_that_was_not_taken_goes_again() -> None:
    others = Others()
    others.ship(1, 2, 3)
    others.shipments.taken(1, 1)
    others.got.clear()
    others.shipments.resend(1)

    assert others.numbers() == [2, 3]
    others.shipments.taken(1, 3)
    others.got.clear()
    others.shipments.resend(1)
    others.shipments.resend(7)
    assert others.numbers() == []


def test_a_resend_that_is_refused_in_the_middle_goes_on_later() -> None:
    others = Others()
    most = Shipments.BATCH_MESSAGES_MAX
    others.ship(*range(1, most + 10))
    others.got.clear()
    others.open = set()
    others.shipments.resend(1)
    others.open = {1}
    others.ship(most + 10)

    assert others.numbers() == list(range(1, most + 11))


def test_what_a_new_leader_finds_in_its_outbox_counts_from_there() -> None:
    others = Others()
    others.ship(41, 42)
    others.shipments.taken(1, 42)
    others.shipments.truncate_taken()

    assert others.numbers() == [41, 42]
    assert others.truncated == [(1, 42)]


def test_the_outbox_is_truncated_after_so_many_messages_or_after_a_while() -> None:
    others = Others()
    most = Shipments.TRUNCATE_MESSAGES
    others.ship(*range(1, most + 2))
    others.shipments.taken(1, most - 1)
    others.shipments.taken(1, most - 1)
    assert (others.truncated, others.later) == ([], 1)
    others.shipments.taken(1, most)
    assert others.truncated == [(1, most)]

    others.shipments.taken(1, most + 1)
    others.shipments.truncate_taken()
    assert others.truncated == [(1, most), (1, most + 1)]
    others.shipments.truncate_taken()
    assert len(others.truncated) == 2
    others.ship(most + 2)
    others.shipments.taken(1, most + 2)
    assert others.later == 2


@pytest.mark.parametrize("last", [0, 1, 2])
def test_word_of_what_was_taken_before_changes_nothing(last: int) -> None:
    others = Others()
    others.ship(1, 2, 3)
    others.shipments.taken(1, 2)
    others.shipments.taken(1, last)
    others.shipments.taken(9, 5)
    others.shipments.truncate_taken()

    assert others.truncated == [(1, 2)]
    assert len(others.shipments) == 1


def test_all_of_a_long_lane_is_sent_again_and_what_was_taken_is_not() -> None:
    others = Others()
    count = 10 * Shipments.BATCH_MESSAGES_MAX
    others.ship(*range(1, count + 1))
    others.open.clear()
    others.ship(count + 1)
    others.shipments.taken(1, 300)
    others.open = {1}
    others.got.clear()
    others.shipments.resend(1)
    assert others.numbers() == list(range(301, count + 2))
    others.shipments.taken(1, count)
    assert len(others.shipments) == 1
    others.shipments.taken(1, count + 1)
    assert len(others.shipments) == 0


def test_what_does_not_fit_into_memory_is_read_when_it_is_sent() -> None:
    others = Others()
    others.open.clear()
    count = 3 * Shipments.KEPT_MESSAGES_MAX
    others.ship(*range(1, count + 1))
    assert others.shipments.kept <= Shipments.KEPT_MESSAGES_MAX
    assert len(others.shipments) == count

    others.open = {1}
    others.shipments.go_on(1)
    assert others.numbers() == list(range(1, count + 1))
    assert others.shipments.kept == 0


def test_large_messages_are_not_kept_but_for_a_few() -> None:
    others = Others()
    others.open.clear()
    half = Shipments.KEPT_BYTES_MAX // 2
    for number in range(1, 8):
        others.ship(number, size=half - 4)
        assert others.shipments.kept <= 2
    others.ship(8, size=2 * Shipments.KEPT_BYTES_MAX)
    assert others.shipments.kept == 0
    others.open = {1}
    others.ship(9)
    assert others.numbers() == list(range(1, 10))


def test_what_was_sent_is_not_kept_and_goes_again_from_the_store() -> None:
    others = Others()
    others.ship(1, 2, 3)
    assert (others.shipments.kept, others.read) == (0, 0)
    others.got.clear()
    others.shipments.resend(1)
    assert (others.numbers(), others.read) == ([1, 2, 3], 3)


def test_a_gap_has_what_follows_sent_again_once_for_all_batches_that_met_it() -> None:
    others = Others()
    others.ship(1)
    others.ship(2)
    others.ship(3)
    others.got.clear()
    others.shipments.taken(1, 0, gap=True)
    others.shipments.taken(1, 0, gap=True)
    assert others.numbers() == [1, 2, 3]

    others.shipments.taken(1, 2)
    others.got.clear()
    others.shipments.taken(1, 2, gap=True)
    assert others.numbers() == [3]
    others.got.clear()
    others.shipments.taken(1, 1, gap=True)
    assert others.numbers() == []


def test_nothing_is_taken_that_was_never_sent() -> None:
    others = Others()
    others.ship(1, 2)
    others.shipments.taken(1, 3)
    others.shipments.truncate_taken()
    assert others.truncated == []
    assert len(others.shipments) == 2


def test_what_stalls_goes_again_and_what_moves_does_not() -> None:
    others = Others()
    others.ship(1, 2)
    others.got.clear()
    assert others.shipments.resend_stalled()
    assert others.numbers() == []
    others.shipments.taken(1, 1)
    assert others.shipments.resend_stalled()
    assert others.numbers() == []
    assert others.shipments.resend_stalled()
    assert others.numbers() == [2]
    others.shipments.taken(1, 2)
    assert not others.shipments.resend_stalled()


def test_words_from_a_leader_before_count_for_what_this_one_has_not_sent() -> None:
    others = Others()
    others.open.clear()
    others.ship(1, 2, 3)
    others.shipments.taken(1, 2)
    others.open = {1}
    others.shipments.go_on(1)
    assert others.numbers() == [3]
