"""LogReader: a log from some LSN on, record by record, across segments and as long as wanted."""

from collections.abc import AsyncIterator, Iterable
from typing import TypeAlias

import msgspec

from .chain_view import READ_BYTES_MAX, ChainView
from .errors import TrimmedError
from .types import LogBatch, Record


class LogEntry(msgspec.Struct, frozen=True, gc=False):
    """A committed record at its place.

    Attributes:
        record_time_ns: given by the sequencer; never goes back along the log.
        epoch: of the sequencer.
    """

    lsn: int
    record: Record
    record_time_ns: int
    epoch: int


class TrimGap(msgspec.Struct, frozen=True, gc=False):
    """These LSNs, both inclusive, have been trimmed: whoever needs them takes a snapshot."""

    first_lsn: int
    last_lsn: int


class FilteredGap(msgspec.Struct, frozen=True, gc=False):
    """These LSNs, both inclusive, hold nothing that was asked for."""

    first_lsn: int
    last_lsn: int


ReadItem: TypeAlias = LogEntry | TrimGap | FilteredGap


class LogReader:
    """Reads a log in order; each LSN is in exactly one item.

    The chain is read again only when a sealed segment's end is met. A reader below the trim point
    gets one gap and goes on behind it, also when the trim overtakes it.
    """

    def __init__(
        self,
        log: ChainView,
        from_lsn: int = 1,
        *,
        to_lsn: int | None = None,
        keys: Iterable[bytes] | None = None,
        bytes_max: int = READ_BYTES_MAX,
    ) -> None:
        """Prepare to read.

        Args:
            from_lsn: the first LSN wanted.
            to_lsn: the last one wanted; None reads on for ever, waiting for what is appended.
            keys: records with one of these keys, and those that name every key; None for all.
            bytes_max: read ahead about so much.
        """
        self._log = log
        self.next_lsn = from_lsn
        self._to_lsn = to_lsn
        self._keys = None if keys is None else frozenset(keys)
        self._bytes_max = bytes_max

    async def __aiter__(self) -> AsyncIterator[ReadItem]:
        """The items from `next_lsn` on. Cancelling is safe: `next_lsn` says how far it came.

        Raises CorruptBatchError, LogClosedError and what metadata raises.
        """
        while not self._done():
            try:
                batches = await self._log.read(self.next_lsn, self._bytes_max)
            except TrimmedError as error:
                last = error.trim_point
                if self._to_lsn is not None:
                    last = min(last, self._to_lsn)
                gap = TrimGap(self.next_lsn, last)
                self.next_lsn = last + 1
                yield gap
                continue
            if not batches:
                await self._log.wait_for_tail(self.next_lsn)
                continue
            for item in self._items(batches):
                self.next_lsn = item.lsn + 1 if type(item) is LogEntry else _last(item) + 1
                yield item

    def _done(self) -> bool:
        return self._to_lsn is not None and self.next_lsn > self._to_lsn

    def _items(self, batches: list[LogBatch]) -> Iterable[ReadItem]:
        skipped_from: int | None = None
        lsn = self.next_lsn
        for item in batches:
            batch = item.batch
            lsn = item.first_lsn - 1
            for record in batch.records:
                lsn += 1
                if lsn < self.next_lsn:
                    continue
                if self._to_lsn is not None and lsn > self._to_lsn:
                    if skipped_from is not None:
                        yield FilteredGap(skipped_from, lsn - 1)
                    return
                if not self._wanted(record):
                    if skipped_from is None:
                        skipped_from = lsn
                    continue
                if skipped_from is not None:
                    yield FilteredGap(skipped_from, lsn - 1)
                    skipped_from = None
                yield LogEntry(lsn, record, batch.record_time_ns, batch.epoch)
        if skipped_from is not None:
            yield FilteredGap(skipped_from, lsn)

    def _wanted(self, record: Record) -> bool:
        keys = self._keys
        return keys is None or record.keys is None or not keys.isdisjoint(record.keys)


def _last(item: ReadItem) -> int:
    assert not isinstance(item, LogEntry)
    return item.last_lsn
