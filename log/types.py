"""The log's vocabulary: records, batches, tails.

Position words, used alike everywhere: an *offset* counts within one loglet, from 1; an *LSN* counts
within the whole log, ``LSN = base LSN of the segment + offset - 1``; a *tail* is the first position
not written yet; *last* is inclusive.
"""

from typing import Final

import msgspec

KEY_BYTES: Final = 16
"""Every key is a hash of this length: see `core.hashing.key_hash`."""

KEYS_MAX: Final = 64
"""A record names at most so many keys; one that touches more names all of them with None."""

CONDITIONS_MAX: Final = 64
"""An append carries at most so many conditions."""

RECORD_BYTES_MAX: Final = 64 * 1024 * 1024
"""The longest body of one record: a front-door body at its limit plus everything around it."""

BATCH_BYTES_MAX: Final = 4 * 1024 * 1024
BATCH_RECORDS_MAX: Final = 1000
"""A batch is closed at either limit; a single longer record makes a batch of its own."""


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One event. The fields' order is the stored format; new ones go to the end with a default.

    Attributes:
        kind: what the body is, a number of the partition processor's list of commands.
        body: opaque to the log.
        keys: 16-byte hashes of everything the record touches; None means every key.
        epoch: leader epoch of the appender; the interpreter drops what is below the last announced.
        producer: 16 bytes that name who numbered `sequence`; None for the log's own leader.
        sequence: contiguous per (producer, epoch), from 1.
        attempt: the attempt of an invocation that this record belongs to, 0 for none.
        traceparent: W3C trace context of the cause, or None.
        conditions: what was checked at admission, as (key, LSN) of `NotChangedSince`; kept so that
            a reader can check it again.
        producer_epoch: counts the lives of `producer`.
    """

    kind: int
    body: bytes
    keys: tuple[bytes, ...] | None = ()
    epoch: int = 0
    producer: bytes | None = None
    sequence: int = 0
    attempt: int = 0
    traceparent: str | None = None
    conditions: tuple[tuple[bytes, int], ...] = ()
    producer_epoch: int = 0


class Batch(msgspec.Struct, frozen=True, gc=False):
    """Records appended together: contiguous, atomic, of one record time.

    Attributes:
        first_offset: offset of ``records[0]``.
        record_time_ns: given by the sequencer, never less than the batch before.
        epoch: of the sequencer that admitted it.
    """

    first_offset: int
    record_time_ns: int
    epoch: int
    records: list[Record]

    @property
    def last_offset(self) -> int:
        """Offset of the last record."""
        return self.first_offset + len(self.records) - 1


class TailState(msgspec.Struct, frozen=True):
    """Where a loglet ends: `offset` is the first one not written; `sealed` means for ever.

    `record_time_ns` is not below the last record's.
    """

    offset: int
    sealed: bool
    record_time_ns: int = 0


class LogTail(msgspec.Struct, frozen=True):
    """Where a log ends: `lsn` is the first one not written; `sealed` while it takes no records."""

    lsn: int
    sealed: bool


class LogBatch(msgspec.Struct, frozen=True):
    """A batch at its place in the log: `base_lsn` is the LSN of its loglet's offset 1."""

    base_lsn: int
    batch: Batch

    @property
    def first_lsn(self) -> int:
        """LSN of the first record."""
        return self.base_lsn + self.batch.first_offset - 1

    @property
    def last_lsn(self) -> int:
        """LSN of the last record."""
        return self.base_lsn + self.batch.last_offset - 1
