"""KvLogStore: batches and marks by loglet, over every KvStore."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.core.errors import StorageCorruptError
from perdure.core.storage.kv import KvStore
from perdure.core.storage.memory import MemoryStore
from perdure.core.storage.rocks import RocksStore
from perdure.log.errors import CorruptBatchError
from perdure.log.log_store import SEALED, TRIMMED, KvLogStore, StoredState
from perdure.log.types import Batch

from .support import group, numbers

MAX_LOGLET = (1 << 64) - 2
LOGLETS = [0, 1, 2, 255, 256, 1 << 32, MAX_LOGLET]
BIG = 1 << 30


@pytest.fixture(params=["memory", "rocks"])
def kv(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KvStore]:
    made = MemoryStore() if request.param == "memory" else RocksStore.open(tmp_path / "log")
    yield made
    made.close()


def batch(first: int, last: int, time_ns: int = 7) -> Batch:
    return Batch(first, time_ns, 1, group(first, last - first + 1))


def filled(kv: KvStore, loglet: int = 1) -> KvLogStore:
    """Batches 1-3, 4-4, 5-9."""
    store = KvLogStore(kv)
    spans = [(1, 3), (4, 4), (5, 9)]
    kv.write([store.append(loglet, batch(first, last, last)) for first, last in spans])
    return store


def spans(batches: list[Batch]) -> list[tuple[int, int]]:
    return [(item.first_offset, item.last_offset) for item in batches]


def test_nothing_is_stored_of_an_unknown_loglet(kv: KvStore) -> None:
    store = KvLogStore(kv)

    assert store.state(1) == StoredState(1, 0, 0, False)
    assert store.read(1, 1, 1, BIG) == []


def test_read_gives_whole_batches_below_the_tail(kv: KvStore) -> None:
    store = filled(kv)
    for first in range(1, 10):
        expected = [span for span in ((1, 3), (4, 4), (5, 9)) if span[1] >= first]
        assert spans(store.read(1, first, 10, BIG)) == expected
        assert spans(store.read(1, first, 10, 1)) == expected[:1]

    assert spans(store.read(1, 1, 5, BIG)) == [(1, 3), (4, 4)]
    assert spans(store.read(1, 1, 4, BIG)) == [(1, 3)]
    assert numbers(store.read(1, 1, 10, BIG)) == list(range(1, 10))
    assert store.read(1, 10, 10, BIG) == []


def test_read_stops_after_the_batch_that_fills_it(kv: KvStore) -> None:
    store = KvLogStore(kv)
    writes = [store.append(1, batch(number, number)) for number in range(1, 11)]
    kv.write(writes)
    size = len(writes[0][1] or b"")

    assert len(store.read(1, 1, 11, size)) == 1
    assert len(store.read(1, 1, 11, size + 1)) == 2
    assert len(store.read(1, 1, 11, 5 * size)) == 5


@pytest.mark.parametrize(
    ("missing", "first", "reason"),
    [
        (3, 1, "offsets before 4 are missing"),
        (3, 3, "offsets before 4 are missing"),
        (4, 1, "offsets before 5 are missing"),
        (4, 4, "offsets before 5 are missing"),
        (9, 1, "offsets from 5 on are missing"),
        (9, 5, "offsets from 5 on are missing"),
        (9, 8, "offsets from 8 on are missing"),
    ],
)
def test_gap_is_damage(kv: KvStore, missing: int, first: int, reason: str) -> None:
    store = filled(kv)
    key, _ = store.append(1, batch(missing, missing))
    kv.write([(key, None)])
    with pytest.raises(CorruptBatchError, match=reason) as raised:
        store.read(1, first, 10, BIG)

    assert raised.value.loglet == 1


def test_batches_that_overlap_are_damage(kv: KvStore) -> None:
    store = filled(kv)
    kv.write([store.append(1, batch(2, 4))])
    with pytest.raises(CorruptBatchError):
        store.read(1, 1, 10, BIG)


def test_state_is_that_of_the_last_batch(kv: KvStore) -> None:
    store = filled(kv)

    assert store.state(1) == StoredState(10, 9, 0, False)


def test_marks_are_part_of_the_state(kv: KvStore) -> None:
    store = filled(kv)
    kv.write([store.mark(1, TRIMMED, 4, 9)])
    assert store.state(1) == StoredState(10, 9, 4, False)
    kv.write([store.mark(1, SEALED, 10, 9)])
    assert store.state(1) == StoredState(10, 9, 4, True)
    kv.write([store.mark(1, TRIMMED, 9, 11)])
    assert store.state(1) == StoredState(10, 11, 9, True), "time and tail of what is trimmed"
    store.trim(1, 9)
    assert store.state(1) == StoredState(10, 11, 9, True)
    assert store.read(1, 10, 10, BIG) == []


def test_what_a_crash_left_below_the_trim_point_does_not_count(kv: KvStore) -> None:
    store = filled(kv)
    kv.write([store.mark(1, TRIMMED, 9, 9)])
    assert store.state(1) == StoredState(10, 9, 9, False)
    kv.write([store.append(1, batch(10, 11, 12))])
    assert store.state(1) == StoredState(12, 12, 9, False)
    store.trim(1, 10)

    assert [key for key, _ in kv.scan(b"d", b"e")] == [store.append(1, batch(10, 11))[0]]


def test_empty_loglet_can_be_sealed(kv: KvStore) -> None:
    store = KvLogStore(kv)
    kv.write([store.mark(1, SEALED, 1, 0)])

    assert store.state(1) == StoredState(1, 0, 0, True)


@pytest.mark.parametrize("sealed", [1, 5, 9, 11])
def test_seal_that_does_not_fit_is_damage(kv: KvStore, sealed: int) -> None:
    store = filled(kv)
    kv.write([store.mark(1, SEALED, sealed, 9)])
    with pytest.raises(CorruptBatchError, match=f"sealed at offset {sealed} and ends at 10"):
        store.state(1)


@pytest.mark.parametrize("size", [0, 16, 19, 21, 40])
def test_mark_of_another_size_is_damage(kv: KvStore, size: int) -> None:
    store = filled(kv)
    key, value = store.mark(1, TRIMMED, 3, 9)
    assert value is not None
    assert len(value) == 20
    kv.write([(key, (value * 2)[:size])])
    with pytest.raises(StorageCorruptError, match=f"loglet 1: mark 't' has {size} bytes"):
        store.state(1)


def test_trim_deletes_what_ends_at_or_before_it(kv: KvStore) -> None:
    store = filled(kv)
    for last, left in [(2, [1, 4, 5]), (3, [4, 5]), (8, [5]), (9, [])]:
        store.trim(1, last)
        assert len([*kv.scan(b"d", b"e")]) == len(left)
        if left:
            assert spans(store.read(1, left[0], 10, BIG))[0][0] == left[0]


def test_loglets_do_not_touch_each_other(kv: KvStore) -> None:
    store = KvLogStore(kv)
    for loglet in LOGLETS:
        filled(kv, loglet)
        kv.write([store.mark(loglet, SEALED, 10, 9), store.mark(loglet, TRIMMED, 3, 9)])
    for index, loglet in enumerate(LOGLETS[:-1]):
        assert spans(store.read(loglet, 4, 10, BIG)) == [(4, 4), (5, 9)]
        store.trim(loglet, (1 << 63) - 1)
        with pytest.raises(CorruptBatchError):
            store.read(loglet, 4, 10, BIG)
        store.delete(loglet, loglet + 1)
        assert store.state(loglet) == StoredState()
        for other in LOGLETS[index + 1 :]:
            assert store.state(other) == StoredState(10, 9, 3, True)
            assert numbers(store.read(other, 4, 10, BIG)) == [4, 5, 6, 7, 8, 9]


def test_delete_takes_a_range_of_loglets(kv: KvStore) -> None:
    store = KvLogStore(kv)
    for loglet in LOGLETS:
        filled(kv, loglet)
        kv.write([store.mark(loglet, TRIMMED, 3, 9)])
    store.delete(1, 256)
    store.delete(1, 256)

    left = [loglet for loglet in LOGLETS if store.state(loglet) != StoredState()]
    assert left == [0, 256, 1 << 32, MAX_LOGLET]
