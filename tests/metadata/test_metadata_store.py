"""Every MetadataStore keeps the contract, and what the stores have besides it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.core.errors import StorageCorruptError, StorageError, StorageFormatError
from perdure.core.storage.memory import MemoryStore
from perdure.core.storage.rocks import RocksStore
from perdure.metadata import (
    DoesNotExist,
    MetadataStore,
    Precondition,
    PreconditionFailedError,
    Version,
    VersionedValue,
    read_modify_write,
)
from perdure.metadata.local import LocalMetadataStore
from perdure.metadata.memory import MemoryMetadataStore

from ..conformance.metadata_store import MetadataStoreSuite


class TestMemoryMetadataStore(MetadataStoreSuite):
    """The store in memory."""

    @pytest.fixture
    def store(self) -> MetadataStore:
        """An empty store."""
        return MemoryMetadataStore()


class TestLocalMetadataStoreInMemory(MetadataStoreSuite):
    """The single node's store, without a disk."""

    @pytest.fixture
    def store(self) -> MetadataStore:
        """An empty store."""
        return LocalMetadataStore(MemoryStore())


class TestLocalMetadataStoreOnDisk(MetadataStoreSuite):
    """The single node's store."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[MetadataStore]:
        """An empty store."""
        disk = RocksStore.open(tmp_path / "metadata")
        yield LocalMetadataStore(disk)
        disk.close()


def test_local_changes_are_durable_when_they_return() -> None:
    async def scenario() -> None:
        disk = MemoryStore()
        store = LocalMetadataStore(disk)
        first = await store.put("kept", b"1")
        await store.put("gone", b"2")
        await store.delete("gone")
        store = LocalMetadataStore(disk.crash())

        assert await store.get("kept") == VersionedValue(first, b"1")
        assert await store.get("gone") is None
        # The version of the deleted key went on, too.
        assert await store.put("gone", b"3") == 2

    asyncio.run(scenario())


def test_local_store_that_fails_to_sync_shows_nothing_that_may_be_lost() -> None:
    async def scenario() -> None:
        disk = MemoryStore()
        store = LocalMetadataStore(disk)
        first = await store.put("key", b"1")
        disk.fail_next_sync()
        with pytest.raises(StorageError):
            await store.put("key", b"2")
        with pytest.raises(StorageError):
            await store.get("key")
        with pytest.raises(StorageError):
            await store.put("key", b"3")
        after_crash = LocalMetadataStore(disk.crash())

        assert await after_crash.get("key") == VersionedValue(first, b"1")

    asyncio.run(scenario())


def test_local_store_makes_what_it_found_durable_before_it_shows_it() -> None:
    async def scenario() -> None:
        disk = MemoryStore()
        LocalMetadataStore(disk)
        disk.write([(b"metadata/key", bytes((1, 1, 0, 0, 0, 0, 0, 0, 0, 7)) + b"value")])
        disk = disk.reopen()
        store = LocalMetadataStore(disk)
        assert await store.get("key") == VersionedValue(Version(7), b"value")

        assert await LocalMetadataStore(disk.crash()).get("key") is not None

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        (b"", StorageCorruptError),
        (b"\x01\x01\x00", StorageCorruptError),
        (b"\x01\x09" + bytes(8), StorageCorruptError),
        (b"\x02\x01" + bytes(8), StorageFormatError),
    ],
)
def test_local_store_refuses_entries_it_cannot_read(
    entry: bytes, error: type[StorageError]
) -> None:
    store = LocalMetadataStore(MemoryStore({b"metadata/key": entry}))

    with pytest.raises(error, match="key"):
        asyncio.run(store.get("key"))


class Contended(MemoryMetadataStore):
    """A store where somebody else comes first, the first `conflicts` times."""

    def __init__(self, conflicts: int) -> None:
        """Take how often."""
        super().__init__()
        self.conflicts = conflicts

    async def put(self, key: str, value: bytes, precondition: Precondition = None) -> Version:
        """Put somebody else's value first."""
        if self.conflicts:
            self.conflicts -= 1
            await super().put(key, b"other")
        return await super().put(key, value, precondition)


def test_read_modify_write_tries_again_after_conflicts() -> None:
    seen: list[bytes | None] = []

    def change(current: VersionedValue | None) -> bytes:
        seen.append(current.value if current else None)
        return b"mine"

    store = Contended(conflicts=2)
    stored = asyncio.run(read_modify_write(store, "key", change))

    assert seen == [None, b"other", b"other"]
    assert stored == VersionedValue(Version(3), b"mine")


def test_read_modify_write_gives_up_after_its_bound() -> None:
    store = Contended(conflicts=100)
    with pytest.raises(PreconditionFailedError):
        asyncio.run(read_modify_write(store, "key", lambda _: b"mine", conflicts_max=3))

    assert store.conflicts == 96


def test_read_modify_write_stores_nothing_when_nothing_changes() -> None:
    async def scenario() -> None:
        store = MemoryMetadataStore()
        assert await read_modify_write(store, "key", lambda _: None) is None
        version = await store.put("key", b"1", DoesNotExist())

        assert await read_modify_write(store, "key", lambda _: None) == VersionedValue(
            version, b"1"
        )
        assert await store.put("key", b"2") == version + 1

    asyncio.run(scenario())
