"""ConditionTable: what has changed, how far back it knows, what it forgets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.log.answers import Conflict, NotChangedSince, StaleSnapshot
from perdure.log.conditions import ConditionTable

from .admission import A, B, C, D, E

BASE = 100


def holds(table: ConditionTable, key: bytes, lsn: int) -> Conflict | StaleSnapshot | None:
    return table.check([NotChangedSince(key, lsn)])


def test_a_new_table_holds_for_whoever_has_read_everything_before_it() -> None:
    """Its floor is the LSN before the segment."""
    table = ConditionTable(BASE)

    assert holds(table, A, BASE - 1) is None
    assert holds(table, A, BASE - 2) == StaleSnapshot(BASE - 1)


def test_a_first_segment_has_nothing_below_it() -> None:
    """In an empty log "nothing was ever written" is LSN 0."""
    assert holds(ConditionTable(1), A, 0) is None


def test_a_written_key_conflicts_until_it_was_read() -> None:
    """The record itself is the border."""
    table = ConditionTable(BASE)
    table.note((A,), BASE + 4)

    assert holds(table, A, BASE + 3) == Conflict(A, BASE + 4)
    assert holds(table, A, BASE + 4) is None
    assert holds(table, B, BASE - 1) is None


def test_a_known_key_needs_no_snapshot_above_the_floor() -> None:
    """Whoever knows its last record may be as far behind as it likes."""
    table = ConditionTable(BASE, entries_max=1)
    table.note((A,), BASE)
    table.note((B,), BASE + 1)
    table.evict(BASE + 2)

    assert table.floor == BASE
    assert holds(table, B, BASE - 1) == Conflict(B, BASE + 1)
    assert holds(table, A, BASE - 1) == StaleSnapshot(BASE)
    assert holds(table, A, BASE) is None


def test_the_last_write_of_a_key_counts() -> None:
    """An older one is forgotten with it."""
    table = ConditionTable(BASE)
    table.note((A, B), BASE)
    table.note((A,), BASE + 7)

    assert holds(table, A, BASE) == Conflict(A, BASE + 7)
    assert holds(table, B, BASE) is None


def test_a_record_of_every_key_conflicts_with_every_key() -> None:
    """Also with those that were never seen, and without a key in the answer."""
    table = ConditionTable(BASE)
    table.note((A,), BASE)
    table.note(None, BASE + 1)

    assert holds(table, A, BASE) == Conflict(None, BASE + 1)
    assert holds(table, B, BASE) == Conflict(None, BASE + 1)
    assert holds(table, B, BASE + 1) is None
    assert len(table) == 1


def test_the_keys_own_record_is_named_before_one_of_every_key() -> None:
    """The nearer cause is of more use."""
    table = ConditionTable(BASE)
    table.note(None, BASE)
    table.note((A,), BASE + 1)

    assert holds(table, A, BASE - 1) == Conflict(A, BASE + 1)


def test_the_first_condition_that_fails_is_told() -> None:
    """All have to hold."""
    table = ConditionTable(BASE)
    table.note((B,), BASE)
    table.note((C,), BASE + 1)
    conditions = [NotChangedSince(key, BASE - 1) for key in (A, C, B)]

    assert table.check(conditions) == Conflict(C, BASE + 1)
    assert table.check([]) is None


def test_eviction_forgets_the_oldest_and_raises_the_floor() -> None:
    """To the LSN of the last one forgotten, so that nothing below is taken for unchanged."""
    table = ConditionTable(BASE, entries_max=2)
    for place, key in enumerate((A, B, C, D)):
        table.note((key,), BASE + place)
    table.note((A,), BASE + 4)
    table.evict(BASE + 5)

    assert len(table) == 2
    assert table.floor == BASE + 2
    assert holds(table, C, BASE + 1) == StaleSnapshot(BASE + 2)
    assert holds(table, A, BASE + 2) == Conflict(A, BASE + 4)


def test_eviction_forgets_all_keys_of_a_record_together() -> None:
    """What stays is above the floor, so that its own LSN decides."""
    table = ConditionTable(BASE, entries_max=2)
    table.note((A, B, C), BASE)
    table.note((D,), BASE + 1)
    table.evict(BASE + 2)

    assert len(table) == 1
    assert table.floor == BASE


def test_eviction_keeps_what_is_not_committed() -> None:
    """The floor stays below the committed tail: every reader can get there."""
    table = ConditionTable(BASE, entries_max=1)
    for place, key in enumerate((A, B, C, D, E)):
        table.note((key,), BASE + place)
    table.evict(BASE)

    assert (len(table), table.floor) == (5, BASE - 1)

    table.evict(BASE + 2)

    assert (len(table), table.floor) == (3, BASE + 1)


def test_eviction_waits_until_it_is_worth_it() -> None:
    """A sixteenth over the limit is let pass, then all of the excess goes."""
    table = ConditionTable(BASE, entries_max=32)
    for number in range(34):
        table.note((number.to_bytes(16, "big"),), BASE + number)
    table.evict(BASE + 100)

    assert len(table) == 34

    table.note((A,), BASE + 34)
    table.evict(BASE + 100)

    assert len(table) == 32


Step = tuple[tuple[bytes, ...] | None, int]
steps = st.lists(
    st.tuples(
        st.none() | st.lists(st.sampled_from((A, B, C, D, E)), max_size=3).map(tuple),
        st.integers(0, 4),
    ),
    max_size=30,
)


@given(steps=steps, entries_max=st.integers(1, 4))
def test_never_is_a_changed_key_taken_for_unchanged(steps: list[Step], entries_max: int) -> None:
    """Against a dumb twin that forgets nothing; forgetting only ever refuses too much."""
    table = ConditionTable(BASE, entries_max=entries_max)
    records: list[tuple[bytes, ...] | None] = []
    committed = BASE
    for keys, commit in steps:
        records.append(keys)
        table.note(keys, BASE + len(records) - 1)
        committed = min(committed + commit, BASE + len(records))
        table.evict(committed)
        assert table.floor < committed
        for key in (A, B, C, D, E):
            touching = [
                BASE + place for place, item in enumerate(records) if item is None or key in item
            ]
            last = max(touching, default=0)
            for snapshot in range(BASE - 2, BASE + len(records)):
                match holds(table, key, snapshot):
                    case None:
                        assert last <= snapshot
                    case Conflict(named, lsn):
                        assert lsn in touching
                        assert lsn > snapshot
                        assert named == key or records[lsn - BASE] is None
                    case StaleSnapshot(floor):
                        assert snapshot < floor == table.floor


@pytest.mark.parametrize("entries_max", [1, 4, 100])
def test_whoever_reads_on_gets_through(entries_max: int) -> None:
    """A snapshot of all that is committed is never stale."""
    table = ConditionTable(BASE, entries_max=entries_max)
    for number in range(50):
        table.note((number.to_bytes(16, "big"),), BASE + number)
        table.evict(BASE + number + 1)

        assert holds(table, A, BASE + number) is None
