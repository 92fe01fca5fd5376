"""The log's vocabulary: records, batches, tails.

Position words, used alike everywhere: an *offset* counts within one loglet, from 1; an *LSN* counts
within the whole log, ``LSN = base LSN of the segment + offset - 1``; a *tail* is the first position
not written yet; *last* is inclusive.
"""

from typing import Final

import msgspec

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
    """

    kind: int
    body: bytes
    keys: tuple[bytes, ...] | None
    epoch: int
    producer: bytes | None
    sequence: int
    attempt: int = 0
    traceparent: str | None = None


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
    """Where a loglet ends: `offset` is the first one not written; `sealed` means for ever."""

    offset: int
    sealed: bool
