"""What a node asks of another that gives out offsets for it, and what that one answers.

As in `..messages`: one message is a MessagePack array of items, everything that one turn has to
say. A loglet belongs to one connection: when that is lost, the loglet is sealed, so nothing is sent
twice and nothing has to be asked again.
"""

from collections.abc import Iterable
from typing import Final, TypeAlias

import msgspec

from ....core.net.decoding import decode_sent
from ...chain import Segment
from ...message_parts import message_parts
from ...types import Record
from ..messages import MESSAGE_BYTES

SERVICE: Final = "log-sequencer"
"""The name of the service at a node's listener."""

_RECORD_BYTES: Final = 64
"""About what a record takes besides its body."""


class Open(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Give out the offsets of this segment, which nobody has appended to. Answered if refused."""

    segment: Segment


class Enqueue(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """Take groups of records, each of them whole, from `first_offset` on without a gap."""

    loglet: int
    first_offset: int
    groups: list[list[Record]]


class Ordered(msgspec.Struct, frozen=True, array_like=True, tag=64, gc=False):
    """These batches are committed: of each the last offset and the record time, in order."""

    loglet: int
    batches: list[tuple[int, int]]


class Refused(msgspec.Struct, frozen=True, array_like=True, tag=65):
    """This node takes nothing more for the loglet, for a reason told to people."""

    loglet: int
    reason: str


Asked: TypeAlias = Open | Enqueue
Told: TypeAlias = Ordered | Refused

_encode: Final = msgspec.msgpack.Encoder().encode
_decode_asked: Final = msgspec.msgpack.Decoder(list[Asked]).decode
_decode_told: Final = msgspec.msgpack.Decoder(list[Told]).decode


def encode(items: list[Asked] | list[Told]) -> Iterable[bytes]:
    """The messages that carry these in order."""
    for part in message_parts(items, _length_of, MESSAGE_BYTES):
        yield _encode(part)


def _length_of(item: Asked | Told) -> int:
    return size_of(item) if isinstance(item, Enqueue) else 256


def size_of(item: Enqueue) -> int:
    """About how many bytes its records take."""
    return sum(len(record.body) + _RECORD_BYTES for group in item.groups for record in group)


def decode_asked(message: bytes) -> list[Asked]:
    """What is asked in a message. Raises MalformedMessageError."""
    return decode_sent(_decode_asked, message, "nothing that a sequencer is asked")


def decode_told(message: bytes) -> list[Told]:
    """What is told in a message. Raises MalformedMessageError."""
    return decode_sent(_decode_told, message, "nothing that a sequencer tells")
