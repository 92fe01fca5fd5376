"""The recorder of histories finds the stores that break their contract."""

import asyncio
import random

import pytest

from perdure.core.errors import StorageError
from perdure.core.storage.memory import MemoryStore
from perdure.metadata import (
    MetadataStore,
    Precondition,
    Version,
    VersionedValue,
)
from perdure.metadata.local import LocalMetadataStore
from perdure.metadata.memory import MemoryMetadataStore

from ..linearizability import NotLinearizableError
from .history import History, Recorder, record_and_check

SEEDS = range(100)


class SharedHost:
    """A host whose store never goes away."""

    def __init__(self, store: MetadataStore) -> None:
        """Take the store."""
        self.store = store

    def open(self) -> MetadataStore:
        """The one store."""
        return self.store

    def break_disk(self) -> bool:
        """There is no disk."""
        return False

    def crash(self, draw: random.Random) -> None:
        """Keep everything."""


class Forgetful(MemoryMetadataStore):
    """Forgets the version of a key with its value."""

    async def delete(self, key: str, precondition: Precondition = None) -> None:
        """Remove the whole entry."""
        await super().delete(key, precondition)
        self._entries.pop(key.encode(), None)


class Hasty(MemoryMetadataStore):
    """Checks the precondition, waits, and then stores whatever has come to be there."""

    async def put(self, key: str, value: bytes, precondition: Precondition = None) -> Version:
        """Check too early."""
        held = await self.get(key)
        copy = MemoryMetadataStore()
        if held is not None:
            copy._entries[key.encode()] = held.version, held.value
        await copy.put(key, value, precondition)
        await asyncio.sleep(0)
        return await super().put(key, value)


class Stale(MemoryMetadataStore):
    """Answers every third read from a copy that lags behind."""

    def __init__(self) -> None:
        """Start empty."""
        super().__init__()
        self.reads = 0
        self.former: dict[str, VersionedValue | None] = {}

    async def get(self, key: str) -> VersionedValue | None:
        """Sometimes what was there at the read before."""
        self.reads += 1
        former = self.former.get(key)
        self.former[key] = await super().get(key)
        return former if self.reads % 3 == 0 else self.former[key]


class Tireless(MemoryMetadataStore):
    """Goes on with a put long after its caller was cancelled."""

    def __init__(self) -> None:
        """Start empty."""
        super().__init__()
        self.late: set[asyncio.Task[Version]] = set()

    async def put(self, key: str, value: bytes, precondition: Precondition = None) -> Version:
        """Store in a task of its own."""
        task = asyncio.create_task(self._put(key, value, precondition))
        self.late.add(task)
        task.add_done_callback(self._settle)
        return await asyncio.shield(task)

    async def _put(self, key: str, value: bytes, precondition: Precondition) -> Version:
        for _ in range(20):
            await asyncio.sleep(0)
        return await super().put(key, value, precondition)

    def _settle(self, task: "asyncio.Task[Version]") -> None:
        self.late.discard(task)
        # Nobody may be left to hear of a refusal.
        task.exception()


class Hoarding(MemoryMetadataStore):
    """Lists keys that were deleted."""

    async def keys(self, prefix: str) -> list[str]:
        """Every key ever put."""
        return sorted(key.decode() for key in self._entries if key.startswith(prefix.encode()))


@pytest.mark.parametrize("broken", [Forgetful, Hasty, Stale, Tireless, Hoarding])
def test_a_store_that_breaks_its_contract_is_found(broken: type[MemoryMetadataStore]) -> None:
    with pytest.raises(NotLinearizableError, match=r"seed \d+, key"):
        record_and_check(SharedHost(broken()), SEEDS)


class Unsynced(MemoryStore):
    """Says that it has synced."""

    def sync(self) -> None:
        """Do nothing."""


class Unsettled(LocalMetadataStore):
    """Goes on after a failed change as if nothing had happened."""

    def _check_settled(self) -> None:
        self._failure = None


class MachineHost:
    """A disk that fails and loses what was not synced, under a store of some type."""

    def __init__(self, disk: type[MemoryStore], store: type[LocalMetadataStore]) -> None:
        """Start empty."""
        self.disk_type = disk
        self.store_type = store
        self.disk: MemoryStore = disk()

    def open(self) -> MetadataStore:
        """A store on what the disk holds."""
        return self.store_type(self.disk)

    def break_disk(self) -> bool:
        """Let the next sync fail."""
        self.disk.fail_next_sync()
        return True

    def crash(self, draw: random.Random) -> None:
        """Lose any part of what was not synced."""
        left = self.disk.crash(draw.randint(0, self.disk.unsynced_writes))
        self.disk = self.disk_type(dict(left.scan(b"", b"\xff")))


@pytest.mark.parametrize(
    ("disk", "store"), [(Unsynced, LocalMetadataStore), (MemoryStore, Unsettled)]
)
def test_a_store_whose_changes_are_not_durable_is_found(
    disk: type[MemoryStore], store: type[LocalMetadataStore]
) -> None:
    with pytest.raises(NotLinearizableError, match=r"seed \d+, key"):
        record_and_check(MachineHost(disk, store), SEEDS)


class Failing(MemoryMetadataStore):
    """Fails although its disk does not."""

    async def get(self, key: str) -> VersionedValue | None:
        """Fail."""
        raise StorageError("a fault nobody asked for")


def test_a_store_that_fails_on_a_good_disk_is_found() -> None:
    with pytest.raises(StorageError):
        record_and_check(SharedHost(Failing()), SEEDS)


def recorded(seed: int) -> History:
    """A history on a good machine."""
    return asyncio.run(Recorder(MachineHost(MemoryStore, LocalMetadataStore), seed).run())


def test_a_seed_gives_one_history() -> None:
    assert recorded(3) == recorded(3)
    assert recorded(3) != recorded(4)


def test_operations_of_different_clients_overlap() -> None:
    operations = recorded(3)["3/a"]
    overlapping = [
        (one, other)
        for one in operations
        for other in operations
        if one.client != other.client
        and other.returned_at is not None
        and one.called_at < other.called_at < other.returned_at < (one.returned_at or 0)
    ]

    assert overlapping
