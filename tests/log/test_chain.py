"""The chain: a pure value, checked against a dumb twin, and its stored form."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.errors import StorageFormatError
from perdure.core.ids import LogId
from perdure.core.random import SeededRandom
from perdure.log.chain import (
    SEGMENTS_MAX,
    Chain,
    Segment,
    SegmentParams,
    chain_key,
    decode_chain,
    encode_chain,
    first_chain,
)
from perdure.log.errors import (
    ChainFullError,
    CorruptChainError,
    StaleEpochError,
    UnknownSegmentError,
)

LOG = LogId(3)
NUMBER_MAX = (1 << 64) - 1


def params(epoch: int = 1, loglet: int = 0, time_ns: int = 0) -> SegmentParams:
    return SegmentParams(loglet, epoch, time_ns, "n1")


def chain_of(*lengths: int) -> Chain:
    """Segments of these lengths and an open one behind them."""
    chain = first_chain("local", params())
    for length in lengths:
        chain = chain.extend(LOG, chain.tail.base_lsn + length, "local", params())
    return chain


def bases(chain: Chain) -> list[tuple[int, int]]:
    return [(segment.index, segment.base_lsn) for segment in chain.segments]


chains = st.builds(
    lambda lengths, trim, sealed: _made(lengths, trim, sealed),
    lengths=st.lists(st.integers(0, 5), max_size=12),
    trim=st.integers(0, 20),
    sealed=st.none() | st.integers(0, 4),
)


def _made(lengths: list[int], trim: int, sealed: int | None) -> Chain:
    chain = chain_of(*lengths).trim(trim)
    return chain if sealed is None else chain.seal(chain.tail.base_lsn + sealed)


# A dumb twin -------------------------------------------------------------------------------------


class Owners:
    """Which segment owns each LSN, written down one by one."""

    def __init__(self) -> None:
        self.index = 1
        self.owner: dict[int, int] = {}
        self.first_lsn = self.next_lsn = 1

    def append(self, count: int) -> None:
        for _ in range(count):
            self.owner[self.next_lsn] = self.index
            self.next_lsn += 1

    def trim(self, last_lsn: int) -> None:
        """Drop the segments all of whose LSNs are at or below `last_lsn`, but not the open one."""
        for index in sorted(set(self.owner.values()) - {self.index}):
            own = [lsn for lsn, owner in self.owner.items() if owner == index]
            if max(own) > last_lsn:
                return
            for lsn in own:
                del self.owner[lsn]
            self.first_lsn = max(own) + 1


def test_chain_agrees_with_a_dumb_twin() -> None:
    for seed in range(200):
        random = SeededRandom(seed)
        chain, twin = first_chain("local", params()), Owners()
        for _ in range(1 + random.bits(4)):
            twin.append(random.bits(2))
            if random.bits(1):
                chain = chain.extend(LOG, twin.next_lsn, "local", params())
                twin.index = chain.tail.index
            if random.bits(2) == 0:
                last = random.bits(5)
                chain = chain.trim(last)
                twin.trim(last)
            check(chain, twin)


def check(chain: Chain, twin: Owners) -> None:
    assert decode_chain(LOG, encode_chain(chain)) == chain
    assert chain.first_lsn == twin.first_lsn
    assert chain.tail.index == twin.index
    for lsn in range(twin.first_lsn, twin.next_lsn + 3):
        segment = chain.segments[chain.position_of(lsn)]
        owner = twin.owner.get(lsn, twin.index)
        assert segment.index == owner, lsn
        assert segment.lsn_of(segment.offset_of(lsn)) == lsn
        assert segment.offset_of(lsn) >= 1
        end = chain.end_of(chain.position_of(lsn))
        if owner == twin.index:
            assert end is None
        else:
            assert end == max(item for item, index in twin.owner.items() if index == owner) + 1
    for lsn in range(twin.first_lsn):
        assert chain.position_of(lsn) == 0


@given(chain=chains, lsn=st.integers(0, 80))
def test_position_is_the_last_segment_that_begins_at_or_before(chain: Chain, lsn: int) -> None:
    expected = 0
    for position, segment in enumerate(chain.segments):
        if segment.base_lsn <= lsn:
            expected = position

    assert chain.position_of(lsn) == expected


# Changing ----------------------------------------------------------------------------------------


def test_new_chain_begins_with_the_first_lsn() -> None:
    chain = first_chain("local", params(4))

    assert chain == Chain((Segment(1, 1, "local", params(4)),), None)
    assert (chain.first_lsn, chain.tail.index, chain.end_of(0)) == (1, 1, None)


def test_extending_adds_a_segment_at_the_tail() -> None:
    chain = chain_of(10).extend(LOG, 15, "memory", params(7))

    assert bases(chain) == [(1, 1), (2, 11), (3, 15)]
    assert (chain.tail.kind, chain.tail.params.epoch) == ("memory", 7)
    assert [chain.end_of(position) for position in range(3)] == [11, 15, None]


def test_empty_last_segment_is_replaced_under_a_new_index() -> None:
    assert bases(chain_of(0)) == [(2, 1)]
    assert bases(chain_of(0, 0, 5, 0, 0)) == [(3, 1), (6, 6)]


def test_older_epoch_may_not_extend() -> None:
    chain = first_chain("local", params(5))
    with pytest.raises(StaleEpochError) as raised:
        chain.extend(LOG, 3, "local", params(4))

    assert (raised.value.log, raised.value.epoch, raised.value.current) == (LOG, 4, 5)
    assert chain.extend(LOG, 3, "local", params(5)).tail.params.epoch == 5
    # An empty segment that is replaced keeps its successor from going back as well.
    with pytest.raises(StaleEpochError):
        chain.extend(LOG, 1, "local", params(4))


def test_full_chain_takes_no_segment_until_it_is_trimmed() -> None:
    chain = chain_of(*[1] * (SEGMENTS_MAX - 1))
    assert len(chain.segments) == SEGMENTS_MAX
    tail = chain.tail.base_lsn
    with pytest.raises(ChainFullError, match=str(SEGMENTS_MAX)):
        chain.extend(LOG, tail + 1, "local", params())

    assert len(chain.extend(LOG, tail, "local", params()).segments) == SEGMENTS_MAX
    assert decode_chain(LOG, encode_chain(chain)) == chain
    shorter = chain.trim(1)
    assert len(shorter.extend(LOG, tail + 1, "local", params()).segments) == SEGMENTS_MAX


def test_sealed_chain_has_an_end_and_extending_opens_it() -> None:
    chain = chain_of(10).seal(15)
    assert chain.sealed_tail == chain.end_of(1) == 15
    assert chain.trim(12).sealed_tail == 15
    assert chain.seal(15) == chain
    opened = chain.extend(LOG, 15, "local", params())

    assert (opened.sealed_tail, bases(opened)) == (None, [(1, 1), (2, 11), (3, 15)])
    assert bases(chain_of(10).seal(11).extend(LOG, 11, "local", params())) == [(1, 1), (3, 11)]


@pytest.mark.parametrize("tail", [14, 16])
def test_extending_elsewhere_than_at_the_sealed_tail_is_a_bug(tail: int) -> None:
    with pytest.raises(AssertionError):
        chain_of(10).seal(15).extend(LOG, tail, "local", params())


def test_tail_before_the_last_segment_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        chain_of(10).extend(LOG, 10, "local", params())
    with pytest.raises(AssertionError):
        chain_of(10).seal(10)


def test_trimming_drops_whole_segments_but_never_the_last() -> None:
    chain = chain_of(10, 5)
    for last, left in [(0, 3), (9, 3), (10, 2), (14, 2), (15, 1), (1000, 1)]:
        assert bases(chain.trim(last)) == [(1, 1), (2, 11), (3, 16)][3 - left :]

    assert chain.trim(9) is chain
    assert chain.trim(10).first_lsn == 11


def test_segment_is_found_by_its_index() -> None:
    chain = chain_of(10, 0, 5)
    assert [segment.index for segment in chain.segments] == [1, 3, 4]
    assert chain.segment(LOG, 3).base_lsn == 11
    with pytest.raises(UnknownSegmentError, match="it has 1 to 4") as raised:
        chain.segment(LOG, 2)

    assert (raised.value.log, raised.value.segment) == (LOG, 2)


# Stored form -------------------------------------------------------------------------------------


@given(chain=chains)
def test_chain_comes_back_as_it_was(chain: Chain) -> None:
    assert decode_chain(LOG, encode_chain(chain)) == chain


def test_what_was_written_once_can_be_read_for_ever() -> None:
    stored = (
        b'{"format":1,"segments":[{"index":2,"base_lsn":11,"kind":"local","params":{"loglet":7,'
        b'"epoch":5,"record_time_ns":9,"sequencer":"n1"}}],"sealed_tail":15}'
    )
    chain = Chain((Segment(2, 11, "local", SegmentParams(7, 5, 9, "n1")),), 15)

    assert encode_chain(chain) == stored
    assert decode_chain(LOG, stored) == chain


def test_limits_of_numbers_are_stored() -> None:
    numbers = SegmentParams(NUMBER_MAX, NUMBER_MAX, NUMBER_MAX)
    chain = Chain((Segment(NUMBER_MAX, NUMBER_MAX, "x", numbers),), NUMBER_MAX)

    assert decode_chain(LOG, encode_chain(chain)) == chain


@pytest.mark.parametrize("number", [0, 2, -1, 10**6])
def test_another_format_is_told_from_damage(number: int) -> None:
    value = json.dumps({"format": number, "segments": "whatever a later release puts here"})
    with pytest.raises(StorageFormatError, match=f"'log/3/chain' has format {number};"):
        decode_chain(LOG, value.encode())


def stored_with(**changes: Any) -> bytes:
    """A chain of two segments with changes, `a__b` for b of a of the second segment."""
    value: dict[str, Any] = json.loads(encode_chain(chain_of(10).seal(15)))
    for path, change in changes.items():
        *outer, last = path.split("__")
        place: dict[str, Any] = value["segments"][1] if outer else value
        for name in outer[1:]:
            place = place[name]
        if change is ...:
            del place[last]
        else:
            place[last] = change
    return json.dumps(value).encode()


CHANGES: list[dict[str, Any]] = [
    {"format": None},
    {"format": "1"},
    {"format": True},
    {"format": ...},
    {"segments": []},
    {"segments": None},
    {"segments": ...},
    {"segments": [1]},
    {"sealed_tail": 10},
    {"sealed_tail": -1},
    {"sealed_tail": "15"},
    {"sealed_tail": NUMBER_MAX + 1},
    {"s__index": 1},
    {"s__index": 0},
    {"s__index": -3},
    {"s__index": 1.5},
    {"s__index": ...},
    {"s__index": NUMBER_MAX + 1},
    {"s__base_lsn": 0},
    {"s__base_lsn": 1},
    {"s__base_lsn": -1},
    {"s__base_lsn": "11"},
    {"s__base_lsn": ...},
    {"s__base_lsn": NUMBER_MAX + 1},
    {"s__kind": 3},
    {"s__kind": ""},
    {"s__kind": ...},
    {"s__params": None},
    {"s__params": ...},
    {"s__params__epoch": 0},
    {"s__params__epoch": -1},
    {"s__params__epoch": ...},
    {"s__params__epoch": NUMBER_MAX + 1},
    {"s__params__loglet": -1},
    {"s__params__loglet": ...},
    {"s__params__loglet": NUMBER_MAX + 1},
    {"s__params__loglet": 10**30},
    {"s__params__record_time_ns": -1},
    {"s__params__record_time_ns": ...},
    {"s__params__record_time_ns": NUMBER_MAX + 1},
    {"s__params__sequencer": 1},
]

CORRUPT = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"1",
    b"\xff\xfe",
    b"{}",
    b"[" * 100_000,
    b'{"format":1,"segments":' + b"[" * 100_000,
    b'{"format":1,"other":' + b'{"a":' * 100_000,
    encode_chain(chain_of(10))[:-1],
    encode_chain(chain_of(10)) + b"x",
    encode_chain(chain_of(10)).replace(b"local", b"loc\xffl"),
    *(stored_with(**changes) for changes in CHANGES),
]


@pytest.mark.parametrize("value", CORRUPT, ids=[str(item[:60]) for item in CORRUPT])
def test_value_that_is_no_chain_is_refused_by_its_key(value: bytes) -> None:
    with pytest.raises(CorruptChainError, match="'log/3/chain' holds no chain"):
        decode_chain(LOG, value)


def test_chain_with_too_many_segments_is_refused() -> None:
    chain = chain_of(*[1] * (SEGMENTS_MAX - 1))
    last = chain.tail
    longer = Chain((*chain.segments, Segment(last.index + 1, last.base_lsn + 1, "x", last.params)))
    with pytest.raises(CorruptChainError, match=f"{SEGMENTS_MAX + 1} segments"):
        decode_chain(LOG, encode_chain(longer))


def test_no_flipped_bit_makes_anything_else_of_a_chain_than_a_chain_or_an_error() -> None:
    good = encode_chain(chain_of(10, 4).seal(30))
    refused = 0
    for position in range(len(good)):
        for bit in range(8):
            damaged = bytearray(good)
            damaged[position] ^= 1 << bit
            try:
                found = decode_chain(LOG, bytes(damaged))
            except (CorruptChainError, StorageFormatError):
                refused += 1
            else:
                # A digit or a letter of a name: JSON has no checksum, but it is a chain.
                assert decode_chain(LOG, encode_chain(found)) == found
    assert refused > 4 * len(good)


def test_key_names_the_log() -> None:
    assert [chain_key(LogId(log)) for log in (0, 3, 12)] == [
        "log/0/chain",
        "log/3/chain",
        "log/12/chain",
    ]
