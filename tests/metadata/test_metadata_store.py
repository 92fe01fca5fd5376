"""Every MetadataStore keeps the contract, and what the stores have besides it."""

import asyncio
import itertools
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.core.errors import (
    MessageTooLargeError,
    StorageCorruptError,
    StorageError,
    StorageFormatError,
)
from perdure.core.storage.memory import MemoryStore
from perdure.core.storage.rocks import RocksStore
from perdure.metadata import (
    VALUE_BYTES_MAX,
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
from .history import Host


class MemoryHost:
    """A store in memory; a crash takes nothing but the answers that are on their way."""

    def __init__(self) -> None:
        """Start empty."""
        self.store = MemoryMetadataStore()

    def open(self) -> MetadataStore:
        """The one store."""
        return self.store

    def break_disk(self) -> bool:
        """There is none."""
        return False

    def crash(self, draw: random.Random) -> None:
        """Keep everything."""


class DiskInMemory:
    """A machine with a disk that can fail, and lose what was not synced."""

    def __init__(self) -> None:
        """Start empty."""
        self.disk = MemoryStore()

    def open(self) -> MetadataStore:
        """A store on what the disk holds."""
        return LocalMetadataStore(self.disk)

    def break_disk(self) -> bool:
        """Let the next write, or the next sync, fail."""
        self.disk.fail_next_sync()
        return True

    def crash(self, draw: random.Random) -> None:
        """Lose the machine with any part of what was not synced, or the process alone."""
        if draw.random() < 0.25:
            self.disk = self.disk.reopen()
        else:
            self.disk = self.disk.crash(draw.randint(0, self.disk.unsynced_writes))


class DiskOfFiles:
    """A directory; a crash kills the process and leaves the files as they were at that instant."""

    def __init__(self, path: Path) -> None:
        """Take an empty directory."""
        self.path = path
        self.opened = 0
        self.disk = RocksStore.open(path / "0")

    def open(self) -> MetadataStore:
        """A store on what the directory holds."""
        return LocalMetadataStore(self.disk)

    def break_disk(self) -> bool:
        """Files do not fail on demand."""
        return False

    def crash(self, draw: random.Random) -> None:
        """Go on with a copy of the files, made while the store still had them open."""
        # Opening a directory costs more than a whole history, so most crashes after the first one
        # take only the answers that are on their way.
        if self.opened and draw.random() < 0.9:
            return
        self.opened += 1
        successor = self.path / str(self.opened)
        shutil.copytree(self.path / str(self.opened - 1), successor)
        self.disk.close()
        self.disk = RocksStore.open(successor)


class TestMemoryMetadataStore(MetadataStoreSuite):
    """The store in memory."""

    @pytest.fixture
    def host(self) -> Host:
        """Where it runs."""
        return MemoryHost()


class TestLocalMetadataStoreInMemory(MetadataStoreSuite):
    """The single node's store, without a disk."""

    @pytest.fixture
    def host(self) -> Host:
        """Where it runs."""
        return DiskInMemory()


class TestLocalMetadataStoreOnDisk(MetadataStoreSuite):
    """The single node's store."""

    # Each history waits for some thirty real syncs.
    histories = range(30)

    @pytest.fixture
    def host(self, tmp_path: Path) -> Iterator[Host]:
        """Where it runs."""
        files = DiskOfFiles(tmp_path)
        yield files
        files.disk.close()


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
        with pytest.raises(StorageError):
            await store.delete("other")
        with pytest.raises(StorageError):
            await store.keys("")
        after_crash = LocalMetadataStore(disk.crash())

        assert await after_crash.get("key") == VersionedValue(first, b"1")

    asyncio.run(scenario())


@pytest.mark.parametrize("kept_writes", [0, 1])
@pytest.mark.parametrize("operations", range(12))
def test_local_store_keeps_what_was_acknowledged_wherever_the_disk_fails(
    operations: int, kept_writes: int
) -> None:
    async def scenario() -> None:
        disk = MemoryStore()
        store = LocalMetadataStore(disk)
        disk.fail_after(operations)
        acknowledged: bytes | None = None
        tried: bytes | None = None
        for number in itertools.count():
            acknowledged = tried
            # Every third change is a delete, and no two values are equal.
            tried = None if number % 3 == 2 else b"%d" % number
            try:
                if tried is None:
                    await store.delete("key")
                else:
                    await store.put("key", tried)
            except StorageError:
                break
        with pytest.raises(StorageError):
            await store.get("key")
        # A failed write left no trace; of a failed sync the write may have been kept or not.
        expected = tried if kept_writes and operations % 2 else acknowledged
        held = await LocalMetadataStore(disk.crash(kept_writes)).get("key")

        assert (held.value if held else None) == expected

    asyncio.run(scenario())


class InterruptedSync(MemoryStore):
    """A disk whose third sync never returns, as the program is interrupted."""

    def sync(self) -> None:
        """Be interrupted."""
        if self.syncs == 2:
            raise KeyboardInterrupt
        super().sync()


def test_local_store_shows_nothing_of_a_change_that_was_interrupted() -> None:
    disk = InterruptedSync()
    store = LocalMetadataStore(disk)
    with pytest.raises(StopIteration):
        store.put("key", b"1").send(None)
    with pytest.raises(KeyboardInterrupt):
        store.put("key", b"2").send(None)

    assert disk.unsynced_writes == 1
    with pytest.raises(StorageError, match="did not end"):
        store.get("key").send(None)


def test_local_store_goes_on_after_a_refusal_and_after_a_limit() -> None:
    async def scenario() -> None:
        disk = MemoryStore()
        store = LocalMetadataStore(disk)
        await store.put("key", b"1")
        with pytest.raises(PreconditionFailedError):
            await store.put("key", b"2", DoesNotExist())
        with pytest.raises(MessageTooLargeError):
            await store.put("key", bytes(VALUE_BYTES_MAX + 1))
        await store.delete("never")

        # Nothing was written for what changed nothing.
        assert disk.writes == 1
        assert await store.put("key", b"3") == 2

    asyncio.run(scenario())


def test_local_store_leaves_its_neighbours_keys_alone() -> None:
    async def scenario() -> None:
        beside = dict.fromkeys((b"metadata", b"metadata.", b"metadata0", b"\xff"), b"foreign")
        disk = MemoryStore(beside)
        store = LocalMetadataStore(disk)
        await store.put("a", b"1")
        await store.put("\U0010ffff", b"2")

        assert await store.keys("") == ["a", "\U0010ffff"]
        assert await store.get("0") is None
        assert {key: disk.get(key) for key in beside} == beside

    asyncio.run(scenario())


def test_local_store_writes_the_layout_it_promises() -> None:
    async def scenario() -> None:
        disk = MemoryStore()
        store = LocalMetadataStore(disk)
        await store.put("ключ", b"0")
        await store.put("ключ", b"value")
        assert disk.get(b"metadata/" + "ключ".encode()) == b"\x01\x01" + bytes(7) + b"\x02value"
        await store.delete("ключ")

        assert disk.get(b"metadata/" + "ключ".encode()) == b"\x01\x02" + bytes(7) + b"\x02"

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
        (b"\x01\x01" + bytes(7), StorageCorruptError),
        (b"\x01\x01" + bytes(8), StorageCorruptError),
        (b"\x01\x01" + b"\xff" * 8, StorageCorruptError),
        (b"\x01\x00" + bytes(7) + b"\x01", StorageCorruptError),
        (b"\x01\x09" + bytes(7) + b"\x01", StorageCorruptError),
        (b"\x01\x02" + bytes(7) + b"\x01value", StorageCorruptError),
        (b"\x00\x01" + bytes(7) + b"\x01", StorageCorruptError),
        (b"\x02\x01" + bytes(7) + b"\x01", StorageFormatError),
        (b"\x02", StorageFormatError),
    ],
)
def test_local_store_refuses_entries_it_cannot_read(
    entry: bytes, error: type[StorageError]
) -> None:
    disk = MemoryStore(
        {b"metadata/some": entry, b"metadata/sound": b"\x01\x01" + bytes(7) + b"\x01"}
    )
    store = LocalMetadataStore(disk)
    for use in (
        lambda: store.get("some"),
        lambda: store.put("some", b""),
        lambda: store.delete("some"),
        lambda: store.keys("so"),
    ):
        with pytest.raises(StorageError, match=r"key 'some' .*: (restore|use) ") as refused:
            asyncio.run(use())
        assert type(refused.value) is error

    # What is damaged is left as it was found, and what is sound is of use.
    assert disk.get(b"metadata/some") == entry
    assert asyncio.run(store.get("sound")) == VersionedValue(Version(1), b"")
    assert asyncio.run(store.keys("sou")) == ["sound"]


def test_local_store_names_a_key_that_is_no_text() -> None:
    disk = MemoryStore({b"metadata/a\xc3": b"\x01\x01" + bytes(7) + b"\x01"})
    store = LocalMetadataStore(disk)

    with pytest.raises(StorageCorruptError, match=r"metadata/a.xc3' has a name that is not UTF-8"):
        asyncio.run(store.keys(""))


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
