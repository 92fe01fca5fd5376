"""The one writer of a node's logs: all that is ready in one turn, one write, one sync.

Two ways to sync, both with the batch as the unit. *Inline*: the event loop itself waits for the
disk; no thread is woken, which on a fast disk is quicker than two hops between threads. *Behind*:
a thread waits while the loop goes on, and what is enqueued meanwhile makes the next batch. The
measured time of the last syncs decides, see `SyncPolicy`.
"""

import queue
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Literal, Protocol

from ...core.clock import Clock
from ...core.errors import StorageError
from ...core.storage.kv import KvStore, PutOrDelete
from ..log_store import LogStore
from ..types import Batch

SyncMode = Literal["auto", "always", "never"]
"""Sync inline: when the disk is quick, always, or never."""


class BatchSource(Protocol):
    """A loglet, as the writer sees it."""

    @property
    def loglet(self) -> int:
        """The id in the store."""
        ...

    def take_batches(self) -> list[Batch]:
        """Everything enqueued since the last call, at least one batch when it was scheduled."""
        ...

    def committed(self, batch: Batch) -> None:
        """The batch is durable."""
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

    A slow sync counts at once and is forgotten slowly: `_slow` jumps to the worst and decays by a
    hundredth per sync, which follows a 99th percentile closely enough and costs two comparisons.
    """

    INLINE_NS_MAX: Final = 500_000

    def __init__(self, mode: SyncMode) -> None:
        """Start optimistic: the first syncs are inline unless the mode forbids it."""
        self._mode = mode
        self._slow_ns = 0.0

    def inline(self) -> bool:
        """Whether the next sync should run on the loop."""
        if self._mode == "auto":
            return self._slow_ns < self.INLINE_NS_MAX
        return self._mode == "always"

    def measured(self, duration_ns: int) -> None:
        """Take note of how long a sync took."""
        self._slow_ns = max(duration_ns, self._slow_ns * 0.99)


class LogWriter:
    """Gathers, writes, syncs, reports. Runs on the loop, plus one thread when the disk is slow."""

    def __init__(
        self,
        *,
        kv_store: KvStore,
        log_store: LogStore,
        loop: AbstractEventLoop,
        clock: Clock,
        policy: SyncPolicy,
        metrics: WriterMetrics,
        on_turn: Callable[[], None],
        on_failure: Callable[[StorageError], None],
    ) -> None:
        """Sync the store once, so that everything found in it is durable before it is shown.

        Args:
            kv_store: the store below `log_store`.
            on_turn: called after the commits of one turn have been told, to hand on their effects.
            on_failure: called once when the disk fails; nothing is acknowledged afterwards.
        """
        self._kv_store = kv_store
        self._log_store = log_store
        self._loop = loop
        self._clock = clock
        self._policy = policy
        self._metrics = metrics
        self._on_turn = on_turn
        self._on_failure = on_failure
        self._ready: list[BatchSource] = []
        self._scheduled = False
        self._syncing = False
        self._jobs: queue.SimpleQueue[list[tuple[BatchSource, Batch]] | None] | None = None
        self._thread: threading.Thread | None = None
        self.failure: StorageError | None = None
        self.syncs = 0
        self.batches = 0
        kv_store.sync()

    def schedule(self, source: BatchSource) -> None:
        """Have the source's batches written at the end of this turn of the loop."""
        self._ready.append(source)
        if not self._scheduled and not self._syncing:
            self._scheduled = True
            self._loop.call_soon(self._flush)

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
        started_ns = self._clock.monotonic_ns()
        operations: list[PutOrDelete] = []
        batches: list[tuple[BatchSource, Batch]] = []
        for source in ready:
            for batch in source.take_batches():
                operations.append(self._log_store.append(source.loglet, batch))
                batches.append((source, batch))
        try:
            self._kv_store.write(operations)
            if self._policy.inline():
                synced_ns = self._sync()
            else:
                self._sync_behind(batches, started_ns)
                return
        except StorageError as error:
            self._fail(error)
            return
        self._commit(batches, started_ns, synced_ns)

    def _sync(self) -> int:
        """Sync and give how long it took in ns; safe on either thread."""
        started_ns = self._clock.monotonic_ns()
        self._kv_store.sync()
        return self._clock.monotonic_ns() - started_ns

    def _sync_behind(self, batches: list[tuple[BatchSource, Batch]], started_ns: int) -> None:
        self._syncing = True
        if self._jobs is None:
            self._jobs = queue.SimpleQueue()
            self._thread = threading.Thread(
                target=self._run_thread, args=(self._jobs,), name="log-sync", daemon=True
            )
            self._thread.start()
        self._in_flight = (batches, started_ns)
        self._jobs.put(batches)

    def _run_thread(
        self, jobs: "queue.SimpleQueue[list[tuple[BatchSource, Batch]] | None]"
    ) -> None:
        while jobs.get() is not None:
            try:
                result: int | StorageError = self._sync()
            except StorageError as error:
                result = error
            except BaseException as error:
                # Whatever it is, the loop must hear of it: it waits for this sync.
                result = StorageError(f"the log could not be synced: {error!r}; restart the node")
            try:
                self._loop.call_soon_threadsafe(self._synced_behind, result)
            except RuntimeError:
                return  # The loop was closed: nobody is left to tell.

    def _synced_behind(self, result: int | StorageError) -> None:
        self._syncing = False
        if isinstance(result, StorageError):
            self._fail(result)
            return
        batches, started_ns = self._in_flight
        with self._stopping_on_bugs():
            self._commit(batches, started_ns, result)
        if self._ready and not self._scheduled:
            self._flush()

    def _commit(
        self, batches: list[tuple[BatchSource, Batch]], started_ns: int, synced_ns: int
    ) -> None:
        self.syncs += 1
        self.batches += len(batches)
        self._policy.measured(synced_ns)
        self._metrics.log_synced(synced_ns / 1e9)
        records = 0
        for source, batch in batches:
            records += len(batch.records)
            source.committed(batch)
        self._metrics.log_appended(records, (self._clock.monotonic_ns() - started_ns) / 1e9)
        self._on_turn()

    def _fail(self, error: StorageError) -> None:
        if self.failure is None:
            self.failure = error
            self._on_failure(error)

    def close(self) -> None:
        """End the thread. What is enqueued and not committed is abandoned, never acknowledged."""
        if self._jobs is not None and self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
        if self.failure is None:
            self.failure = StorageError("the node is shutting down")
