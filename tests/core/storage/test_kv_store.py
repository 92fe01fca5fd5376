"""Every KvStore keeps the contract."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from perdure.core.errors import StorageError
from perdure.core.random import SeededRandom
from perdure.core.storage.kv import KvStore
from perdure.core.storage.memory import MemoryStore
from perdure.core.storage.rocks import Profile, RocksStore

from ...conformance.kv_store import KvStoreSuite, items

FILE_BYTES_MAX = 64 * 1024


class RocksHarness:
    """Opens one directory again and again."""

    def __init__(self, path: Path, profile: Profile) -> None:
        """Take the directory, which need not be there."""
        self.path = path
        self.profile: Profile = profile
        self.opened: list[RocksStore] = []

    def open(self) -> RocksStore:
        """Open the directory."""
        store = RocksStore.open(self.path, profile=self.profile)
        self.opened.append(store)
        return store

    @contextmanager
    def failing_writes(self, store: KvStore) -> Iterator[None]:
        """Let no file of this process grow over `FILE_BYTES_MAX`, as a full disk would not."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class MemoryHarness:
    """Hands the content from one store to the next."""

    def __init__(self) -> None:
        """Start empty."""
        self.last = MemoryStore()

    def open(self) -> MemoryStore:
        """Give a new store with what the last one held."""
        self.last = self.last.reopen()
        return self.last

    @contextmanager
    def failing_writes(self, store: KvStore) -> Iterator[None]:
        """Tell the store to fail."""
        assert isinstance(store, MemoryStore)
        store.fail_next_write()
        yield


class TestRocksStore(KvStoreSuite):
    """The store on disk."""

    @pytest.fixture(params=["state", "log"])
    def harness(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RocksHarness]:
        """Stores that are closed after the test."""
        harness = RocksHarness(tmp_path / "new" / "store", request.param)
        yield harness
        for store in harness.opened:
            store.close()


class TestMemoryStore(KvStoreSuite):
    """The store in memory."""

    @pytest.fixture
    def harness(self) -> MemoryHarness:
        """Stores that need no closing."""
        return MemoryHarness()


def written(count: int, synced: int) -> MemoryStore:
    """A store with `count` writes, of which the first `synced` are durable."""
    store = MemoryStore()
    for number in range(count):
        if number == synced:
            store.sync()
        store.write([(b"%03d" % number, b"x"), (b"last", b"%d" % number), (b"gone", None)])
    return store


def test_crash_of_memory_store_keeps_what_was_synced_and_a_prefix_of_the_rest() -> None:
    for keep in range(6):
        survivors = items(written(10, synced=5).crash(keep))

        assert len(survivors) == 5 + keep + 1
        assert survivors[b"last"] == b"%d" % (4 + keep)


def test_crash_of_memory_store_takes_back_ranges_and_overwrites() -> None:
    store = MemoryStore({b"a": b"1", b"b": b"2", b"c": b"3"})
    store.delete_range(b"a", b"c")
    store.write([(b"a", b"new"), (b"a", b"newer"), (b"c", None), (b"d", b"4")])
    store.write([(b"a", None)])

    assert items(store) == {b"d": b"4"}
    assert items(store.crash(1)) == {b"c": b"3"}
    assert items(MemoryStore({b"a": b"1"}).crash()) == {b"a": b"1"}


def test_crash_of_memory_store_repeats_with_its_seed() -> None:
    def survivors(seed: int) -> int:
        return len(items(written(40, synced=5).crash(SeededRandom(seed)))) - 1

    counts = [survivors(seed) for seed in range(50)]

    assert counts == [survivors(seed) for seed in range(50)]
    assert min(counts) >= 5
    assert max(counts) <= 40
    assert len(set(counts)) > 10


def test_crashed_memory_store_is_of_no_use() -> None:
    store = written(2, synced=1)
    store.crash()

    with pytest.raises(StorageError):
        store.get(b"last")
    with pytest.raises(StorageError):
        store.write([])


def test_failed_sync_poisons_and_may_lose_all_that_was_not_durable() -> None:
    store = written(3, synced=1)
    store.fail_next_sync()
    with pytest.raises(StorageError, match="cannot sync"):
        store.sync()
    uses: list[Callable[[], None]] = [
        lambda: store.write([]),
        lambda: store.delete_range(b"a", b"b"),
        store.sync,
    ]
    for use in uses:
        with pytest.raises(StorageError):
            use()

    assert items(store)[b"last"] == b"2"
    assert items(store.crash(0))[b"last"] == b"0"


def test_fail_after_counts_writes_and_syncs() -> None:
    store = MemoryStore()
    store.fail_after(3)
    store.write([(b"a", b"1")])
    store.sync()
    store.delete_range(b"b", b"c")
    with pytest.raises(StorageError):
        store.write([(b"b", b"2")])

    assert items(store) == {b"a": b"1"}


def test_close_of_a_store_that_cannot_sync_raises_and_closes() -> None:
    store = written(3, synced=1)
    store.fail_next_sync()
    with pytest.raises(StorageError):
        store.close()
    store.close()

    with pytest.raises(StorageError, match="closed"):
        store.get(b"last")


def test_memory_store_counts_what_is_asked_of_it() -> None:
    store = MemoryStore()
    store.write([(b"a", b"1"), (b"b", b"2"), (b"c", None)])
    store.delete_range(b"a", b"b")
    store.sync()
    store.get(b"a")
    store.reclaim(b"a", b"b")
    list(store.scan(b"", b"z"))

    assert store.reclaims == 1
    counted = (store.writes, store.puts, store.deletes, store.syncs, store.gets, store.scans)
    assert counted == (2, 2, 2, 1, 1, 1)
    assert store.unsynced_writes == 0
