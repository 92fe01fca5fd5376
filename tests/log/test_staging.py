"""Staging: offsets, record times, and batches that never cut a group."""

from hypothesis import given
from hypothesis import strategies as st

from perdure.log.staging import Staging
from perdure.log.types import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, Batch

from .support import group, numbers, record

MIB = 1024 * 1024

groups_of_a_turn = st.lists(
    st.tuples(
        st.sampled_from([1, 1, 2, 3, 400, 600, 999, 1000, 1001]),
        st.sampled_from([8, 8, 5000, 2 * MIB, 3 * MIB]),
    ).filter(lambda item: item[0] * item[1] <= 12 * MIB),
    max_size=8,
)


def test_nothing_added_gives_no_batch() -> None:
    staging = Staging(next_offset=5, record_time_ns=10, epoch=1)

    assert staging.take(99) == []
    assert staging.next_offset == 5
    assert staging.record_time_ns == 10, "the time of a batch that is none"


def test_groups_of_one_turn_are_one_batch() -> None:
    staging = Staging(next_offset=5, record_time_ns=0, epoch=3)
    records = group(5, 2)
    assert staging.add(records) == 5
    records.clear()  # It is the caller's list.
    assert staging.add([record(7)]) == 7

    assert staging.take(20) == [Batch(5, 20, 3, group(5, 3))]
    assert staging.take(21) == []
    assert staging.next_offset == 8


def test_record_time_never_goes_back() -> None:
    staging = Staging(next_offset=1, record_time_ns=50, epoch=1)
    times: list[int] = []
    for now_ns in (40, 60, 55, 61):
        staging.add([record(1)])
        times.append(staging.take(now_ns)[0].record_time_ns)

    assert times == [50, 60, 60, 61]
    assert staging.record_time_ns == 61


def test_limits_are_reached_exactly() -> None:
    staging = Staging(next_offset=1, record_time_ns=0, epoch=1)
    staging.add(group(1, BATCH_RECORDS_MAX))
    assert len(staging.take(0)) == 1
    staging.add([record(1, BATCH_BYTES_MAX - 8)])
    staging.add([record(2, 8)])
    assert len(staging.take(0)) == 1
    staging.add([record(1, BATCH_BYTES_MAX - 8)])
    staging.add([record(2, 9)])
    assert len(staging.take(0)) == 2


def test_groups_longer_than_a_batch_stay_whole() -> None:
    staging = Staging(next_offset=1, record_time_ns=0, epoch=1)
    staging.add([record(1)])
    staging.add(group(2, BATCH_RECORDS_MAX + 5))
    staging.add([record(9)])

    assert [len(batch.records) for batch in staging.take(0)] == [1, BATCH_RECORDS_MAX + 5, 1]


@given(turns=st.lists(groups_of_a_turn, max_size=3))
def test_batches_are_whole_groups_within_the_limits(turns: list[list[tuple[int, int]]]) -> None:
    staging = Staging(next_offset=1, record_time_ns=0, epoch=2)
    for now_ns, groups in enumerate(turns, 1):
        ends: dict[int, int] = {}
        first = start = staging.next_offset
        for count, size in groups:
            # The bodies of a group are one object: a thousand of them cost nothing.
            assert staging.add([record(first, size)] * count) == first
            first += count
            ends[first - 1] = count * size
        batches = staging.take(now_ns)
        expected = twin(groups)

        assert [len(batch.records) for batch in batches] == expected
        offset = start
        for batch in batches:
            assert (batch.first_offset, batch.record_time_ns, batch.epoch) == (offset, now_ns, 2)
            assert batch.last_offset in ends
            offset = batch.last_offset + 1
        assert offset == first == staging.next_offset
        found = numbers(batches)
        assert len(found) == first - start
        assert found == sorted(found)


def twin(groups: list[tuple[int, int]]) -> list[int]:
    """How many records each batch has, worked out the plain way."""
    batches: list[list[tuple[int, int]]] = []
    for item in groups:
        if batches:
            longer = [*batches[-1], item]
            count = sum(count for count, _ in longer)
            size = sum(count * size for count, size in longer)
            if count <= BATCH_RECORDS_MAX and size <= BATCH_BYTES_MAX:
                batches[-1] = longer
                continue
        batches.append([item])
    return [sum(count for count, _ in batch) for batch in batches]
