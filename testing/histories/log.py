"""A partition's log in memory: order, conditions and batches as the virtual log has them.

It decides with the product's own condition table. What it leaves out is storage: a record is
durable as soon as a history says that it is committed, and a crash loses those that are not.
"""

import heapq
from collections.abc import Callable
from typing import Any, Final, cast

from ...core.clock import ManualClock
from ...log.answers import Answer, Conflict, NotChangedSince, StaleSnapshot
from ...log.conditions import ConditionTable
from ...log.types import Batch, LogBatch, LogTail, Record
from ...log.virtual_log import VirtualLog

_BASE_LSN: Final = 1


def _nobody(_item: object = None) -> None:
    return None


class _Chain:
    """One segment for ever, as far as its readers look."""

    first_lsn = _BASE_LSN

    def position_of(self, _lsn: int) -> int:
        """The segment's number."""
        return 0


class HistoryLog:
    """One partition's log over all lives of its leader.

    Attributes:
        records: everything committed.
        accepting: whether records are taken now, and not held back for a reconfiguration.
        in_flight: admitted and not committed.
        refused: how many proposals a condition kept out.
    """

    trim_point_lsn = 0
    sealed = False
    chain = _Chain()
    shared = False

    def __init__(self, clock: ManualClock, on_committed: Callable[[Batch], None]) -> None:
        """Start empty; `on_committed` hears of each batch before the leader does."""
        self._clock = clock
        self._on_committed = on_committed
        self.records: list[Record] = []
        self._batches: list[Batch] = []
        self._record_time_ns = 0
        self.accepting = False
        self.refused = 0
        self._listener: Callable[[LogBatch], None] = _nobody
        self._on_open: Callable[[], None] = _nobody
        self.in_flight: list[Record] = []
        self._held: list[tuple[int, int, Answer, Callable[[Answer], None]]] = []
        self._held_count = 0
        self._table = ConditionTable(_BASE_LSN)

    def as_virtual_log(self) -> VirtualLog:
        """Itself, for those who ask for the whole one and use what is here of it."""
        return cast("VirtualLog", self)

    @property
    def committed_tail_lsn(self) -> int:
        """The first LSN that is not committed."""
        return len(self.records) + _BASE_LSN

    # As the leader sees it -----------------------------------------------------------------------

    async def find_tail(self) -> LogTail:
        """Where the log ends."""
        return LogTail(self.committed_tail_lsn, False)

    async def read(self, from_lsn: int) -> list[LogBatch]:
        """The batches from the one with this LSN on."""
        return [
            LogBatch(_BASE_LSN, batch) for batch in self._batches if batch.last_offset >= from_lsn
        ]

    def listen(
        self, listener: Callable[[LogBatch], None], *, on_open: Callable[[], None], **_others: Any
    ) -> None:
        """A new leader hears of commits from here on."""
        self._listener = listener
        self._on_open = on_open

    def enqueue(
        self,
        record: Record,
        condition: NotChangedSince | None = None,
        refused: Callable[[Answer], None] | None = None,
    ) -> int | None:
        """Admit a record, or refuse it, as `VirtualLog.enqueue` does."""
        if not self.accepting:
            return None
        lsn = self.committed_tail_lsn + len(self.in_flight)
        if condition is not None:
            assert condition.lsn < lsn, "a condition rests on what does not exist"
            refusal = self._table.check((condition,))
            if refusal is not None:
                self.refused += 1
                assert refused is not None
                self._refuse(refusal, refused)
                return None
        self._table.note(record.keys, lsn)
        self.in_flight.append(record)
        return lsn

    def _refuse(
        self, refusal: Conflict | StaleSnapshot, listener: Callable[[Answer], None]
    ) -> None:
        after_lsn = refusal.floor if isinstance(refusal, StaleSnapshot) else refusal.lsn
        if after_lsn < self.committed_tail_lsn:
            listener(refusal)
            return
        self._held_count += 1
        heapq.heappush(self._held, (after_lsn, self._held_count, refusal, listener))

    def recover_soon(self) -> None:
        """Nobody but the history seals this log, and it opens it again."""

    # As the history moves it ---------------------------------------------------------------------

    def commit(self, count: int) -> None:
        """Make the first `count` records in flight durable, as one batch, and tell everybody."""
        batch = self._make_durable(count)
        tail = self.committed_tail_lsn
        self._table.evict(tail)
        held = self._held
        while held and held[0][0] < tail:
            _, _, refusal, listener = heapq.heappop(held)
            listener(refusal)
        self._listener(LogBatch(_BASE_LSN, batch))

    def _make_durable(self, count: int) -> Batch:
        records, self.in_flight = self.in_flight[:count], self.in_flight[count:]
        self._record_time_ns = max(self._record_time_ns, self._clock.time_ns())
        first = self.committed_tail_lsn
        batch = Batch(first, self._record_time_ns, records[0].epoch, records)
        self._batches.append(batch)
        self.records += records
        self._on_committed(batch)
        return batch

    def seal(self) -> None:
        """Take nothing more until `open_segment`; what is in flight is still committed."""
        self.accepting = False

    def open_segment(self) -> None:
        """Go on with a new segment, which remembers no key; nothing may be in flight."""
        assert not self.in_flight, "a segment ends with what was admitted to it"
        self._table = ConditionTable(self.committed_tail_lsn)
        self.accepting = True
        self._on_open()

    def crash(self, survivors: int) -> None:
        """The leader is gone: of the records in flight the first ones turn out to be durable."""
        self._listener = _nobody
        self._on_open = _nobody
        self._held.clear()
        if survivors:
            self._make_durable(survivors)
        self.in_flight.clear()
        self._table = ConditionTable(self.committed_tail_lsn)
        self.accepting = True
