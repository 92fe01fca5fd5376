"""Building what a worker gets to start an attempt, and looking over what it sends back."""

from enum import Enum
from typing import Final

import msgspec
from google.protobuf.message import DecodeError

from ...core.errors import MalformedMessageError
from ...core.ids import InvocationId
from ...core.protocol import messages
from ...core.protocol.session import Open
from ...proto.generated import service_protocol_pb2 as wire
from ..entries.registry import ENTRIES
from ..records import DELAY_NS_MAX, KIND_SERVICE
from ..tables.invocations import Invocation
from ..tables.journal import Chunk

_encode: Final = msgspec.msgpack.Encoder().encode


def start_frames(
    invocation_id: InvocationId,
    invocation: Invocation,
    *,
    epoch: int,
    state: dict[bytes, bytes] | None,
    now_ns: int,
) -> bytes:
    """OPEN and START of the invocation's current attempt; None as state has it read lazily."""
    opening = _encode(
        Open(invocation.service, invocation.handler, epoch, invocation.attempt, now_ns)
    )
    start = wire.Start(
        id=invocation_id,
        known_entries=invocation.entries,
        # The part of the id that chance or a digest made: stable, and different per invocation.
        random_seed=invocation.seed or int.from_bytes(invocation_id[16:24], "big"),
    )
    if invocation.target_kind == KIND_SERVICE:
        start.partial_state = True
    else:
        start.key = invocation.key or ""
        start.partial_state = state is None
        for key, value in (state or {}).items():
            start.state_map.add(key=key, value=value)
    if invocation.idempotency_key is not None:
        start.idempotency_key = invocation.idempotency_key
    if invocation.failures_since_entry:
        start.retry_count_since_last_stored_entry = invocation.failures_since_entry
        start.duration_since_last_stored_entry = max(
            0, (now_ns - invocation.last_entry_ns) // 1_000_000
        )
    return messages.frame(messages.OPEN, opening) + messages.frame(
        messages.START, start.SerializeToString()
    )


SEGMENT_BYTES_MAX: Final = 256 * 1024
"""Chunks are joined up to this length; a longer one stands alone."""


def journal_segments(chunks: list[Chunk]) -> list[tuple[int, bytes]]:
    """The stored journal as (record time, frames), short neighbours of one time joined."""
    segments: list[tuple[int, bytes]] = []
    joined: list[bytes] = []
    size = time_ns = 0
    for chunk in chunks:
        size += len(chunk.frames)
        if joined and (chunk.record_time_ns != time_ns or size > SEGMENT_BYTES_MAX):
            segments.append((time_ns, b"".join(joined)))
            joined = []
            size = len(chunk.frames)
        joined.append(chunk.frames)
        time_ns = chunk.record_time_ns
    if joined:
        segments.append((time_ns, b"".join(joined)))
    return segments


class Behavior(Enum):
    """What is to follow a failed attempt."""

    RETRY = "retry"
    PAUSE = "pause"
    FAIL = "fail"


_BEHAVIORS: Final = {wire.Error.PAUSE: Behavior.PAUSE, wire.Error.FAIL: Behavior.FAIL}


class AttemptError(msgspec.Struct, frozen=True, gc=False):
    """Why an attempt failed, as the worker told it.

    Attributes:
        delay_ns: wait that the code asked for this time, None to follow the policy.
        behavior: what the code asked to follow.
        related_index: command that it happened at, -1 when none is named.
        related_type: that command's frame type.
    """

    code: int
    message: str
    delay_ns: int | None = None
    behavior: Behavior = Behavior.RETRY
    related_index: int = -1
    related_name: str = ""
    related_type: int = 0
    stacktrace: str = ""


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What one segment from a worker comes to.

    Attributes:
        frames: to be stored, END or SUSPENSION included, run proposals turned into completions; may
            be empty.
        ended: END or SUSPENSION is the last of `frames`.
        error: the attempt failed after `frames`.
        calls: calls are among them, whose targets must be found.
        runs: steps that begin with these frames.
    """

    frames: bytes
    ended: bool
    error: AttemptError | None
    calls: bool = False
    runs: int = 0


_CALLS: Final = frozenset((messages.CALL_COMMAND, messages.ONE_WAY_CALL_COMMAND))
_TAKEN_FROM_CODE: Final = (
    frozenset(kind for kind in ENTRIES if kind < messages.NOTIFICATION_FIRST)
    - _CALLS
    - {messages.RUN_COMMAND}
)

_unpack_header: Final = messages.FRAME_HEADER.unpack_from

PROTOCOL_VIOLATION: Final = 571

MESSAGE_CHARACTERS_MAX: Final = 8 * 1024
"""Longer error texts are cut; they are stored with every failed attempt."""
NAME_CHARACTERS_MAX: Final = 256
STACKTRACE_CHARACTERS_MAX: Final = 4 * 1024
"""Of a longer stack trace the end is kept, where the cause stands."""


def read_reply(frames: bytes) -> Reply:
    """Look over the frames of one segment: where the attempt ends, whether all types are known.

    Other bodies are read once, by apply. What breaks the protocol becomes the attempt's error.
    """
    # Nearly all segments hold nothing but known commands, with END behind them or not, and are
    # stored as they came; anything else is looked at again, frame by frame.
    position, length = 0, len(frames)
    message_type = size = 0
    while position + messages.FRAME_HEADER_BYTES <= length:
        message_type, _flags, size = _unpack_header(frames, position)
        if message_type not in _TAKEN_FROM_CODE:
            break
        position += messages.FRAME_HEADER_BYTES + size
    if position == length:
        return Reply(frames, False, None)
    end = position + messages.FRAME_HEADER_BYTES
    if message_type == messages.END and end == length and size == 0:
        return Reply(frames, True, None)
    return _read_frame_by_frame(frames)


def _read_frame_by_frame(frames: bytes) -> Reply:
    # A proposal becomes its completion here, before the log: what is stored must not depend on how
    # some release of a library serialises.
    rewritten: list[bytes] = []
    copied_to = 0
    calls = False
    runs = 0

    def stored(end: int) -> bytes:
        return b"".join((*rewritten, frames[copied_to:end])) if rewritten else frames[:end]

    try:
        for message_type, start, end in messages.split_frames(frames):
            if message_type in _TAKEN_FROM_CODE:
                continue
            if message_type in _CALLS:
                calls = True
                continue
            if message_type == messages.RUN_COMMAND:
                runs += 1
                continue
            header = start - messages.FRAME_HEADER_BYTES
            if message_type == messages.PROPOSE_RUN_COMPLETION:
                proposal = wire.ProposeRunCompletion.FromString(frames[start:end])
                rewritten += (frames[copied_to:header], run_completion(proposal))
                copied_to = end
            elif message_type in (messages.END, messages.SUSPENSION):
                if end != len(frames):
                    return _violation(stored(header), "frames after END or SUSPENSION", calls)
                return Reply(stored(end), True, None, calls)
            elif message_type == messages.ERROR:
                error = wire.Error.FromString(frames[start:end])
                return Reply(stored(header), False, _attempt_error(error), calls)
            else:
                what = f"a frame of type {message_type:#06x}"
                return _violation(stored(header), what, calls)
    except (MalformedMessageError, DecodeError) as error:
        return _violation(b"", f"frames that do not parse: {error}", calls=False)
    return Reply(stored(len(frames)), False, None, calls, runs)


def run_completion(proposal: wire.ProposeRunCompletion) -> bytes:
    """The completion that a proposal becomes, as a frame."""
    notification = wire.Notification(completion_id=proposal.result_completion_id)
    if proposal.HasField("failure"):
        notification.failure.CopyFrom(proposal.failure)
    else:
        notification.value.content = proposal.value
    return messages.frame(messages.RUN_COMPLETION, notification.SerializeToString())


def _violation(frames: bytes, what: str, calls: bool) -> Reply:
    error = AttemptError(PROTOCOL_VIOLATION, f"the worker sent {what}")
    return Reply(frames, False, error, calls)


def _attempt_error(error: wire.Error) -> AttemptError:
    delay_ns: int | None = None
    if error.HasField("next_retry_delay"):
        delay_ns = min(error.next_retry_delay * 1_000_000, DELAY_NS_MAX)
    text = error.message[:MESSAGE_CHARACTERS_MAX]
    if error.HasField("related_command_name") and error.related_command_name:
        text = f"{text} (in {error.related_command_name[:MESSAGE_CHARACTERS_MAX]!r})"
    has_index = error.HasField("related_command_index")
    return AttemptError(
        error.code or 500,
        text,
        delay_ns,
        _BEHAVIORS.get(error.behavior, Behavior.RETRY),
        error.related_command_index if has_index else -1,
        error.related_command_name[:NAME_CHARACTERS_MAX],
        error.related_command_type,
        error.stacktrace[-STACKTRACE_CHARACTERS_MAX:],
    )
