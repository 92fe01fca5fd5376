"""The chain of a log's segments: a pure value, kept in metadata, changed by compare-and-set.

After Delos' VirtualLog (OSDI 2020, section 3): loglets end to end, each sealed before the next one
begins, so that no position ever has two owners.
"""

from typing import Final

import msgspec

from ..core.errors import StorageFormatError
from ..core.ids import LogId, LogletId
from .errors import (
    ChainFullError,
    CorruptChainError,
    LogError,
    StaleEpochError,
    UnknownSegmentError,
)
from .placement import Placement

FORMAT: Final = 1
SEGMENTS_MAX: Final = 4096
"""A chain holds at most so many segments; trimming takes the old ones away."""

FIRST_LSN: Final = 1
_FIRST_INDEX: Final = 1
_NUMBER_MAX: Final = (1 << 64) - 1


class SegmentParams(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a segment came to be. What is at its default is not stored.

    Attributes:
        loglet: id of the loglet in its provider's store.
        epoch: leader epoch of whoever added the segment; never less than the segment's before.
        record_time_ns: no record of the segment is dated before this.
        sequencer: name of the node that orders the segment's appends.
        placement: where it is kept, None where it is kept on one node.
    """

    loglet: int
    epoch: int
    record_time_ns: int
    sequencer: str = ""
    placement: Placement | None = None


class Segment(msgspec.Struct, frozen=True):
    """One loglet's place in a log.

    Attributes:
        index: counts segments for ever; strictly growing along the chain.
        base_lsn: LSN of the loglet's offset 1.
        kind: of the provider.
    """

    index: int
    base_lsn: int
    kind: str
    params: SegmentParams

    def lsn_of(self, offset: int) -> int:
        """The LSN of an offset."""
        return self.base_lsn + offset - 1

    def offset_of(self, lsn: int) -> int:
        """The offset of an LSN."""
        return lsn - self.base_lsn + 1


class Chain(msgspec.Struct, frozen=True):
    """The segments of one log, oldest first, at least one.

    Attributes:
        sealed_tail: the log's tail when the log as a whole is sealed and takes no records; None
            while it is open.
    """

    segments: tuple[Segment, ...]
    sealed_tail: int | None = None

    @property
    def tail(self) -> Segment:
        """The last segment, the only one that may take records."""
        return self.segments[-1]

    @property
    def first_lsn(self) -> int:
        """The first LSN that the chain still covers."""
        return self.segments[0].base_lsn

    def position_of(self, lsn: int) -> int:
        """Index into `segments` of the one that holds `lsn`, or will.

        Empty segments hold nothing: of several with one base the last one counts. Positions before
        the first segment belong to the first.
        """
        low, high = 0, len(self.segments) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if self.segments[middle].base_lsn <= lsn:
                low = middle
            else:
                high = middle - 1
        return low

    def end_of(self, position: int) -> int | None:
        """The first LSN after the segment at this position, None when that is not known yet."""
        if position + 1 < len(self.segments):
            return self.segments[position + 1].base_lsn
        return self.sealed_tail

    def end_of_index(self, index: int) -> int:
        """The first LSN after the segment with this index, 0 while it is the last one and open."""
        for segment in self.segments:
            if segment.index > index:
                return segment.base_lsn
        return self.sealed_tail or 0

    def extend(self, log: LogId, tail_lsn: int, kind: str, params: SegmentParams) -> "Chain":
        """The chain with a new segment that begins at `tail_lsn`, the sealed tail of the last one.

        An empty last segment is replaced. Raises StaleEpochError or ChainFullError.
        """
        last = self.tail
        if params.epoch < last.params.epoch:
            raise StaleEpochError(log, params.epoch, last.params.epoch)
        assert tail_lsn >= last.base_lsn, (tail_lsn, last.base_lsn)
        assert self.sealed_tail is None or self.sealed_tail == tail_lsn, (self, tail_lsn)
        kept = self.segments[:-1] if tail_lsn == last.base_lsn else self.segments
        if len(kept) >= SEGMENTS_MAX:
            raise ChainFullError(log, len(kept))
        return Chain((*kept, Segment(last.index + 1, tail_lsn, kind, params)))

    def seal(self, tail_lsn: int) -> "Chain":
        """The chain sealed as a whole at the tail of its last, sealed segment."""
        assert tail_lsn >= self.tail.base_lsn, (tail_lsn, self.tail)
        return Chain(self.segments, tail_lsn)

    def trim(self, last_lsn: int) -> "Chain":
        """The chain without the segments that lie wholly at or below `last_lsn`.

        The last segment stays whatever happens.
        """
        first = 0
        while first + 1 < len(self.segments) and self.segments[first + 1].base_lsn <= last_lsn + 1:
            first += 1
        return self if first == 0 else Chain(self.segments[first:], self.sealed_tail)

    def segment(self, log: LogId, index: int) -> Segment:
        """The segment with this index. Raises UnknownSegmentError."""
        for segment in self.segments:
            if segment.index == index:
                return segment
        there = f"it has {self.segments[0].index} to {self.tail.index}"
        raise UnknownSegmentError(log, index, there)


def first_chain(kind: str, params: SegmentParams) -> Chain:
    """The chain of a new log."""
    return Chain((Segment(_FIRST_INDEX, FIRST_LSN, kind, params),))


def loglet_id(log: LogId, index: int) -> LogletId:
    """The id of a segment's loglet: the log in the upper half, the segment below."""
    return LogletId((log + 1) << 32 | index)


def chain_key(log: LogId) -> str:
    """The metadata key of a log's chain."""
    return f"log/{log}/chain"


class _Stored(msgspec.Struct, frozen=True):
    format: int
    segments: tuple[Segment, ...]
    sealed_tail: int | None = None


class _Format(msgspec.Struct, frozen=True):
    format: int


_decode_format: Final = msgspec.json.Decoder(_Format).decode
_decode: Final = msgspec.json.Decoder(_Stored).decode


def encode_chain(chain: Chain) -> bytes:
    """The chain as it is stored: JSON, so that people can read it."""
    return msgspec.json.encode(_Stored(FORMAT, chain.segments, chain.sealed_tail))


def decode_chain(log: LogId, value: bytes) -> Chain:
    """The stored chain of a log. Raises CorruptChainError or StorageFormatError."""
    try:
        found = _decode_format(value).format
        if found != FORMAT:
            raise StorageFormatError(
                f"metadata key {chain_key(log)!r} has format {found}; this program reads format "
                f"{FORMAT}: run the release that wrote it or a newer one"
            )
        stored = _decode(value)
        chain = Chain(stored.segments, stored.sealed_tail)
        _check(chain)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, LogError) as error:
        raise CorruptChainError(
            f"metadata key {chain_key(log)!r} holds no chain: {error}. Restore the metadata from "
            "a backup of the same time as the log"
        ) from None
    return chain


def _check(chain: Chain) -> None:
    """What every chain keeps to. Raises LogError with the reason."""
    if not 1 <= len(chain.segments) <= SEGMENTS_MAX:
        raise LogError(f"it has {len(chain.segments)} segments instead of 1 to {SEGMENTS_MAX}")
    before: Segment | None = None
    for segment in chain.segments:
        params = segment.params
        if not (
            1 <= segment.index <= _NUMBER_MAX
            and 1 <= segment.base_lsn <= _NUMBER_MAX
            and 0 <= params.loglet <= _NUMBER_MAX
            and 0 <= params.epoch <= _NUMBER_MAX
            and 0 <= params.record_time_ns <= _NUMBER_MAX
        ):
            raise LogError(f"segment {segment.index} has a number out of its range")
        if params.placement is not None and (problem := params.placement.problem()):
            raise LogError(f"segment {segment.index} is placed wrongly: {problem}")
        if not segment.kind:
            raise LogError(f"segment {segment.index} names no kind")
        if before is not None:
            if segment.index <= before.index:
                raise LogError(f"segment {segment.index} follows segment {before.index}")
            if segment.base_lsn <= before.base_lsn:
                raise LogError(f"segment {segment.index} does not begin after the one before it")
            if segment.params.epoch < before.params.epoch:
                raise LogError(f"the epoch of segment {segment.index} goes back")
        before = segment
    tail_lsn = chain.sealed_tail
    if tail_lsn is not None and not chain.tail.base_lsn <= tail_lsn <= _NUMBER_MAX:
        raise LogError(f"it is sealed at {tail_lsn}, which its last segment cannot end at")
