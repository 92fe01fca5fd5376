"""The messages between two nodes about partitions that one of them leads.

A message is a MessagePack array of frames, each an array that begins with its type's number; the
frames of one turn of the event loop travel together. Numbers are never used again, new fields go to
the end with a default. The first message of a connection begins with `Hello`. Whoever made the
connection asks, and the other end answers; the numbers of requests are the asker's.
"""

import struct
from collections.abc import Iterable
from typing import Final, TypeAlias

import msgspec

from ...core.errors import MalformedMessageError
from ...core.ids import INVOCATION_ID_BYTES, InvocationId
from ...core.net.decoding import decode_sent
from ...partition_processor.effects import Answer
from ...partition_processor.records import Invoke
from ...partition_processor.tables.invocations import Failure, Invocation

FORWARDING_SERVICE: Final = "partition-forwarding"
"""The service's name at a node's listener."""
VERSION: Final = 1
MESSAGE_BYTES_TARGET: Final = 4 * 1024 * 1024
"""Frames are put into one message up to this; a larger one travels alone."""


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """Who asks; must be of the same cluster, with as many partitions."""

    version: int
    cluster: str
    node: str
    partition_count: int


class Submit(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """Make an invocation, exactly as the first node resolved it; see `Partition.invoke`."""

    number: int
    wait: bool
    traceparent: str | None
    command: Invoke


class Attach(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """Wait for the result of an invocation."""

    number: int
    invocation_id: bytes


class Look(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """Tell how an invocation is now."""

    number: int
    invocation_id: bytes


class Operate(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """Apply an operation once; see `records.Once`.

    Attributes:
        wait_turn: send `Turn` as well, where the outcome is that it waits for its turn.
    """

    number: int
    operation_id: bytes
    kind: int
    body: bytes
    wait_turn: bool


class Forget(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """Nobody waits for the answer of this number any more."""

    number: int


class Carry(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    """Messages of one partition's outbox for another; see `records.Deliver`."""

    destination: int
    source: int
    first: int
    messages: tuple[tuple[int, bytes], ...]


class Taken(msgspec.Struct, frozen=True, array_like=True, tag=7, gc=False):
    """How far the messages of a source have been taken; see `shipments.Carrier.taken`."""

    source: int
    destination: int
    last: int
    gap: bool


class Accepted(msgspec.Struct, frozen=True, array_like=True, tag=32, gc=False):
    """The invocation is durable; it was known before unless `new`."""

    number: int
    new: bool
    start_ns: int


class Result(msgspec.Struct, frozen=True, array_like=True, tag=33, gc=False):
    """An invocation as it is, completed or not; what nobody asks for over here is left out."""

    number: int
    stored: bool
    status: int
    service: str
    handler: str
    output: bytes | None
    failure: Failure | None
    expires_ns: int
    entries: int
    deployment: str | None


class Done(msgspec.Struct, frozen=True, array_like=True, tag=34, gc=False):
    """What became of an operation, one of `outcomes`."""

    number: int
    outcome: str


class Turn(msgspec.Struct, frozen=True, array_like=True, tag=35, gc=False):
    """What became of an operation that waited for its turn."""

    number: int
    outcome: str


class Refused(msgspec.Struct, frozen=True, array_like=True, tag=36, gc=False):
    """The request failed.

    Attributes:
        moved: only because this node does not lead the partition, so that another may be asked.
        open: it was on its way into the log, and may have been applied or may still be.
        leader: who leads it, as far as this node knows; empty when it does not.
    """

    number: int
    code: str
    message: str
    retryable: bool
    moved: bool
    open: bool
    leader: str = ""


class NotTaken(msgspec.Struct, frozen=True, array_like=True, tag=37, gc=False):
    """Messages for a partition were not taken: they must come again, here or to its leader."""

    destination: int


class Stranger(msgspec.Struct, frozen=True, array_like=True, tag=38, gc=False):
    """The node that said `Hello` is not served, and the connection ends."""

    reason: str


Request: TypeAlias = Submit | Attach | Look | Operate
Asked: TypeAlias = Hello | Request | Forget | Carry | Taken
Answered: TypeAlias = Accepted | Result | Done | Turn | Refused | NotTaken | Stranger

encode_frame: Final = msgspec.msgpack.Encoder().encode
_decode_asked: Final = msgspec.msgpack.Decoder(list[Asked]).decode
_decode_answered: Final = msgspec.msgpack.Decoder(list[Answered]).decode
_ARRAY: Final = struct.Struct(">BI")
_ARRAY_32: Final = 0xDD


def messages(frames: Iterable[bytes]) -> list[bytes]:
    """Encoded frames in as few messages as `MESSAGE_BYTES_TARGET` allows, in order."""
    whole: list[bytes] = []
    batch: list[bytes] = []
    size = 0
    for frame in frames:
        if batch and size + len(frame) > MESSAGE_BYTES_TARGET:
            whole.append(_message(batch))
            batch, size = [], 0
        batch.append(frame)
        size += len(frame)
    if batch:
        whole.append(_message(batch))
    return whole


def _message(frames: list[bytes]) -> bytes:
    return _ARRAY.pack(_ARRAY_32, len(frames)) + b"".join(frames)


def decode_asked(message: bytes) -> list[Asked]:
    """The frames of an asker. Raises MalformedMessageError."""
    return decode_sent(_decode_asked, message, "a message of another node makes no sense")


def decode_answered(message: bytes) -> list[Answered]:
    """The frames of whoever answers. Raises MalformedMessageError."""
    return decode_sent(_decode_answered, message, "an answer of another node makes no sense")


def checked_id(raw: bytes) -> InvocationId:
    """An invocation id that another node sent. Raises MalformedMessageError."""
    if len(raw) != INVOCATION_ID_BYTES:
        raise MalformedMessageError(f"an invocation id of another node has {len(raw)} bytes")
    return InvocationId(raw)


def result_of(number: int, answer: Answer) -> Result:
    """What is told of an invocation."""
    known = answer.invocation
    return Result(
        number,
        answer.stored,
        known.status,
        known.service,
        known.handler,
        known.output,
        known.failure,
        known.expires_ns,
        known.entries,
        known.deployment,
    )


def answer_of(invocation_id: InvocationId, result: Result) -> Answer:
    """The answer that a leader's own clients get; fields that were not told are empty."""
    invocation = Invocation(
        result.status,
        result.service,
        result.handler,
        None,
        0,
        0,
        0,
        result.entries,
        (),
        deployment=result.deployment,
        output=result.output,
        failure=result.failure,
        expires_ns=result.expires_ns,
    )
    return Answer(invocation_id, invocation, result.stored)
