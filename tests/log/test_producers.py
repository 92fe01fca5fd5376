"""Producers: what the sequencer's table says early and what the reader's filter lets count."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.log.answers import Duplicate, Fenced, OutOfOrder, Producer
from perdure.log.producers import RING, ProducerFilter, ProducerTable, ProducerVerdict
from perdure.log.types import Record

P, Q, R = b"p" * 16, b"q" * 16, b"r" * 16


def numbered(epoch: int, sequence: int, producer: bytes | None = P) -> Record:
    return Record(1, b"", (), 1, producer, sequence, producer_epoch=epoch)


def test_a_producer_begins_at_one() -> None:
    """Only then is it sure that nothing before it is missing."""
    table = ProducerTable()

    assert table.check(Producer(P, 1, 1)) is None
    assert table.check(Producer(P, 7, 1)) is None
    assert table.check(Producer(P, 1, 2)) == ProducerVerdict(OutOfOrder(1), 0)


def test_numbers_follow_each_other() -> None:
    """An append of several records takes as many numbers; a gap names the next one."""
    table = ProducerTable()
    table.note(Producer(P, 1, 1), 100, 3)

    assert table.check(Producer(P, 1, 4)) is None
    assert table.check(Producer(P, 1, 5)) == ProducerVerdict(OutOfOrder(4), 102)


def test_a_number_that_was_there_is_a_duplicate() -> None:
    """It names the first record's LSN as long as that is remembered."""
    table = ProducerTable()
    for number in range(RING + 1):
        table.note(Producer(P, 1, 1 + 2 * number), 100 + 2 * number, 2)
    last = 100 + 2 * RING + 1

    assert table.check(Producer(P, 1, 3)) == ProducerVerdict(Duplicate(102), 102)
    assert table.check(Producer(P, 1, 1)) == ProducerVerdict(Duplicate(None), last)
    # In the middle of an append that was sent as one.
    assert table.check(Producer(P, 1, 4)) == ProducerVerdict(Duplicate(None), last)


def test_a_new_epoch_begins_again_and_shuts_out_the_old_one() -> None:
    """The refusal waits for the record that is its cause."""
    table = ProducerTable()
    table.note(Producer(P, 1, 1), 100, 1)

    assert table.check(Producer(P, 2, 2)) == ProducerVerdict(OutOfOrder(1), 0)
    assert table.check(Producer(P, 2, 1)) is None

    table.note(Producer(P, 2, 1), 101, 1)

    assert table.check(Producer(P, 1, 2)) == ProducerVerdict(Fenced(2), 101)
    assert table.check(Producer(P, 1, 1)) == ProducerVerdict(Fenced(2), 101)
    assert table.check(Producer(P, 2, 1)) == ProducerVerdict(Duplicate(101), 101)


def test_producers_do_not_mix() -> None:
    """Each has its own numbers."""
    table = ProducerTable()
    table.note(Producer(P, 5, 1), 100, 1)

    assert table.check(Producer(Q, 1, 1)) is None
    assert table.check(Producer(Q, 1, 2)) == ProducerVerdict(OutOfOrder(1), 0)


def test_the_least_recent_producer_is_forgotten() -> None:
    """It has to begin anew, as in a new segment."""
    table = ProducerTable(producers_max=2)
    table.note(Producer(P, 1, 1), 100, 1)
    table.note(Producer(Q, 1, 1), 101, 1)
    table.note(Producer(P, 1, 2), 102, 1)
    table.note(Producer(R, 1, 1), 103, 1)

    assert table.check(Producer(P, 1, 3)) is None
    # Told once its own records are committed: it has to find them by reading.
    assert table.check(Producer(Q, 1, 2)) == ProducerVerdict(OutOfOrder(1), 101)


def test_the_filter_lets_each_number_count_once() -> None:
    """Exactly the next one; duplicates and gaps change nothing."""
    counts = ProducerFilter()
    order = [1, 1, 2, 4, 3, 2, 4]

    accepted = [number for number in order if counts.accept(numbered(1, number))]

    assert accepted == [1, 2, 3, 4]
    assert counts.state == {P: (1, 4)}


def test_the_filter_ends_an_epoch_where_the_next_begins() -> None:
    """At number 1; afterwards nothing of the old one counts."""
    counts = ProducerFilter({P: (1, 3)})

    assert not counts.accept(numbered(2, 2))
    assert counts.accept(numbered(1, 4))
    assert counts.accept(numbered(3, 1))
    assert not counts.accept(numbered(1, 5))
    assert not counts.accept(numbered(2, 1))
    assert counts.accept(numbered(3, 2))


def test_records_without_a_producer_always_count() -> None:
    """They are the leader's own."""
    counts = ProducerFilter()

    assert counts.accept(numbered(0, 0, None))
    assert counts.accept(numbered(0, 0, None))
    assert counts.state == {}


def test_the_filter_goes_on_from_its_state() -> None:
    """The state is all that has to be kept."""
    first = ProducerFilter()
    first.accept(numbered(1, 1))
    second = ProducerFilter(dict(first.state))

    assert not second.accept(numbered(1, 1))
    assert second.accept(numbered(1, 2))


@given(sent=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 2))))
def test_what_the_table_lets_pass_the_filter_lets_count(sent: list[tuple[int, int, int]]) -> None:
    """In one segment, from the first append on, the early answer is the final one."""
    table = ProducerTable()
    counts = ProducerFilter()
    lsn = 1
    for epoch, sequence, count in sent:
        producer = Producer(P, epoch, sequence)
        if table.check(producer) is None:
            table.note(producer, lsn, count)
            for number in range(count):
                assert counts.accept(numbered(epoch, sequence + number))
            lsn += count


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_refusal_waits_for_a_cause_that_is_in_flight_only(epoch: int) -> None:
    """Nothing known means nothing to wait for."""
    verdict = ProducerTable().check(Producer(P, epoch, 9))

    assert verdict is not None
    assert verdict.after_lsn == 0
