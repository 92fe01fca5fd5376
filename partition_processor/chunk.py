"""Understanding the frames of one attempt: what to store, what to change, what to tell back."""

from typing import Final

import msgspec
from google.protobuf.message import DecodeError

from ..core.errors import MalformedMessageError, PerdureError
from ..core.protocol import messages
from ..proto.generated import service_protocol_pb2 as wire
from .records import KIND_OBJECT_EXCLUSIVE, KIND_SERVICE
from .tables.invocations import Failure

_END_FRAME: Final = messages.frame(messages.END, b"")


class ProtocolViolationError(PerdureError):
    """An attempt sent frames that the protocol or its target does not allow.

    Attributes:
        failure_code: code of the failed attempt, 571 unless said otherwise.
    """

    code = "PD0901"
    failure_code: Final = 571


class ParsedChunk(msgspec.Struct, gc=False):
    """What the frames of one message come to.

    Attributes:
        stored: frames for the journal.
        entries: how many frames `stored` has.
        notifications: the part of `stored` that the attempt waits for.
        state: changes in order; None clears.
        output: value of OUTPUT, if there was one and it is a value.
        failure: failure of OUTPUT.
        ended: END was the last frame.
    """

    stored: bytes = b""
    entries: int = 0
    notifications: bytes = b""
    state: list[tuple[bytes, bytes | None]] = []
    output: bytes | None = None
    failure: Failure | None = None
    ended: bool = False


def failure_of(message: wire.Failure) -> Failure:
    """A wire failure as it is stored."""
    metadata = tuple((entry.key, entry.value) for entry in message.metadata)
    return Failure(message.code, message.message, metadata)


def parse_chunk(frames: bytes, target_kind: int) -> ParsedChunk:
    """Read all frames of a chunk. Raises ProtocolViolationError; nothing is applied in that case.

    Deterministic: the same bytes give the same answer or the same error on every replica.
    """
    chunk = ParsedChunk(state=[])
    try:
        for message_type, start, end in messages.split_frames(frames):
            if chunk.ended:
                raise ProtocolViolationError("the attempt sent frames after END")
            if message_type == messages.END:
                chunk.ended = True
                continue
            chunk.entries += 1
            if message_type == messages.RUN_COMPLETION:
                chunk.notifications += frames[start - messages.FRAME_HEADER_BYTES : end]
            else:
                _read_command(chunk, message_type, frames[start:end], target_kind)
    except DecodeError:
        # The library's own words differ from release to release, and this text is stored.
        raise ProtocolViolationError("the attempt sent a body that does not parse") from None
    except MalformedMessageError as error:
        raise ProtocolViolationError(
            f"the attempt sent frames that do not parse: {error}"
        ) from None
    chunk.stored = frames[: -len(_END_FRAME)] if chunk.ended else frames
    return chunk


def _read_command(chunk: ParsedChunk, message_type: int, body: bytes, target_kind: int) -> None:
    if message_type == messages.OUTPUT_COMMAND:
        output = wire.OutputCommand.FromString(body)
        if output.HasField("failure"):
            chunk.output, chunk.failure = None, failure_of(output.failure)
        else:
            chunk.output, chunk.failure = output.value.content, None
    elif message_type == messages.RUN_COMMAND:
        pass
    elif message_type == messages.GET_EAGER_STATE_COMMAND:
        if target_kind == KIND_SERVICE:
            raise ProtocolViolationError("a plain service has no state to read")
    elif message_type in (messages.SET_STATE_COMMAND, messages.CLEAR_STATE_COMMAND):
        if target_kind != KIND_OBJECT_EXCLUSIVE:
            raise ProtocolViolationError(
                "only exclusive handlers of virtual objects may write state"
            )
        if message_type == messages.SET_STATE_COMMAND:
            change = wire.SetStateCommand.FromString(body)
            chunk.state.append((change.key, change.value.content))
        else:
            chunk.state.append((wire.ClearStateCommand.FromString(body).key, None))
    else:
        raise ProtocolViolationError(
            f"the attempt sent a frame of type {message_type:#06x}, which this release does not "
            "take from code"
        )
