"""Pages of records: a bounded piece of a log, filtered, and waiting at the tail for a while."""

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Sequence
from typing import Final

import msgspec

from ...core.ids import InvocationId
from ...core.pauses import next_turn
from ...log.chain_view import ChainView
from ...log.errors import FuturePositionError, TrimmedError
from ...log.types import LogBatch, Record
from .log_answers import RecordsPage, RecordView, TrimGapView
from .record_view import is_about, view_record

SCANNED_MAX: Final = 20_000
"""One page looks at so many records at most; who asks goes on from its `next_lsn`."""

_READ_BYTES: Final = 256 * 1024
_encode: Final = msgspec.json.Encoder().encode


class RecordsQuery(msgspec.Struct, frozen=True):
    """What is asked for: records from `from_lsn` to `to_lsn` that pass every filter.

    Attributes:
        limit: of records on one page.
        key: those that touch it, and those that touch every key.
        invocation: those that are about it.
        since_ns: those dated then or later.
        until_ns: those dated then or earlier.
        kind: those of this number.
        wait_seconds: how long to wait at the tail while there is nothing to give.
    """

    from_lsn: int = 1
    to_lsn: int | None = None
    limit: int = 100
    key: bytes | None = None
    invocation: InvocationId | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    kind: int | None = None
    wait_seconds: float = 0.0

    def wants(self, record: Record, time_ns: int) -> bool:
        """Whether a record passes every filter but `until_ns`, which ends the reading."""
        return (
            (self.kind is None or record.kind == self.kind)
            and (self.key is None or record.keys is None or self.key in record.keys)
            and (self.since_ns is None or time_ns >= self.since_ns)
            and (self.invocation is None or is_about(record, self.invocation))
        )


class TailWaits:
    """Requests that wait for something to be written, so that they can be ended together."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._waiting: set[asyncio.Timeout] = set()
        self._closed = False

    async def wait(self, log: ChainView, lsn: int, deadline: float) -> bool:
        """Wait until a log may have something at `lsn`; False when nothing came in time.

        Args:
            deadline: on the event loop's clock.

        Raises what `ChainView.wait_for_tail` raises. Cancelling is safe.
        """
        if self._closed or asyncio.get_running_loop().time() >= deadline:
            return False
        try:
            async with asyncio.timeout_at(deadline) as timeout:
                self._waiting.add(timeout)
                try:
                    await log.wait_for_tail(lsn)
                finally:
                    self._waiting.discard(timeout)
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Nobody waits any more: those who do get what is there."""
        self._closed = True
        for timeout in self._waiting:
            if not timeout.expired():
                timeout.reschedule(0)


class PageReader:
    """Makes one page."""

    def __init__(
        self, log: ChainView, query: RecordsQuery, *, loop: AbstractEventLoop, waits: TailWaits
    ) -> None:
        """Prepare; `waits` ends the waiting when the server stops."""
        self._log = log
        self._query = query
        self._loop = loop
        self._waits = waits
        self._items: list[RecordView | TrimGapView] = []
        self._found = 0
        self._scanned = 0
        self._next_lsn = query.from_lsn
        self._complete = False

    async def read(self) -> RecordsPage:
        """The page. Raises FuturePositionError and what reading a log raises."""
        query = self._query
        deadline = self._loop.time() + query.wait_seconds
        tail_lsn = (await self._log.find_tail()).lsn
        if query.from_lsn > tail_lsn:
            raise FuturePositionError(query.from_lsn, tail_lsn)
        if query.since_ns is not None:
            await self._skip_to(query.since_ns, tail_lsn)
        self._check_complete()
        while not self._complete and self._found < query.limit and self._scanned < SCANNED_MAX:
            try:
                batches = await self._log.read(self._next_lsn, _READ_BYTES)
            except TrimmedError as error:
                self._gap(error.trim_point)
                continue
            if batches:
                self._take(batches)
                # Thousands of records may pass by before one is wanted: let others run.
                await next_turn(self._loop)
            elif self._items or not await self._waits.wait(self._log, self._next_lsn, deadline):
                break
        if self._next_lsn > tail_lsn:
            tail_lsn = (await self._log.find_tail()).lsn
        items = [msgspec.Raw(_encode(item)) for item in self._items]
        return RecordsPage(items, self._next_lsn, tail_lsn, self._complete)

    async def _skip_to(self, since_ns: int, tail_lsn: int) -> None:
        """Go on at the first record dated `since_ns` or later: record times never go back."""
        first = low = max(self._next_lsn, self._log.trim_point_lsn + 1)
        high = tail_lsn
        while low < high:
            middle = (low + high) // 2
            try:
                item = (await self._log.read(middle, 1))[0]
            except TrimmedError as error:
                first = low = error.trim_point + 1
                continue
            if item.batch.record_time_ns < since_ns:
                low = item.last_lsn + 1
            else:
                high = max(low, item.first_lsn)
        # Where even the first one left is late enough, those that are gone may have been, too.
        if low > first or low == tail_lsn:
            self._next_lsn = max(self._next_lsn, low)

    def _gap(self, trim_point: int) -> None:
        last = trim_point
        if self._query.to_lsn is not None:
            last = min(last, self._query.to_lsn)
        self._items.append(TrimGapView((self._next_lsn, last)))
        self._next_lsn = last + 1
        self._check_complete()

    def _take(self, batches: Sequence[LogBatch]) -> None:
        query = self._query
        chain = self._log.chain
        for item in batches:
            time_ns = item.batch.record_time_ns
            if query.until_ns is not None and time_ns > query.until_ns:
                self._complete = True
                return
            segment = chain.segments[chain.position_of(item.first_lsn)].index
            skipped = max(0, self._next_lsn - item.first_lsn)
            for record in item.batch.records[skipped:]:
                if self._found == query.limit or self._scanned == SCANNED_MAX:
                    return
                self._scanned += 1
                if query.wants(record, time_ns):
                    self._found += 1
                    self._items.append(view_record(self._next_lsn, segment, time_ns, record))
                self._next_lsn += 1
                self._check_complete()
                if self._complete:
                    return

    def _check_complete(self) -> None:
        to_lsn = self._query.to_lsn
        self._complete = to_lsn is not None and self._next_lsn > to_lsn
