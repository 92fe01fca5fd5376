"""What a log-server keeps, in the store that all logs of its node share.

Keys, big-endian; they stand beside those of `log_store`, whose first bytes are others::

    i                                     the identity of this disk
    r | loglet u64 | last offset u64      a batch, as in `batch_codec`
    m | loglet u64                        the mark of a loglet: seal, ballots, trim point
    g | first loglet u64                  loglets from this one to before the value are deleted

The value of ``i``, ``m`` and ``g`` is ``crc u32 | MessagePack array``; the CRC-32 covers the key
and the array. Lifetime: ``r`` and ``m`` until the loglet is deleted, ``i`` and ``g`` for ever;
there is one ``g`` per log. Absence of ``m``: never sealed or trimmed, and perhaps never written.
"""

import struct
import zlib
from typing import Final, TypeVar

import msgspec

from ...core.errors import StorageCorruptError
from ...core.random import Random
from ...core.storage.kv import KvStore, PutOrDelete
from ..batch_codec import batch_key, check_batch
from ..errors import CorruptBatchError, ForeignStorageError
from .messages import NO_BALLOT, Ballot, Decided

_IDENTITY: Final = b"i"
_BATCH: Final = b"r"
_MARK: Final = b"m"
_GONE: Final = b"g"
_OFFSET_MAX: Final = (1 << 64) - 1
_LOGLET: Final = struct.Struct(">Q")
_CHECKSUM: Final = struct.Struct(">I")

T = TypeVar("T")


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """Whose disk this is: cluster and node, and a name that no other disk has."""

    cluster: str
    node: str
    storage: str


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of a loglet beside its batches.

    Attributes:
        sequencer: who wrote the first batch; empty before.
        promised: no smaller ballot is listened to; the loglet is sealed if there is one.
        accepted: the end that was accepted last.
        final: the end for ever.
        trim_point: the last offset trimmed.
        trimmed_time_ns: record time of the last batch trimmed.
        known_tail: everything below was committed when this was written.
    """

    sequencer: str = ""
    promised: Ballot = NO_BALLOT
    accepted: Decided | None = None
    final: Decided | None = None
    trim_point: int = 0
    trimmed_time_ns: int = 0
    known_tail: int = 1


class _Gone(msgspec.Struct, frozen=True, array_like=True):
    end_loglet: int


class ServerStore:
    """The log-server's rows. All calls raise StorageError when the store below does.

    Attributes:
        identity: of the disk; `storage` is what segments name it by.
    """

    def __init__(
        self, store: KvStore, *, cluster: str, node: str, random: Random, storage: str = ""
    ) -> None:
        """Find the identity, or give the disk one; it is durable then.

        Args:
            storage: names a disk that has no name yet; drawn unless given.

        Raises ForeignStorageError when the disk is another node's, StorageCorruptError.
        """
        self._store = store
        found = self._get(_IDENTITY, Identity)
        if found is None:
            name = storage or random.bits(64).to_bytes(8, "big").hex()
            found = Identity(cluster, node, name)
            store.write([_row(_IDENTITY, found)])
            store.sync()
        if (found.cluster, found.node) != (cluster, node) or storage not in ("", found.storage):
            raise ForeignStorageError(
                f"this log belongs to node {found.node!r} of cluster {found.cluster!r} (disk "
                f"{found.storage}), not to {node!r} of {cluster!r}: give the node its own base "
                "directory"
            )
        self.identity = found

    def load(self, loglet: int) -> tuple[Mark, int, int]:
        """Mark, tail and last record time of a loglet. Raises StorageCorruptError."""
        mark = self._get(_MARK + _LOGLET.pack(loglet), Mark) or Mark()
        tail, record_time_ns = mark.trim_point + 1, mark.trimmed_time_ns
        start = _BATCH + batch_key(loglet, tail)
        for key, value in self._store.scan(
            start, _BATCH + batch_key(loglet, _OFFSET_MAX), reverse=True
        ):
            last_offset = int.from_bytes(key[9:], "big")
            tail = last_offset + 1
            record_time_ns = check_batch(loglet, last_offset, value).record_time_ns
            break
        return mark, tail, record_time_ns

    def deleted(self) -> dict[int, int]:
        """By the first loglet of a range that was deleted, the one behind its last."""
        found: dict[int, int] = {}
        for key, _ in self._store.scan(_GONE, _GONE + b"\xff" * 9):
            gone = self._get(key, _Gone)
            assert gone is not None, key
            found[_LOGLET.unpack(key[1:])[0]] = gone.end_loglet
        return found

    @staticmethod
    def batch_row(loglet: int, last_offset: int, value: bytes) -> PutOrDelete:
        """The write that stores a batch."""
        return _BATCH + batch_key(loglet, last_offset), value

    @staticmethod
    def mark_row(loglet: int, mark: Mark) -> PutOrDelete:
        """The write that stores a loglet's mark."""
        return _row(_MARK + _LOGLET.pack(loglet), mark)

    @staticmethod
    def deleted_row(first_loglet: int, end_loglet: int) -> PutOrDelete:
        """The write that says that a range of loglets is deleted for ever."""
        return _row(_GONE + _LOGLET.pack(first_loglet), _Gone(end_loglet))

    def read(
        self, loglet: int, first_offset: int, end_offset: int, bytes_max: int
    ) -> list[tuple[int, bytes]]:
        """Batches from the one that holds `first_offset`, up to a gap or `end_offset`.

        At least one if there is any, as (last offset, value). Whoever takes them checks them.
        """
        found: list[tuple[int, bytes]] = []
        total = 0
        expected = first_offset
        for last_offset, value in self._scan(loglet, first_offset, end_offset):
            begins = int.from_bytes(value[4:12], "big")
            if begins > expected if not found else begins != expected:
                break
            found.append((last_offset, value))
            expected = last_offset + 1
            total += len(value)
            if total >= bytes_max:
                break
        return found

    def spans(
        self, loglet: int, first_offset: int, end_offset: int, count_max: int, bytes_max: int
    ) -> tuple[list[tuple[int, int]], int]:
        """First and last offsets of the sound batches in a range, and where the search ended.

        It ends after so many of them, or when so many bytes have been checked.
        """
        found: list[tuple[int, int]] = []
        reached, total = first_offset, 0
        for last_offset, value in self._scan(loglet, first_offset, end_offset):
            if len(found) >= count_max or total >= bytes_max:
                return found, reached
            reached = last_offset + 1
            total += len(value)
            try:
                header = check_batch(loglet, last_offset, value)
            except CorruptBatchError:
                continue  # As good as missing: another server has it.
            found.append((header.first_offset, last_offset))
        return found, end_offset

    def _scan(
        self, loglet: int, first_offset: int, end_offset: int
    ) -> "list[tuple[int, bytes]] | map[tuple[int, bytes]]":
        if first_offset >= end_offset:
            return []
        start = _BATCH + batch_key(loglet, first_offset)
        rows = self._store.scan(start, _BATCH + batch_key(loglet, end_offset))
        return map(_numbered, rows)

    def trim(self, loglet: int, last_offset: int) -> None:
        """Delete batches up to `last_offset`, after the mark that says so is durable."""
        self._store.delete_range(
            _BATCH + batch_key(loglet, 0), _BATCH + batch_key(loglet, last_offset + 1)
        )

    def cut(self, loglet: int, tail: int) -> None:
        """Delete batches at and above the final tail, after the mark that says so is durable."""
        self._store.delete_range(
            _BATCH + batch_key(loglet, tail), _BATCH + batch_key(loglet, _OFFSET_MAX)
        )

    def delete(self, first_loglet: int, end_loglet: int) -> None:
        """Delete everything of a range of loglets, after the row that says so is durable."""
        for table in (_BATCH, _MARK):
            self._store.delete_range(
                table + _LOGLET.pack(first_loglet), table + _LOGLET.pack(end_loglet)
            )

    def _get(self, key: bytes, kind: type[T]) -> T | None:
        value = self._store.get(key)
        if value is None:
            return None
        body = value[_CHECKSUM.size :]
        if value[: _CHECKSUM.size] != _CHECKSUM.pack(zlib.crc32(body, zlib.crc32(key))):
            raise StorageCorruptError(
                f"the log-server's row {key.hex()} does not match its checksum: the bytes on disk "
                "changed after they were written; restore this node or give it an empty disk"
            )
        return msgspec.msgpack.decode(body, type=kind)


def _row(key: bytes, content: msgspec.Struct) -> PutOrDelete:
    body = msgspec.msgpack.encode(content)
    return key, _CHECKSUM.pack(zlib.crc32(body, zlib.crc32(key))) + body


def _numbered(row: tuple[bytes, bytes]) -> tuple[int, bytes]:
    key, value = row
    return int.from_bytes(key[9:], "big"), value
