"""A log on a memory store for tests: writer, loglet, what was committed, what was measured."""

import asyncio

from perdure.core.clock import ManualClock
from perdure.core.errors import StorageError
from perdure.core.storage.kv import KvStore
from perdure.log.local.loglet import LocalLoglet
from perdure.log.local.writer import LogWriter, SyncMode, SyncPolicy
from perdure.log.log_store import KvLogStore
from perdure.log.loglet import CommitListener
from perdure.log.types import Batch, Record


class Measured:
    """What the writer reported."""

    def __init__(self) -> None:
        self.records = 0
        self.syncs = 0

    def log_appended(self, records: int, duration_seconds: float) -> None:
        self.records += records

    def log_synced(self, duration_seconds: float) -> None:
        self.syncs += 1


class LogOnStore:
    """One node's logs over `store`, on the running loop."""

    def __init__(
        self, store: KvStore, *, mode: SyncMode = "always", clock: ManualClock | None = None
    ) -> None:
        self.clock = clock or ManualClock()
        self.measured = Measured()
        self.turns = 0
        self.failures: list[StorageError] = []
        self.log_store = KvLogStore(store)
        self.writer = LogWriter(
            kv_store=store,
            log_store=self.log_store,
            loop=asyncio.get_running_loop(),
            clock=self.clock,
            policy=SyncPolicy(mode),
            metrics=self.measured,
            on_turn=self._turn,
            on_failure=self.failures.append,
        )
        self.committed: dict[int, list[Batch]] = {}

    def _turn(self) -> None:
        self.turns += 1

    def loglet(
        self, loglet: int = 1, epoch: int = 1, listener: CommitListener | None = None
    ) -> LocalLoglet:
        batches = self.committed.setdefault(loglet, [])
        return LocalLoglet(
            loglet,
            store=self.log_store,
            writer=self.writer,
            clock=self.clock,
            epoch=epoch,
            listener=listener or batches.append,
        )


def record(number: int, size: int = 8) -> Record:
    """A record that can be told from others."""
    return Record(1, number.to_bytes(8, "big").ljust(size, b"."), (), 1, None, number)


def numbers(batches: list[Batch]) -> list[int]:
    """The numbers of `record` in order."""
    return [int.from_bytes(item.body[:8], "big") for batch in batches for item in batch.records]


async def turns(count: int = 3) -> None:
    """Let the loop run."""
    for _ in range(count):
        await asyncio.sleep(0)
