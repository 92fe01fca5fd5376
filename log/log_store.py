"""Where batches are kept: five calls over a KvStore, shared by all logs of a node."""

import struct
from typing import Final, Protocol

from ..core.storage.kv import KvStore, PutOrDelete
from .batch_codec import batch_key, decode_batch, encode_batch
from .errors import CorruptBatchError
from .types import Batch

_DATA: Final = b"d"
_MARK: Final = b"k"
_OFFSET_MAX: Final = (1 << 64) - 1


class LogStore(Protocol):
    """Batches by loglet and offset; what it is to a log server a disk is to a database.

    `append` and `mark` may be collected and written by the caller in any grouping as long as the
    order per loglet is kept; nothing is durable before the store below has synced.
    """

    def append(self, loglet: int, batch: Batch) -> PutOrDelete:
        """The write that stores a batch; the caller puts it into the store, then syncs."""
        ...

    def read(self, loglet: int, first_offset: int, tail: int, bytes_max: int) -> list[Batch]:
        """Batches from the one holding `first_offset`, below `tail`, at least one if there is any.

        Stops after the batch that fills `bytes_max`. Raises CorruptBatchError.
        """
        ...

    def tail(self, loglet: int) -> tuple[int, int]:
        """First offset not written and the last record time in ns; (1, 0) for an empty loglet."""
        ...

    def trim(self, loglet: int, last_offset: int) -> None:
        """Delete whole batches up to the one that ends at or before `last_offset`."""
        ...

    def mark(self, loglet: int, name: bytes, value: bytes | None) -> PutOrDelete:
        """The write that sets a small value beside the loglet: seal, trim point."""
        ...


class KvLogStore:
    """The LogStore over one KvStore.

    Keys: ``d`` + `batch_codec` key holds a batch; ``k`` + loglet u64 + name holds a mark.
    """

    def __init__(self, store: KvStore) -> None:
        """Use `store`, which belongs to the logs alone."""
        self._store = store

    def append(self, loglet: int, batch: Batch) -> PutOrDelete:
        """The write that stores a batch."""
        key, value = encode_batch(loglet, batch)
        return _DATA + key, value

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
                break
        return batches

    def tail(self, loglet: int) -> tuple[int, int]:
        """First offset not written and the last record time in ns."""
        start = _DATA + batch_key(loglet, 0)
        end = _DATA + batch_key(loglet, _OFFSET_MAX)
        for key, value in self._store.scan(start, end, reverse=True):
            batch = decode_batch(key[1:], value)
            return batch.last_offset + 1, batch.record_time_ns
        return 1, 0

    def trim(self, loglet: int, last_offset: int) -> None:
        """Delete whole batches up to the one that ends at or before `last_offset`."""
        start = _DATA + batch_key(loglet, 0)
        self._store.delete_range(start, _DATA + batch_key(loglet, last_offset + 1))

    def mark(self, loglet: int, name: bytes, value: bytes | None) -> PutOrDelete:
        """The write that sets a small value beside the loglet."""
        return _MARK + struct.pack(">Q", loglet) + name, value
