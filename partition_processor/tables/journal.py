"""The journal table: an invocation's entries in chunks, as they came, each behind our own header.

A chunk is one row: the entries that arrived in one record. Header, big-endian:
``format u8 | record time u64 | attempt u32 | epoch u64 | entries u32``, then whole frames, never
changed, so that replay sees the bytes that were recorded.
"""

import struct
from typing import Final

import msgspec

from ...core.errors import StorageCorruptError, StorageFormatError

CHUNK_FORMAT: Final = 1
_HEADER: Final = struct.Struct(">BQIQI")


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """Entries of one record: `frames` holds `entries` of them."""

    record_time_ns: int
    attempt: int
    epoch: int
    entries: int
    frames: bytes


def encode_chunk(chunk: Chunk) -> bytes:
    """The row's value."""
    header = _HEADER.pack(
        CHUNK_FORMAT, chunk.record_time_ns, chunk.attempt, chunk.epoch, chunk.entries
    )
    return header + chunk.frames


def decode_chunk(value: bytes) -> Chunk:
    """The chunk of a row. Raises StorageCorruptError or StorageFormatError."""
    if len(value) < _HEADER.size:
        raise StorageCorruptError(f"a journal chunk of {len(value)} bytes is too short to be one")
    chunk_format, record_time_ns, attempt, epoch, entries = _HEADER.unpack_from(value)
    if chunk_format != CHUNK_FORMAT:
        raise StorageFormatError(
            f"journal chunk format {chunk_format}; this program reads format {CHUNK_FORMAT}: run "
            "the release that wrote it or a newer one"
        )
    return Chunk(record_time_ns, attempt, epoch, entries, value[_HEADER.size :])
