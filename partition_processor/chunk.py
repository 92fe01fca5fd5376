"""Understanding the frames of one attempt: every one is read and checked before any is applied."""

from typing import Final

import msgspec
from google.protobuf.message import DecodeError

from ..core.errors import MalformedMessageError
from ..core.protocol import messages
from ..proto.generated import service_protocol_pb2 as wire
from .entries.appending import ProtocolViolationError
from .entries.entry import Entry
from .entries.registry import ENTRIES
from .tables import id_sets
from .tables.invocations import Invocation, Waiting

_HEADER_BYTES: Final = messages.FRAME_HEADER_BYTES
_CALLS: Final = (messages.CALL_COMMAND, messages.ONE_WAY_CALL_COMMAND)


class ReadFrame(msgspec.Struct, frozen=True, gc=False):
    """One frame of a chunk: `message` is what its entry's `read` gave."""

    entry: Entry
    message_type: int
    message: object
    start: int
    end: int


class ReadChunk(msgspec.Struct, gc=False):
    """What the frames of one record are.

    Attributes:
        frames: those for the journal, in order.
        end: where they end; what follows is END or SUSPENSION.
        ended: END was the last frame.
        waiting: what SUSPENSION, the last frame, waits for.
    """

    frames: list[ReadFrame] = []
    end: int = 0
    ended: bool = False
    waiting: Waiting | None = None


def read_chunk(frames: bytes, invocation: Invocation, calls: int) -> ReadChunk:
    """Read all frames of a chunk. Raises ProtocolViolationError.

    Deterministic: the same bytes give the same answer or the same error on every replica.

    Args:
        calls: how many calls the appender has found a target for.
    """
    chunk = ReadChunk(frames=[])
    kind = invocation.target_kind
    ids: set[int] = set()
    try:
        for message_type, start, end in messages.split_frames(frames):
            if chunk.ended or chunk.waiting is not None:
                raise ProtocolViolationError("the attempt sent frames after END or SUSPENSION")
            if message_type == messages.END:
                chunk.ended = True
                continue
            if message_type == messages.SUSPENSION:
                chunk.waiting = _read_suspension(frames[start:end])
                continue
            entry = ENTRIES.get(message_type)
            if entry is None:
                raise ProtocolViolationError(
                    f"the attempt sent a frame of type {message_type:#06x}, which is not taken "
                    "from code"
                )
            if kind not in entry.kinds:
                raise ProtocolViolationError(entry.refusal)
            message = None if entry.read is None else entry.read(frames[start:end])
            if entry.completion_ids is not None:
                _check_ids(entry.completion_ids(message), ids, invocation)
            calls -= message_type in _CALLS
            chunk.frames.append(ReadFrame(entry, message_type, message, start - _HEADER_BYTES, end))
            chunk.end = end
    except DecodeError:
        # The library's own words differ from release to release, and this text is stored.
        raise ProtocolViolationError("the attempt sent a body that does not parse") from None
    except MalformedMessageError as error:
        raise ProtocolViolationError(
            f"the attempt sent frames that do not parse: {error}"
        ) from None
    if calls:
        raise ProtocolViolationError("the calls of the attempt do not match their targets")
    return chunk


def _check_ids(ids: tuple[int, ...], used: set[int], invocation: Invocation) -> None:
    for number in ids:
        if not 0 < number <= id_sets.ID_MAX:
            raise ProtocolViolationError(
                f"completion id {number} is not between 1 and {id_sets.ID_MAX}"
            )
        known = id_sets.contains(invocation.issued, number) or id_sets.contains(
            invocation.notified, number
        )
        if known or number in used:
            raise ProtocolViolationError(f"completion id {number} was used before")
        used.add(number)


def _read_suspension(body: bytes) -> Waiting:
    suspension = wire.Suspension.FromString(body)
    return Waiting(
        tuple(suspension.waiting_completions),
        tuple(suspension.waiting_signals),
        tuple(suspension.waiting_named_signals),
    )
