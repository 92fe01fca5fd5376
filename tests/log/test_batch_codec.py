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


def test_a_newer_format_is_told_from_damage() -> None:
    key, value = sample()
    newer = bytearray(value)
    newer[0] = 9
    header = struct.calcsize(">BBHQQQ")
    checksum = zlib.crc32(newer[header + 4 :], zlib.crc32(newer[:header], zlib.crc32(key)))
    newer[header : header + 4] = struct.pack(">I", checksum)

    with pytest.raises(StorageFormatError, match="format 9"):
        decode_batch(key, bytes(newer))
