"""Ids: the public vectors, round trips, and everything that is not an id."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.hashing import idempotency_bucket, keyed_partition_key, unkeyed_partition_key
from perdure.core.ids import (
    InvocationId,
    MalformedIdError,
    PartitionKey,
    awakeable_id_text,
    base62,
    idempotent_part,
    invocation_id_text,
    parse_invocation_id,
    partition_key_of,
    partition_of,
)

RAW = InvocationId(bytes.fromhex("548ae3cba54055b3b6a235213ef67cb30ccc0efc51c595f2"))
TEXT = "inv_1foAirY4KKzi7nKAusBx0aH9gUCdM1D3LM"
ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def test_the_published_vectors_hold() -> None:
    assert invocation_id_text(RAW) == TEXT
    assert parse_invocation_id(TEXT) == RAW
    assert keyed_partition_key("k1") == 0x548AE3CBA54055B3
    routing = unkeyed_partition_key("Greeter", idempotency_bucket("q")).to_bytes(8, "big")
    made = InvocationId(routing + idempotent_part("Greeter", None, "greet", "q"))
    assert invocation_id_text(made) == "inv_10sLWuuprruE3ZMAqa6Wvld3EMezlzWMyL"


def plain_base62(raw: bytes, width: int) -> str:
    """The definition, digit by digit."""
    number, digits = int.from_bytes(raw, "little"), ""
    while number:
        number, rest = divmod(number, 62)
        digits = ALPHABET[rest] + digits
    return digits.rjust(width, "0")


@given(raw=st.binary(min_size=24, max_size=24))
def test_every_id_comes_back_from_its_text(raw: bytes) -> None:
    text = invocation_id_text(InvocationId(raw))

    assert parse_invocation_id(text) == raw
    assert len(text) == 38


@pytest.mark.parametrize(("size", "width"), [(8, 11), (16, 22)])
def test_base62_agrees_with_its_definition(size: int, width: int) -> None:
    samples = [bytes(size), b"\xff" * size]
    samples += [(1 << bit).to_bytes(size, "little") for bit in range(size * 8)]
    samples += [(62**power).to_bytes(size, "little") for power in range(width)]
    samples += [(62**power - 1).to_bytes(size, "little") for power in range(width)]
    for raw in samples:
        assert base62(raw, width) == plain_base62(raw, width)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "inv_1",
        TEXT[:-1],
        TEXT + "0",
        TEXT.replace("inv_1", "inv_2"),
        TEXT[:-1] + "-",
        TEXT[:-1] + "é",
        "inv_1" + "Z" * 33,
    ],
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(MalformedIdError, match="is not an invocation id"):
        parse_invocation_id(text)


@pytest.mark.parametrize("count", [1, 3, 8, 24, 1024])
def test_partitions_cut_the_key_space_into_equal_ranges(count: int) -> None:
    assert partition_of(PartitionKey(0), count) == 0
    assert partition_of(PartitionKey((1 << 64) - 1), count) == count - 1
    starts = [-(-(number << 64) // count) for number in range(count)]
    for number, start in enumerate(starts):
        assert partition_of(PartitionKey(start), count) == number
        if start:
            assert partition_of(PartitionKey(start - 1), count) == number - 1


def test_an_invocation_is_routed_by_its_first_eight_bytes() -> None:
    assert partition_key_of(RAW) == 0x548AE3CBA54055B3


def test_an_awakeable_is_its_invocation_and_an_index() -> None:
    text = awakeable_id_text(RAW, 17)

    assert text.startswith("sign_1")
    assert "=" not in text
