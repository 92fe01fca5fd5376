"""The local loglet: offsets are given out here, batches are made durable by the shared writer."""

from collections.abc import Callable

from ...core.clock import Clock
from ...core.errors import StorageError
from ...core.storage.kv import PutOrDelete
from ...core.waiters import Waiters
from ..errors import LogClosedError, LogletSealedError, TrimmedError
from ..log_store import SEALED, TRIMMED, LogStore
from ..loglet import CommitListener
from ..staging import Staging
from ..types import BATCH_BYTES_MAX, Batch, Record, TailState
from .writer import LogWriter


class LocalLoglet:
    """One loglet on this node's LogStore."""

    def __init__(
        self,
        loglet: int,
        *,
        store: LogStore,
        writer: LogWriter,
        clock: Clock,
        epoch: int,
        record_time_floor_ns: int = 0,
    ) -> None:
        """Find tail, seal and trim point on disk; the writer's opening sync made them durable.

        Args:
            loglet: its id in the store.
            store: where batches are read from.
            writer: what makes them durable.
            clock: for record times.
            epoch: the leader epoch that batches are stamped with.
            record_time_floor_ns: no batch is dated before this.

        Raises CorruptBatchError or StorageError.
        """
        self.loglet = loglet
        self._store = store
        self._writer = writer
        self._clock = clock
        found = store.state(loglet)
        self._committed_tail = found.tail
        self._trim_point = found.trim_point
        self._sealed = found.sealed
        self._staging = Staging(
            next_offset=found.tail,
            record_time_ns=max(found.record_time_ns, record_time_floor_ns),
            epoch=epoch,
        )
        self._scheduled = False
        self._sealing = found.sealed
        self._seal_written = found.sealed
        # The trim point that is asked for, and the one on its way to the disk.
        self._trim_wanted = found.trim_point
        self._trim_written = found.trim_point
        self._events = Waiters()
        self._listener: CommitListener | None = None
        writer.attach(self)

    def close(self) -> None:
        """The loglet was deleted: from here on it counts as sealed, and all of it as trimmed."""
        assert self._staging.next_offset == self._committed_tail, "deleted with records in flight"
        self._writer.detach(self)
        self._sealing = self._seal_written = self._sealed = True
        self._trim_point = self._trim_wanted = self._trim_written = self._committed_tail - 1
        self._events.wake()

    @property
    def committed_tail(self) -> int:
        """The first offset that no durable record has."""
        return self._committed_tail

    @property
    def trim_point(self) -> int:
        """The last offset that was trimmed, 0 when nothing was."""
        return self._trim_point

    def listen(self, listener: CommitListener, on_sealed: Callable[[], None] | None = None) -> None:
        """Have `listener` told of every batch committed from now on."""
        self._listener = listener

    def enqueue(self, records: list[Record]) -> int:
        """Take records as one atomic group and give the first one's offset."""
        if self._writer.failure is not None:
            # First, because a seal that was on its way may not be there after a restart.
            raise self._closed()
        if self._sealing:
            raise LogletSealedError(self.loglet)
        offset = self._staging.add(records)
        if not self._scheduled:
            self._schedule()
        return offset

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._writer.schedule(self)

    # The writer's side ---------------------------------------------------------------------------

    def take_writes(self, operations: list[PutOrDelete]) -> list[Batch]:
        """The writes of everything enqueued since the last call, and of a seal."""
        self._scheduled = False
        batches = self._staging.take(self._clock.time_ns())
        operations += [self._store.append(self.loglet, batch) for batch in batches]
        if self._sealing and not self._seal_written:
            self._seal_written = True
            # In the same write as the last batches: the seal is durable exactly with them.
            operations.append(self._mark(SEALED, self._staging.next_offset))
        if self._trim_wanted > self._trim_written:
            self._trim_written = self._trim_wanted
            operations.append(self._mark(TRIMMED, self._trim_written))
        return batches

    def _mark(self, name: bytes, position: int) -> PutOrDelete:
        return self._store.mark(self.loglet, name, position, self._staging.record_time_ns)

    def written(self, batches: list[Batch]) -> None:
        """The writer's word that all this is durable; passes it on to the listener."""
        for batch in batches:
            assert batch.first_offset == self._committed_tail, (
                batch.first_offset,
                self._committed_tail,
            )
            self._committed_tail = batch.last_offset + 1
            if self._listener is not None:
                self._listener(batch)
        self._sealed = self._seal_written
        if self._trim_written > self._trim_point:
            self._trim_point = self._trim_written
            self._writer.remove_later(self)
        self._events.wake()

    def remove(self) -> None:
        """Delete what was trimmed; the trim point is durable. Raises StorageError."""
        self._store.trim(self.loglet, self._trim_point)

    def failed(self, error: StorageError) -> None:
        """The disk failed: let nobody wait for it."""
        self._events.wake()

    def _closed(self) -> LogClosedError:
        return LogClosedError(f"the log takes no more records: {self._writer.failure}")

    # Operations ----------------------------------------------------------------------------------

    async def find_tail(self) -> TailState:
        """The committed tail; this process is the only one that moves it.

        Right after a failure as well: nothing is acknowledged any more.
        """
        return TailState(self._committed_tail, self._sealed, self._staging.record_time_ns)

    async def seal(self) -> None:
        """Seal after everything enqueued before; raises LogClosedError."""
        while not self._sealed:
            if self._writer.failure is not None:
                raise self._closed()
            self._sealing = True
            if not self._seal_written:
                self._schedule()
            await self._events.wait()

    async def read(self, first_offset: int, bytes_max: int = BATCH_BYTES_MAX) -> list[Batch]:
        """Durable batches from the one that holds `first_offset`."""
        if first_offset <= self._trim_point:
            raise TrimmedError(first_offset, self._trim_point)
        if first_offset >= self._committed_tail:
            return []
        return self._store.read(self.loglet, first_offset, self._committed_tail, bytes_max)

    async def wait_for_tail(self, above: int) -> TailState:
        """Wait until the committed tail is above `above` or the loglet is sealed."""
        while self._committed_tail <= above and not self._sealed:
            if self._writer.failure is not None:
                raise self._closed()
            await self._events.wait()
        return await self.find_tail()

    async def trim(self, last_offset: int) -> int:
        """Remove whole batches up to `last_offset`.

        Raises LogClosedError, and CorruptBatchError when the batch at `last_offset` is damaged.
        """
        wanted = self._batch_border(min(last_offset, self._committed_tail - 1))
        self._trim_wanted = max(self._trim_wanted, wanted)
        while self._trim_point < wanted:
            if self._writer.failure is not None:
                raise self._closed()
            if self._trim_wanted > self._trim_written:
                self._schedule()
            await self._events.wait()
        return self._trim_point

    def _batch_border(self, offset: int) -> int:
        """The last offset at or before `offset` that ends a batch."""
        if offset <= self._trim_point:
            return self._trim_point
        (batch,) = self._store.read(self.loglet, offset, self._committed_tail, 1)
        return offset if batch.last_offset == offset else batch.first_offset - 1
