"""The stored form of a batch: round trip, and every way it can be damaged."""

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.errors import StorageFormatError
from perdure.log.batch_codec import batch_key, decode_batch, encode_batch
from perdure.log.errors import CorruptBatchError
from perdure.log.types import Batch, Record

HEADER_BYTES = struct.calcsize(">BBHQQQ")

STORED = (
    "01000002000000000000000a00000000000000030000000000000063d6f44dec929a01c404626f64"
    "7991c4106b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b03c00700c090009a01c404626f647991c4106b6b"
    "6b6b6b6b6b6b6b6b6b6b6b6b6b6b03c00700c09000"
)
"""What `sample` was stored as by the first release of this format."""

records = st.builds(
    Record,
    kind=st.integers(0, 255),
    body=st.binary(max_size=64),
    keys=st.none() | st.tuples(st.binary(min_size=16, max_size=16)) | st.just(()),
    epoch=st.integers(0, 2**64 - 1),
    producer=st.none() | st.binary(min_size=16, max_size=16),
    sequence=st.integers(0, 2**64 - 1),
    attempt=st.integers(0, 2**32 - 1),
    traceparent=st.none() | st.text(max_size=60),
)
batches = st.builds(
    Batch,
    first_offset=st.integers(1, 2**62),
    record_time_ns=st.integers(0, 2**63),
    epoch=st.integers(0, 2**63),
    records=st.lists(records, min_size=1, max_size=5),
)


@given(loglet=st.integers(0, 2**64 - 1), batch=batches)
def test_a_batch_comes_back_as_it_was(loglet: int, batch: Batch) -> None:
    key, value = encode_batch(loglet, batch)

    assert decode_batch(key, value) == batch
    assert key == batch_key(loglet, batch.last_offset)


def sample() -> tuple[bytes, bytes]:
    record = Record(1, b"body", (b"k" * 16,), 3, None, 7)
    return encode_batch(5, Batch(10, 99, 3, [record, record]))


def test_every_flipped_bit_is_found() -> None:
    key, value = sample()
    for position in range(len(value)):
        for bit in range(8):
            damaged = bytearray(value)
            damaged[position] ^= 1 << bit

            with pytest.raises(CorruptBatchError) as raised:
                decode_batch(key, bytes(damaged))
            assert (raised.value.loglet, raised.value.last_offset) == (5, 11)


def test_every_cut_is_found() -> None:
    key, value = sample()
    for length in range(len(value)):
        with pytest.raises(CorruptBatchError):
            decode_batch(key, value[:length])


def test_a_value_under_another_key_is_found() -> None:
    _, value = sample()

    with pytest.raises(CorruptBatchError):
        decode_batch(batch_key(5, 12), value)
    with pytest.raises(CorruptBatchError):
        decode_batch(batch_key(6, 11), value)


def as_format(number: int, key: bytes, value: bytes) -> bytes:
    """The value with another format number and a checksum that fits."""
    return resealed(key, bytes((number,)) + value[1:])


def resealed(key: bytes, value: bytes) -> bytes:
    """The value with a checksum that fits."""
    header, records = value[:HEADER_BYTES], value[HEADER_BYTES + 4 :]
    checksum = zlib.crc32(records, zlib.crc32(header, zlib.crc32(key)))
    return header + struct.pack(">I", checksum) + records


@pytest.mark.parametrize("number", [0, 2, 9, 255])
def test_another_format_is_told_from_damage(number: int) -> None:
    key, value = sample()
    assert as_format(1, key, value) == value

    with pytest.raises(StorageFormatError, match=f"format {number};.*reads format 1"):
        decode_batch(key, as_format(number, key, value))


def test_values_that_their_checksum_vouches_for_are_checked_all_the_same() -> None:
    key, value = sample()
    header, checksum, records = value[:HEADER_BYTES], value[HEADER_BYTES:][:4], value[-1:]
    more = header[:2] + struct.pack(">H", 3) + header[4:] + value[HEADER_BYTES:]
    earlier = header[:4] + struct.pack(">Q", 9) + header[12:] + value[HEADER_BYTES:]
    for damaged in (header + checksum + records, value[:-1], more, earlier, value + b"\0"):
        with pytest.raises(CorruptBatchError) as raised:
            decode_batch(key, resealed(key, damaged))
        assert (raised.value.loglet, raised.value.last_offset) == (5, 11)


def test_what_was_written_once_can_be_read_for_ever() -> None:
    key, value = sample()

    assert key.hex() == "0000000000000005000000000000000b"
    assert value.hex() == STORED
    assert decode_batch(key, bytes.fromhex(STORED)).records[1].body == b"body"
