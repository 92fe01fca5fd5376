"""How a file of rows is laid out: blocks of (key, value), each a few hundred kilobytes.

====== ====================================================================================
bytes  meaning
====== ====================================================================================
4      length of the block's rows, big-endian
…      rows: key length u32, value length u32, key, value; in the order of the tables' letters
====== ====================================================================================

A checksum over the whole file stands in the snapshot's metadata. A block is as long as its longest
row makes it, and never longer than `BLOCK_BYTES_MAX`.
"""

import struct
from collections.abc import Iterable
from typing import Final

from ...core.storage.kv import PutOrDelete

ROWS_BYTES: Final = 128 * 1024
"""A block ends after the row that fills it up to here, and after `ROWS_MAX` rows."""

ROWS_MAX: Final = 512

BLOCK_BYTES_MAX: Final = 1 << 30
"""A longer block is damage: no row comes near it."""

LENGTH_BYTES: Final = 4
_LENGTH: Final = struct.Struct(">I")
_LENGTHS: Final = struct.Struct(">II")


def encode_block(rows: Iterable[tuple[bytes, bytes]]) -> bytes:
    """One block."""
    pack = _LENGTHS.pack
    parts = [b""]
    for key, value in rows:
        parts += (pack(len(key), len(value)), key, value)
    length = sum(map(len, parts))
    assert length <= BLOCK_BYTES_MAX, length
    parts[0] = _LENGTH.pack(length)
    return b"".join(parts)


def block_length(data: bytes) -> int:
    """The length that a block's first bytes tell. Raises ValueError."""
    if len(data) < LENGTH_BYTES:
        raise ValueError("it ends within a block's length")
    length: int = _LENGTH.unpack_from(data)[0]
    if length > BLOCK_BYTES_MAX:
        raise ValueError(f"a block of {length} bytes")
    return length


def decode_rows(data: bytes) -> list[PutOrDelete]:
    """The rows of a block, its length left out. Raises ValueError."""
    rows: list[PutOrDelete] = []
    unpack = _LENGTHS.unpack_from
    place = 0
    size = len(data)
    while place < size:
        if place + 8 > size:
            raise ValueError("a row is cut off")
        key_bytes, value_bytes = unpack(data, place)
        value_start = place + 8 + key_bytes
        end = value_start + value_bytes
        if end > size:
            raise ValueError("a row is cut off")
        rows.append((data[place + 8 : value_start], data[value_start:end]))
        place = end
    return rows
