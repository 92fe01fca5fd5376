"""The memory loglet: the Loglet contract without a disk; what it holds ends with the process."""

from asyncio import AbstractEventLoop
from bisect import bisect_left
from collections.abc import Callable
from typing import Final

from ...core.clock import Clock
from ...core.waiters import Waiters
from ..errors import LogClosedError, LogletSealedError, TrimmedError
from ..loglet import CommitListener
from ..staging import Staging
from ..types import BATCH_BYTES_MAX, Batch, Record, TailState

_RECORD_BYTES: Final = 32
"""What a record counts besides its body when a read is cut."""


class MemoryLoglet:
    """One loglet in memory. Committed at the end of the turn, so that callers see real batches.

    There is no disk to fail; an exception from above stops it all the same, for good.
    """

    def __init__(
        self,
        loglet: int,
        *,
        loop: AbstractEventLoop,
        clock: Clock,
        epoch: int,
        record_time_floor_ns: int = 0,
        on_turn: Callable[[], None],
    ) -> None:
        """Start empty; `on_turn` is called after the commits of a turn have been told."""
        self.loglet = loglet
        self._loop = loop
        self._clock = clock
        self._on_turn = on_turn
        self._batches: list[Batch] = []
        self._committed_tail = 1
        self._trim_point = 0
        self._sealed = False
        self._failure: LogClosedError | None = None
        self._staging = Staging(next_offset=1, record_time_ns=record_time_floor_ns, epoch=epoch)
        self._scheduled = False
        self._events = Waiters()
        self._listener: CommitListener | None = None

    def close(self) -> None:
        """The loglet was deleted: from here on it counts as sealed, and all of it as trimmed."""
        assert self._staging.next_offset == self._committed_tail, "deleted with records in flight"
        self._sealed = True
        self._trim_point = self._committed_tail - 1
        self._batches.clear()
        self._events.wake()

    @property
    def committed_tail(self) -> int:
        """The first offset not committed."""
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
        if self._failure is not None:
            raise self._failure
        if self._sealed:
            raise LogletSealedError(self.loglet)
        offset = self._staging.add(records)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._commit)
        return offset

    def _commit(self) -> None:
        self._scheduled = False
        if self._failure is not None:
            return
        try:
            self._commit_staged()
        except Exception as error:
            # State above may be half changed: nothing may go on.
            self._failure = LogClosedError(
                f"the log takes no more records: it met {type(error).__name__}: {error}"
            )
            self._events.wake()
            raise

    def _commit_staged(self) -> None:
        batches = self._staging.take(self._clock.time_ns())
        if not batches:
            return
        for batch in batches:
            self._batches.append(batch)
            self._committed_tail = batch.last_offset + 1
            if self._listener is not None:
                self._listener(batch)
        self._events.wake()
        self._on_turn()

    async def find_tail(self) -> TailState:
        """The committed tail."""
        return TailState(self._committed_tail, self._sealed, self._staging.record_time_ns)

    async def seal(self) -> None:
        """Commit what was enqueued and take nothing more."""
        if not self._sealed:
            if self._failure is not None:
                raise self._failure
            self._sealed = True
            self._commit()
            self._events.wake()

    async def read(self, first_offset: int, bytes_max: int = BATCH_BYTES_MAX) -> list[Batch]:
        """Committed batches from the one that holds `first_offset`; raises TrimmedError."""
        if first_offset <= self._trim_point:
            raise TrimmedError(first_offset, self._trim_point)
        found: list[Batch] = []
        total = 0
        for position in range(self._position(first_offset), len(self._batches)):
            batch = self._batches[position]
            found.append(batch)
            total += sum(len(record.body) + _RECORD_BYTES for record in batch.records)
            if total >= bytes_max:
                break
        return found

    def _position(self, offset: int) -> int:
        """Where the batch that holds `offset` is, or would be."""
        return bisect_left(self._batches, offset, key=_last_offset)

    async def wait_for_tail(self, above: int) -> TailState:
        """Wait until the committed tail is above `above` or the loglet is sealed."""
        while self._committed_tail <= above and not self._sealed:
            if self._failure is not None:
                raise self._failure
            await self._events.wait()
        return await self.find_tail()

    async def trim(self, last_offset: int) -> int:
        """Remove whole batches up to `last_offset`."""
        wanted = min(last_offset, self._committed_tail - 1)
        if wanted > self._trim_point:
            if self._failure is not None:
                raise self._failure
            position = self._position(wanted)
            if self._batches[position].last_offset == wanted:
                position += 1
            if position:
                self._trim_point = self._batches[position - 1].last_offset
                del self._batches[:position]
        return self._trim_point


def _last_offset(batch: Batch) -> int:
    return batch.last_offset
