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
        stored: frames for the journal; a run proposal has become the run's completion.
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


def run_completion(proposal: wire.ProposeRunCompletion) -> bytes:
    """The completion that a proposal becomes, as a frame."""
    notification = wire.Notification(completion_id=proposal.result_completion_id)
    if proposal.HasField("failure"):
        notification.failure.CopyFrom(proposal.failure)
    else:
        notification.value.content = proposal.value
    return messages.frame(messages.RUN_COMPLETION, notification.SerializeToString())


def parse_chunk(frames: bytes, target_kind: int) -> ParsedChunk:
    """Read all frames of a chunk. Raises ProtocolViolationError; nothing is applied in that case.

    Deterministic: the same bytes give the same answer or the same error on every replica.
    """
    chunk = ParsedChunk(state=[])
    rewritten: list[bytes] | None = None
    copied_to = 0
    try:
        for message_type, start, end in messages.split_frames(frames):
            if chunk.ended:
                raise ProtocolViolationError("the attempt sent frames after END")
            if message_type == messages.END:
                chunk.ended = True
                continue
            chunk.entries += 1
            if message_type == messages.PROPOSE_RUN_COMPLETION:
                if rewritten is None:
                    rewritten = []
                rewritten.append(frames[copied_to : start - messages.FRAME_HEADER_BYTES])
                copied_to = end
                proposal = wire.ProposeRunCompletion.FromString(frames[start:end])
                completion = run_completion(proposal)
                rewritten.append(completion)
                chunk.notifications += completion
            else:
                _read_command(chunk, message_type, frames[start:end], target_kind)
    except (DecodeError, MalformedMessageError) as error:
        raise ProtocolViolationError(
            f"the attempt sent frames that do not parse: {error}"
        ) from None
    stored_end = len(frames) - (len(_END_FRAME) if chunk.ended else 0)
    if rewritten is None:
        chunk.stored = frames[:stored_end]
    else:
        rewritten.append(frames[copied_to:stored_end])
        chunk.stored = b"".join(rewritten)
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
