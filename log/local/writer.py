"""The one writer of a node's logs: all that is ready in one turn, one write, one sync.

Two ways to sync, both with the batch as the unit. *Inline*: the event loop itself waits for the
disk; no thread is woken, which on a fast disk is quicker than two hops between threads. *Behind*:
a thread waits while the loop goes on, and what is enqueued meanwhile makes the next batch. The
measured time of the last syncs decides, see `SyncPolicy`.
"""

from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Literal, Protocol

from ...core.clock import Clock
from ...core.errors import StorageError
from ...core.storage.kv import KvStore, PutOrDelete
from ..types import Batch
from .sync_runner import SyncRunner, ThreadSyncRunner

SyncMode = Literal["auto", "always", "never"]
"""Sync inline: when the disk is quick, always, or never."""


class BatchSource(Protocol):
    """A loglet, as the writer sees it."""

    def take_writes(self, operations: list[PutOrDelete]) -> list[Batch]:
        """Add the writes of everything that is ready, and give the batches among it."""
        ...

    def written(self, batches: list[Batch]) -> None:
        """What `take_writes` gave is durable."""
        ...

    def remove(self) -> None:
        """Delete what is not wanted any more; see `LogWriter.remove_later`."""
        ...

    def failed(self, error: StorageError) -> None:
        """Nothing that is not durable yet ever will be, as far as this process knows."""
        ...


class WriterMetrics(Protocol):
    """Where the writer reports; see `core.metrics`."""

    def log_appended(self, records: int, duration_seconds: float) -> None:
        """One turn's records became durable so long after they were taken up."""
        ...

    def log_synced(self, duration_seconds: float) -> None:
        """One sync took so long."""
        ...


class SyncPolicy:
    """Decides from measured syncs whether the loop may wait for the disk itself.

    What counts is how long they take on average, each new one for an eighth: a thread costs every
    sync two hops and the interpreter lock, some 30 µs per call of a loaded node, and a slow sync
    now and then costs whoever waits for it the same on either side.
    """

    INLINE_NS_MAX: Final = 1_000_000
    WEIGHT: Final = 0.125

    def __init__(self, mode: SyncMode) -> None:
        """Start optimistic: the first syncs are inline unless the mode forbids it."""
        self._mode = mode
        self._average_ns = 0.0

    def inline(self) -> bool:
        """Whether the next sync should run on the loop."""
        if self._mode == "auto":
            return self._average_ns < self.INLINE_NS_MAX
        return self._mode == "always"

    def measured(self, duration_ns: int) -> None:
        """Take note of how long a sync took."""
        self._average_ns += (duration_ns - self._average_ns) * self.WEIGHT


class LogWriter:
    """Gathers, writes, syncs, reports. Runs on the loop, plus one thread when the disk is slow."""

    def __init__(
        self,
        *,
        kv_store: KvStore,
        loop: AbstractEventLoop,
        clock: Clock,
        policy: SyncPolicy,
        metrics: WriterMetrics,
        on_turn: Callable[[], None],
        on_failure: Callable[[StorageError], None],
        sync_runner: SyncRunner | None = None,
    ) -> None:
        """Sync the store once, so that everything found in it is durable before it is shown.

        Args:
            kv_store: what is written to; the logs' alone.
            on_turn: called after the commits of one turn have been told, to hand on their effects.
            on_failure: called once when the disk fails; nothing is acknowledged afterwards.
            sync_runner: does the syncs behind the loop; a thread unless given.
        """
        self._kv_store = kv_store
        self._loop = loop
        self._clock = clock
        self._policy = policy
        self._metrics = metrics
        self._on_turn = on_turn
        self._on_failure = on_failure
        self._sync_runner = sync_runner or ThreadSyncRunner(loop)
        self._sources: dict[BatchSource, None] = {}
        self._ready: list[BatchSource] = []
        self._in_flight: list[tuple[BatchSource, list[Batch]]] = []
        self._removing: list[BatchSource] = []
        self._started_ns = 0
        self._scheduled = False
        self._syncing = False
        self.failure: StorageError | None = None
        self.syncs = 0
        self.batches = 0
        kv_store.sync()

    def attach(self, source: BatchSource) -> None:
        """Have the source told when the disk fails."""
        self._sources[source] = None

    def detach(self, source: BatchSource) -> None:
        """The source is no more."""
        self._sources.pop(source, None)

    def schedule(self, source: BatchSource) -> None:
        """Have the source's writes taken at the end of this turn of the loop; once per turn."""
        self._ready.append(source)
        if not self._scheduled and not self._syncing:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def remove_later(self, source: BatchSource) -> None:
        """From within `written`: have the source's `remove` called after this turn's commits.

        So that a disk that fails to delete withholds nothing that is durable already.
        """
        self._removing.append(source)

    def _flush(self) -> None:
        self._scheduled = False
        with self._stopping_on_bugs():
            self._write_ready()

    @contextmanager
    def _stopping_on_bugs(self) -> Iterator[None]:
        """An exception from above or in here leaves state half changed: nothing may go on."""
        try:
            yield
        except Exception as error:
            self._fail(
                StorageError(
                    f"the log's writer met {type(error).__name__}: {error}; what was acknowledged "
                    "is durable, restart the node and report this"
                )
            )
            raise

    def _write_ready(self) -> None:
        if self._syncing or self.failure is not None or not self._ready:
            return
        ready, self._ready = self._ready, []
        self._started_ns = self._clock.monotonic_ns()
        operations: list[PutOrDelete] = []
        self._in_flight = [(source, source.take_writes(operations)) for source in ready]
        try:
            self._kv_store.write(operations)
            if not self._policy.inline():
                self._syncing = True
                self._sync_runner.run(self._sync, self._synced_behind)
                return
            synced_ns = self._sync()
        except StorageError as error:
            self._fail(error)
            return
        self._commit(synced_ns)

    def _sync(self) -> int:
        """Sync and give how long it took in ns; safe on either thread."""
        started_ns = self._clock.monotonic_ns()
        self._kv_store.sync()
        return self._clock.monotonic_ns() - started_ns

    def _synced_behind(self, result: int | StorageError) -> None:
        self._syncing = False
        if isinstance(result, StorageError):
            self._fail(result)
            return
        if self.failure is not None:
            return
        with self._stopping_on_bugs():
            self._commit(result)
        if self._ready and not self._scheduled:
            self._flush()

    def _commit(self, synced_ns: int) -> None:
        in_flight, self._in_flight = self._in_flight, []
        self.syncs += 1
        self._policy.measured(synced_ns)
        self._metrics.log_synced(synced_ns / 1e9)
        records = 0
        for source, batches in in_flight:
            self.batches += len(batches)
            for batch in batches:
                records += len(batch.records)
            source.written(batches)
        self._metrics.log_appended(records, (self._clock.monotonic_ns() - self._started_ns) / 1e9)
        self._on_turn()
        if self._removing:
            self._remove()

    def _remove(self) -> None:
        removing, self._removing = self._removing, []
        try:
            for source in removing:
                source.remove()
        except StorageError as error:
            self._fail(error)

    def fail(self, error: StorageError) -> None:
        """Somebody else met a failure of the same disk."""
        self._fail(error)

    def _fail(self, error: StorageError) -> None:
        if self.failure is not None:
            return
        self._stop(error)
        self._on_failure(error)

    def _stop(self, error: StorageError) -> None:
        self.failure = error
        self._in_flight, self._ready = [], []
        for source in tuple(self._sources):
            source.failed(error)

    def close(self) -> None:
        """End the thread. What is enqueued and not committed is abandoned, never acknowledged.

        Whoever waits for it is told. Closing twice does nothing.
        """
        self._sync_runner.close()
        if self.failure is None:
            self._stop(StorageError("the node is shutting down"))
