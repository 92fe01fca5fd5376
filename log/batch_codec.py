"""How a batch is stored: one key, one value, one checksum.

Key, 16 bytes, big-endian: ``loglet u64 | last offset u64``. Keyed by its *last* offset, the batch
that holds offset n is the first key at or after (loglet, n).

Value, big-endian::

    format u8 | flags u8 | count u16 | first offset u64 | epoch u64 | record time u64 | crc u32
    records: MessagePack array of records, each an array in the order of `types.Record`

The checksum (CRC-32) covers the key, the header before it and the records, so that a flipped bit, a
torn value and a value under the wrong key are all found. Lifetime: from append to trim. Absence of
a key between two batches means corruption, never an empty batch.
"""

import struct
import zlib
from typing import Final

import msgspec

from ..core.errors import StorageFormatError
from .errors import CorruptBatchError
from .types import Batch, Record

FORMAT: Final = 1
KEY: Final = struct.Struct(">QQ")
_HEADER: Final = struct.Struct(">BBHQQQ")
_CHECKSUM: Final = struct.Struct(">I")
_RECORDS_START: Final = _HEADER.size + _CHECKSUM.size

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(list[Record])


def batch_key(loglet: int, last_offset: int) -> bytes:
    """The key of the batch whose last record has this offset."""
    return KEY.pack(loglet, last_offset)


def encode_batch(loglet: int, batch: Batch) -> tuple[bytes, bytes]:
    """Key and value of a batch of 1 to 65 535 records."""
    key = KEY.pack(loglet, batch.last_offset)
    header = _HEADER.pack(
        FORMAT, 0, len(batch.records), batch.first_offset, batch.epoch, batch.record_time_ns
    )
    records = _encoder.encode(batch.records)
    checksum = zlib.crc32(records, zlib.crc32(header, zlib.crc32(key)))
    return key, b"".join((header, _CHECKSUM.pack(checksum), records))


class BatchHeader(msgspec.Struct, frozen=True, gc=False):
    """What a stored batch says of itself before its records."""

    format: int
    count: int
    first_offset: int
    epoch: int
    record_time_ns: int


def check_batch(loglet: int, last_offset: int, value: bytes) -> BatchHeader:
    """The header of a batch that matches its checksum; raises CorruptBatchError.

    The records are not looked at; the format may be one that this program cannot decode.
    """
    if len(value) < _RECORDS_START:
        raise CorruptBatchError(loglet, last_offset, f"only {len(value)} bytes are there")
    (stored,) = _CHECKSUM.unpack_from(value, _HEADER.size)
    view = memoryview(value)
    key = KEY.pack(loglet, last_offset)
    computed = zlib.crc32(view[_RECORDS_START:], zlib.crc32(view[: _HEADER.size], zlib.crc32(key)))
    if stored != computed:
        raise CorruptBatchError(
            loglet, last_offset, f"checksum {computed:08x} does not match the stored {stored:08x}"
        )
    format_number, _flags, count, first_offset, epoch, record_time_ns = _HEADER.unpack_from(value)
    return BatchHeader(format_number, count, first_offset, epoch, record_time_ns)


def decode_batch(key: bytes, value: bytes) -> Batch:
    """The batch under `key`. Raises CorruptBatchError, or StorageFormatError for a newer format."""
    loglet, last_offset = KEY.unpack(key)
    # The format is looked at after the checksum: a flipped bit there must not look like a newer
    # program's data. Every later format keeps header and checksum where they are.
    header = check_batch(loglet, last_offset, value)
    if header.format != FORMAT:
        raise StorageFormatError(
            f"loglet {loglet}, offset {last_offset}: batch format {header.format}; this program "
            f"reads format {FORMAT}: run the release that wrote it or a newer one"
        )
    try:
        records = _decoder.decode(memoryview(value)[_RECORDS_START:])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptBatchError(loglet, last_offset, f"records do not decode: {error}") from None
    first_offset = header.first_offset
    if len(records) != header.count or first_offset + header.count - 1 != last_offset:
        raise CorruptBatchError(
            loglet, last_offset, f"{len(records)} records from offset {first_offset} do not fit"
        )
    return Batch(first_offset, header.record_time_ns, header.epoch, records)
