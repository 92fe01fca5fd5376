"""Where batches are kept: a few calls over a KvStore, shared by all logs of a node."""

import struct
import zlib
from typing import Final, Protocol

import msgspec

from ..core.errors import StorageCorruptError
from ..core.storage.kv import KvStore, PutOrDelete
from .batch_codec import batch_key, decode_batch, encode_batch
from .errors import CorruptBatchError
from .types import Batch

_DATA: Final = b"d"
_MARK: Final = b"k"
_OFFSET_MAX: Final = (1 << 64) - 1
_LOGLET: Final = struct.Struct(">Q")
_MARK_NUMBERS: Final = struct.Struct(">QQ")
_MARK_VALUE: Final = struct.Struct(">QQI")

SEALED: Final = b"s"
"""Mark: the loglet ends at this position, for ever."""

TRIMMED: Final = b"t"
"""Mark: this position is the last one trimmed."""


class StoredState(msgspec.Struct, frozen=True):
    """What the store knows of a loglet.

    Attributes:
        tail: the first offset not written.
        record_time_ns: of the last batch, trimmed or not; 0 when there never was one.
        trim_point: the last offset trimmed, 0 for none.
        sealed: whether it takes no more.
    """

    tail: int = 1
    record_time_ns: int = 0
    trim_point: int = 0
    sealed: bool = False


class LogStore(Protocol):
    """Batches by loglet and offset; what it is to a log server a disk is to a database.

    `append` and `mark` give writes that the caller may collect and write in any grouping as long
    as the order per loglet is kept; nothing is durable before the store below has synced. All
    calls raise StorageError when the store below does.
    """

    def append(self, loglet: int, batch: Batch) -> PutOrDelete:
        """The write that stores a batch; the caller puts it into the store, then syncs."""
        ...

    def mark(self, loglet: int, name: bytes, position: int, record_time_ns: int) -> PutOrDelete:
        """The write that sets a mark, `SEALED` or `TRIMMED`, with the last record time then."""
        ...

    def read(self, loglet: int, first_offset: int, tail: int, bytes_max: int) -> list[Batch]:
        """Batches from the one holding `first_offset`, below `tail`, at least one if there is any.

        Stops after the batch that fills `bytes_max`. Raises CorruptBatchError, also when
        something below `tail` is missing.
        """
        ...

    def state(self, loglet: int) -> StoredState:
        """What is stored of a loglet.

        A last batch that vanished cannot be told from one that was never written, unless the
        loglet is sealed. Raises CorruptBatchError, and StorageCorruptError for a damaged mark.
        """
        ...

    def trim(self, loglet: int, last_offset: int) -> None:
        """Delete the batches that end at or before `last_offset`, after `TRIMMED` is durable."""
        ...

    def delete(self, first_loglet: int, end_loglet: int) -> None:
        """Delete everything of the loglets from the first to before the last id."""
        ...


class KvLogStore:
    """The LogStore over one KvStore.

    Keys: ``d`` + `batch_codec` key holds a batch; ``k`` + loglet u64 + name holds a mark, its value
    is ``position u64 | record time u64 | crc u32``, big-endian; the CRC-32 covers the key and what
    is before it. Absence of a mark: not sealed, never trimmed. Lifetime: until the loglet goes.
    """

    def __init__(self, store: KvStore) -> None:
        """Use `store`, which belongs to the logs alone."""
        self._store = store

    def append(self, loglet: int, batch: Batch) -> PutOrDelete:
        """The write that stores a batch."""
        key, value = encode_batch(loglet, batch)
        return _DATA + key, value

    def mark(self, loglet: int, name: bytes, position: int, record_time_ns: int) -> PutOrDelete:
        """The write that sets a mark."""
        key = _mark_key(loglet, name)
        checksum = _mark_checksum(key, position, record_time_ns)
        return key, _MARK_VALUE.pack(position, record_time_ns, checksum)

    def read(self, loglet: int, first_offset: int, tail: int, bytes_max: int) -> list[Batch]:
        """Batches from the one holding `first_offset`, below `tail`; raises CorruptBatchError."""
        batches: list[Batch] = []
        total = 0
        expected: int | None = None
        start = _DATA + batch_key(loglet, first_offset)
        for key, value in self._store.scan(start, _DATA + batch_key(loglet, tail)):
            batch = decode_batch(key[1:], value)
            assert key.startswith(start[:9]), "the store's scan left the loglet"
            if batch.first_offset != expected and (
                expected is not None or batch.first_offset > first_offset
            ):
                raise CorruptBatchError(
                    loglet, batch.last_offset, f"offsets before {batch.first_offset} are missing"
                )
            expected = batch.last_offset + 1
            batches.append(batch)
            total += len(value)
            if total >= bytes_max:
                return batches
        reached = first_offset if expected is None else expected
        if reached < tail:
            raise CorruptBatchError(loglet, tail - 1, f"offsets from {reached} on are missing")
        return batches

    def state(self, loglet: int) -> StoredState:
        """What is stored of a loglet; raises CorruptBatchError or StorageCorruptError."""
        tail, record_time_ns = 1, 0
        trim_point, trimmed_time_ns = self._read_mark(loglet, TRIMMED)
        sealed_tail, _ = self._read_mark(loglet, SEALED)
        if trim_point:
            tail, record_time_ns = trim_point + 1, trimmed_time_ns
        start = _DATA + batch_key(loglet, trim_point + 1)
        end = _DATA + batch_key(loglet, _OFFSET_MAX)
        for key, value in self._store.scan(start, end, reverse=True):
            batch = decode_batch(key[1:], value)
            tail, record_time_ns = batch.last_offset + 1, batch.record_time_ns
            break
        if sealed_tail and sealed_tail != tail:
            raise CorruptBatchError(
                loglet, tail - 1, f"it was sealed at offset {sealed_tail} and ends at {tail}"
            )
        return StoredState(tail, record_time_ns, trim_point, sealed_tail > 0)

    def _read_mark(self, loglet: int, name: bytes) -> tuple[int, int]:
        key = _mark_key(loglet, name)
        value = self._store.get(key)
        if value is None:
            return 0, 0
        if len(value) != _MARK_VALUE.size:
            raise StorageCorruptError(
                f"loglet {loglet}: mark {name.decode()!r} has {len(value)} bytes instead of "
                f"{_MARK_VALUE.size}; restore this node from a backup or a replica"
            )
        position, record_time_ns, stored = _MARK_VALUE.unpack(value)
        computed = _mark_checksum(key, position, record_time_ns)
        if stored != computed:
            raise StorageCorruptError(
                f"loglet {loglet}: mark {name.decode()!r}: checksum {computed:08x} does not match "
                f"the stored {stored:08x}; restore this node from a backup or a replica"
            )
        return position, record_time_ns

    def trim(self, loglet: int, last_offset: int) -> None:
        """Delete the batches that end at or before `last_offset`."""
        start = _DATA + batch_key(loglet, 0)
        self._store.delete_range(start, _DATA + batch_key(loglet, last_offset + 1))

    def delete(self, first_loglet: int, end_loglet: int) -> None:
        """Delete everything of a range of loglets."""
        for table in (_DATA, _MARK):
            self._store.delete_range(
                table + _LOGLET.pack(first_loglet), table + _LOGLET.pack(end_loglet)
            )


def _mark_key(loglet: int, name: bytes) -> bytes:
    return _MARK + _LOGLET.pack(loglet) + name


def _mark_checksum(key: bytes, position: int, record_time_ns: int) -> int:
    return zlib.crc32(key + _MARK_NUMBERS.pack(position, record_time_ns))
