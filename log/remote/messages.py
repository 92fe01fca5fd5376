"""What a node is asked that orders a log's appends, and what it answers.

One message of the connection is a MessagePack array of requests or of replies, in order: everything
that one turn of the event loop has to say to one peer. Each is an array that begins with its tag;
new fields go to the end with a default, tags are never used again. Cluster, node and generation
were told when the connection was made (`core.net.peers`), so whoever is at the other end lives as
long as the connection does: nothing ever gets to another life of the node.
"""

from collections.abc import Iterable
from typing import Final, TypeAlias, TypeVar

import msgspec

from ...core.errors import PerdureError
from ...core.net.decoding import decode_sent
from ..answers import Answer, Settled
from ..elsewhere import NotHere
from ..errors import (
    BatchTooLargeError,
    FuturePositionError,
    LogUnavailableError,
    MalformedAppendError,
    ReconfigurationError,
    RecordTooLargeError,
    RefusedElsewhereError,
    UnguardedConditionError,
)
from ..message_parts import message_parts
from ..sequencer import Append

SERVICE: Final = "appends"
"""The name of the service at a node's listener."""

MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""A message is closed once it is as long as this; a single longer item makes one of its own."""

APPEND_BYTES_MAX: Final = 63 * 1024 * 1024
"""The longest append that fits into a message of the transport."""


class _Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The layout of all of them."""


class Offer(_Message, frozen=True, tag=1):
    """Append to a log. Answered by `Told`, or by `Refused`."""

    number: int
    log: int
    append: Append


class Settle(_Message, frozen=True, tag=2):
    """Take nothing more that a producer sent under lower epochs. Answered like an `Offer`."""

    number: int
    log: int
    segment: int
    producer: bytes
    epoch: int


Request: TypeAlias = Offer | Settle


class Told(_Message, frozen=True, tag=64):
    """The answer to a request; with `NotHere`, and all the others but one, nothing was written."""

    number: int
    outcome: Answer | Settled | NotHere


class Refused(_Message, frozen=True, tag=65):
    """The error with which a request was refused; nothing was written.

    Attributes:
        code: of the error.
        position, tail: of a FuturePositionError.
    """

    number: int
    code: str
    message: str
    position: int = 0
    tail: int = 0


Reply: TypeAlias = Told | Refused
Item = TypeVar("Item", Request, Reply)

_BY_MESSAGE: Final[dict[str, type[PerdureError]]] = {
    error.code: error
    for error in (
        BatchTooLargeError,
        LogUnavailableError,
        MalformedAppendError,
        ReconfigurationError,
        RecordTooLargeError,
    )
}
"""Errors that are made of their message alone."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode_requests: Final = msgspec.msgpack.Decoder(list[Request]).decode
_decode_replies: Final = msgspec.msgpack.Decoder(list[Reply]).decode


def refused(number: int, error: PerdureError) -> Refused:
    """The reply that tells an error."""
    if isinstance(error, FuturePositionError):
        return Refused(number, error.code, error.message, error.position, error.tail)
    return Refused(number, error.code, error.message)


def error_of(node: str, reply: Refused) -> PerdureError:
    """The error that a reply tells, as it would have been raised at `node`."""
    if reply.code == FuturePositionError.code:
        return FuturePositionError(reply.position, reply.tail)
    if reply.code == UnguardedConditionError.code:
        return UnguardedConditionError()
    known = _BY_MESSAGE.get(reply.code)
    if known is not None:
        return known(reply.message)
    return RefusedElsewhereError(node, reply.code, reply.message)


def encode(items: list[Item]) -> Iterable[tuple[list[Item], bytes]]:
    """The messages that carry these in order, each with what it carries."""
    for part in message_parts(items, _length_of, MESSAGE_BYTES):
        yield list(part), _encode(part)


def _length_of(item: Request | Reply) -> int:
    return size_of(item.append) if isinstance(item, Offer) else 64


def size_of(append: Append) -> int:
    """About how many bytes an append takes."""
    size = 64 + 32 * len(append.conditions)
    for record in append.records:
        size += 64 + len(record.body) + (18 * len(record.keys) if record.keys else 0)
    return size


def decode_requests(message: bytes) -> list[Request]:
    """The requests in a message. Raises MalformedMessageError."""
    return decode_sent(_decode_requests, message, "no appends from another node")


def decode_replies(message: bytes) -> list[Reply]:
    """The replies in a message. Raises MalformedMessageError."""
    return decode_sent(_decode_replies, message, "no answers to appends")
