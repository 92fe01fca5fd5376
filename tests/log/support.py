"""One node's local logs for tests: its provider on a store, what was committed, held syncs."""

import asyncio
from collections.abc import Callable

from perdure.core.clock import Clock
from perdure.core.errors import StorageError
from perdure.core.ids import LogId
from perdure.core.storage.kv import KvStore
from perdure.log.chain import Segment
from perdure.log.local.loglet import LocalLoglet
from perdure.log.local.provider import LocalProvider
from perdure.log.local.sync_runner import SyncDone, SyncRunner
from perdure.log.local.writer import LogWriter, SyncMode, SyncPolicy
from perdure.log.log_store import KvLogStore
from perdure.log.loglet import Loglet, LogletProvider
from perdure.log.placement import Replica
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


class SetClock:
    """A wall clock that can be set back, as clocks of machines are."""

    def __init__(self, now_ns: int = 1_700_000_000_000_000_000) -> None:
        self.now_ns = now_ns

    def time_ns(self) -> int:
        return self.now_ns

    def monotonic_ns(self) -> int:
        return 0


class HeldSyncs:
    """Runs a sync only when told to: the time between a write and its sync, stretched."""

    def __init__(self) -> None:
        self.waiting: tuple[Callable[[], int], SyncDone] | None = None

    def run(self, sync: Callable[[], int], done: SyncDone) -> None:
        assert self.waiting is None, "two syncs at a time"
        self.waiting = sync, done

    def release(self) -> None:
        """Let the sync happen and tell the writer."""
        assert self.waiting is not None, "there is no sync to let go"
        (sync, done), self.waiting = self.waiting, None
        try:
            result: int | StorageError = sync()
        except StorageError as error:
            result = error
        done(result)

    def close(self) -> None:
        self.waiting = None


class LaterSyncs:
    """Runs a sync some turns of the loop later, always the same number of them."""

    def __init__(self, turns: int) -> None:
        self._turns = turns

    def run(self, sync: Callable[[], int], done: SyncDone, waited: int = 0) -> None:
        if waited < self._turns:
            asyncio.get_running_loop().call_soon(self.run, sync, done, waited + 1)
            return
        try:
            result: int | StorageError = sync()
        except StorageError as error:
            result = error
        done(result)

    def close(self) -> None:
        pass


class LogOnStore:
    """One node's logs over `store`, on the running loop."""

    def __init__(
        self,
        store: KvStore,
        *,
        mode: SyncMode = "always",
        clock: Clock | None = None,
        sync_runner: SyncRunner | None = None,
        disk: Replica | None = None,
    ) -> None:
        self.clock = clock or SetClock()
        self.measured = Measured()
        self.turns = 0
        self.failures: list[StorageError] = []
        self.log_store = KvLogStore(store)
        self.writer = LogWriter(
            kv_store=store,
            loop=asyncio.get_running_loop(),
            clock=self.clock,
            policy=SyncPolicy(mode),
            metrics=self.measured,
            on_turn=self._turn,
            on_failure=self.failures.append,
            sync_runner=sync_runner,
        )
        self.provider = LocalProvider(
            store=self.log_store,
            writer=self.writer,
            clock=self.clock,
            node="n1" if disk is None else disk.node,
            disk=disk,
        )

    def _turn(self) -> None:
        self.turns += 1

    def loglet(self, index: int = 1, epoch: int = 1, log: int = 0) -> LocalLoglet:
        """The loglet of a log's segment."""
        return self.provider.open(segment_of(self.provider, index, epoch=epoch, log=log))


def segment_of(
    provider: LogletProvider,
    index: int = 1,
    *,
    epoch: int = 1,
    record_time_ns: int = 0,
    log: int = 0,
) -> Segment:
    """A segment as the chain would have it."""
    params = provider.params(LogId(log), index, epoch, record_time_ns)
    return Segment(index, 1, provider.kind, params)


class Committed:
    """A listener: checks that batches come in order and only when the tail has passed them."""

    def __init__(self, loglet: Loglet) -> None:
        self._loglet = loglet
        self._next = loglet.committed_tail
        self.batches: list[Batch] = []
        loglet.listen(self)

    def __call__(self, batch: Batch) -> None:
        assert batch.first_offset == self._next, (batch.first_offset, self._next)
        assert self._loglet.committed_tail > batch.last_offset
        self._next = batch.last_offset + 1
        self.batches.append(batch)

    @property
    def numbers(self) -> list[int]:
        """The numbers of the records so far."""
        return numbers(self.batches)


def record(number: int, size: int = 8) -> Record:
    """A record that can be told from others."""
    return Record(1, number.to_bytes(8, "big").ljust(size, b"."), (), 1, None, number)


def group(first: int, count: int, size: int = 8) -> list[Record]:
    """Records to be enqueued together."""
    return [record(first + index, size) for index in range(count)]


def numbers(batches: list[Batch]) -> list[int]:
    """The numbers of `record` in order."""
    return [int.from_bytes(item.body[:8], "big") for batch in batches for item in batch.records]


async def read_all(loglet: Loglet, first_offset: int | None = None) -> list[Batch]:
    """Everything that is committed, from the trim point or an offset on."""
    offset = loglet.trim_point + 1 if first_offset is None else first_offset
    found: list[Batch] = []
    while batches := await loglet.read(offset, 1):
        found += batches
        offset = batches[-1].last_offset + 1
    return found


async def turns(count: int = 3) -> None:
    """Let the loop run."""
    for _ in range(count):
        await asyncio.sleep(0)
