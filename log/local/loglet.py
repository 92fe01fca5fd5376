"""The local loglet: offsets are given out here, batches are made durable by the shared writer."""

from ...core.clock import Clock
from ..errors import LogClosedError, RecordTooLargeError
from ..log_store import LogStore
from ..loglet import CommitListener
from ..types import (
    BATCH_BYTES_MAX,
    BATCH_RECORDS_MAX,
    RECORD_BYTES_MAX,
    Batch,
    Record,
    TailState,
)
from .writer import LogWriter


class LocalLoglet:
    """One loglet on this node's LogStore; also the sequencer of its segment."""

    def __init__(
        self,
        loglet: int,
        *,
        store: LogStore,
        writer: LogWriter,
        clock: Clock,
        epoch: int,
        listener: CommitListener,
    ) -> None:
        """Find the tail on disk, which the writer's opening sync has made durable.

        Args:
            loglet: its id in the store.
            store: where batches are read from.
            writer: what makes them durable.
            clock: for record times.
            epoch: the leader epoch that batches are stamped with.
            listener: told of every committed batch.
        """
        self.loglet = loglet
        self._store = store
        self._writer = writer
        self._clock = clock
        self._epoch = epoch
        self._listener = listener
        tail, record_time_ns = store.tail(loglet)
        self._next_offset = tail
        self._committed_tail = tail
        self._record_time_ns = record_time_ns
        self._staged: list[Record] = []

    def enqueue(self, record: Record) -> int:
        """Take one record and give its offset. Raises LogClosedError or RecordTooLargeError."""
        if self._writer.failure is not None:
            raise LogClosedError(f"the log takes no more records: {self._writer.failure}")
        if len(record.body) > RECORD_BYTES_MAX:
            raise RecordTooLargeError(
                f"a record of {len(record.body)} bytes is over the limit of {RECORD_BYTES_MAX}"
            )
        offset = self._next_offset
        self._next_offset = offset + 1
        staged = self._staged
        staged.append(record)
        if len(staged) == 1:
            self._writer.schedule(self)
        return offset

    def take_batches(self) -> list[Batch]:
        """The batches that everything enqueued since the last call makes; the writer's side."""
        staged, self._staged = self._staged, []
        record_time_ns = max(self._record_time_ns, self._clock.time_ns())
        self._record_time_ns = record_time_ns
        first_offset = self._next_offset - len(staged)
        if len(staged) <= BATCH_RECORDS_MAX:
            size = 0
            for record in staged:
                size += len(record.body)
            if size <= BATCH_BYTES_MAX:
                return [Batch(first_offset, record_time_ns, self._epoch, staged)]
        return self._split(staged, first_offset, record_time_ns)

    def _split(self, staged: list[Record], first_offset: int, record_time_ns: int) -> list[Batch]:
        batches: list[Batch] = []
        records: list[Record] = []
        size = 0
        for record in staged:
            body = len(record.body)
            if records and (size + body > BATCH_BYTES_MAX or len(records) == BATCH_RECORDS_MAX):
                batches.append(Batch(first_offset, record_time_ns, self._epoch, records))
                first_offset += len(records)
                records, size = [], 0
            records.append(record)
            size += body
        batches.append(Batch(first_offset, record_time_ns, self._epoch, records))
        return batches

    def committed(self, batch: Batch) -> None:
        """The writer's word that the batch is durable; passes it on to the listener."""
        assert batch.first_offset == self._committed_tail, (
            batch.first_offset,
            self._committed_tail,
        )
        self._committed_tail = batch.last_offset + 1
        self._listener(batch)

    def find_tail(self) -> TailState:
        """The committed tail."""
        return TailState(self._committed_tail, sealed=False)

    def read(self, first_offset: int, bytes_max: int = BATCH_BYTES_MAX) -> list[Batch]:
        """Durable batches from the one that holds `first_offset`; raises CorruptBatchError."""
        return self._store.read(self.loglet, first_offset, self._committed_tail, bytes_max)
