"""Bodies of the service protocol, written by hand: small, fixed messages that every call sends.

`tests/sdk/test_wire.py` compares each of them with what protobuf writes. Reading is left to
protobuf, which is faster at it than Python can be.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Final

from ..core.protocol import messages
from ..core.protocol.fields import field, varint
from ..proto.generated import service_protocol_pb2 as pb
from . import texts
from .errors import TerminalError

CODE_TOO_LARGE: Final = 413
# The frames of one segment are put together again by the node, which bounds their length.
SEGMENT_FRAMES_BYTES_MAX: Final = 16 * 1024 * 1024
METADATA_BYTES_MAX: Final = 64 * 1024
RETRY_DELAY_MAX: Final = timedelta(days=366)

END_FRAME: Final = messages.frame(messages.END, b"")


def _name(name: str | None) -> bytes:
    return field(b"\x62", texts.encode_text(name)) if name else b""


def _value(tag: bytes, content: bytes) -> bytes:
    return field(tag, b"\x0a" + varint(len(content)) + content if content else b"")


def output_value(content: bytes) -> bytes:
    """Body of an Output command with a value."""
    if content and len(content) < 126:  # both lengths take one byte: most answers
        length = len(content)
        return b"\x72%c\x0a%c%b" % (length + 2, length, content)
    return _value(b"\x72", content)


def failure(code: int, message: str, metadata: Mapping[str, str] | None = None) -> pb.Failure:
    """A terminal failure; metadata that comes after its first 64 KiB is left out."""
    what = pb.Failure(code=texts.status_code_of(code), message=texts.message_text(message))
    bytes_left = METADATA_BYTES_MAX
    for key, value in (metadata or {}).items():
        pair = pb.FailureMetadata(key=texts.clean_text(key), value=texts.clean_text(value))
        bytes_left -= pair.ByteSize()
        if bytes_left < 0:
            break
        what.metadata.append(pair)
    return what


def too_large(call: str, size: int) -> TerminalError:
    """What `call` raises for a value of `size` bytes, which no entry can hold."""
    return TerminalError(
        f"{call}: a value of {size} bytes is over the limit of {messages.ENTRY_BYTES_MAX} bytes "
        f"({messages.ENTRY_BYTES_MAX >> 20} MiB); keep it elsewhere and record where",
        CODE_TOO_LARGE,
    )


def output_failure(what: pb.Failure) -> bytes:
    """Body of an Output command with a failure."""
    return pb.OutputCommand(failure=what).SerializeToString()


def get_eager_state(key: bytes, content: bytes | None, name: str | None) -> bytes:
    """Body of a GetEagerState command with the value that was there, None for absent."""
    if content and not name and len(key) < 128 and len(content) < 126:
        length = len(content)
        return b"\x0a%c%b\x72%c\x0a%c%b" % (len(key), key, length + 2, length, content)
    answer = b"\x6a\x00" if content is None else _value(b"\x72", content)
    return field(b"\x0a", key) + _name(name) + answer


def get_lazy_state(key: bytes, completion_id: int, name: str | None) -> bytes:
    """Body of a GetLazyState command."""
    return field(b"\x0a", key) + b"\x58" + varint(completion_id) + _name(name)


def set_state(key: bytes, content: bytes, name: str | None) -> bytes:
    """Body of a SetState command."""
    if content and not name and len(key) < 128 and len(content) < 126:
        length = len(content)
        return b"\x0a%c%b\x1a%c\x0a%c%b" % (len(key), key, length + 2, length, content)
    return field(b"\x0a", key) + _value(b"\x1a", content) + _name(name)


def clear_state(key: bytes, name: str | None) -> bytes:
    """Body of a ClearState command."""
    return field(b"\x0a", key) + _name(name)


def run(completion_id: int, name: str) -> bytes:
    """Body of a Run command."""
    return b"\x58" + varint(completion_id) + _name(name)


def propose_run_value(completion_id: int, content: bytes) -> bytes:
    """Body of a ProposeRunCompletion with a value."""
    return b"\x08" + varint(completion_id) + field(b"\x72", content)


def propose_run_failure(completion_id: int, what: pb.Failure) -> bytes:
    """Body of a ProposeRunCompletion with a failure."""
    proposal = pb.ProposeRunCompletion(result_completion_id=completion_id, failure=what)
    return proposal.SerializeToString()


def error_frame(code: int, message: str) -> bytes:
    """A whole Error frame: this attempt failed and another may be made."""
    error = pb.Error(code=texts.status_code_of(code), message=texts.message_text(message))
    return messages.frame(messages.ERROR, error.SerializeToString())


def delay_milliseconds(delay: timedelta) -> int:
    """A delay before the next try, between none and 366 days."""
    return round(min(max(delay, timedelta()), RETRY_DELAY_MAX).total_seconds() * 1000)


def segments(frames: bytes) -> Iterator[bytes]:
    """Frames in runs of up to 16 MiB; a frame that is longer makes a run of its own."""
    begin = whole = 0
    for _type, _start, end in messages.split_frames(frames):
        if end - begin > SEGMENT_FRAMES_BYTES_MAX and whole > begin:
            yield frames[begin:whole]
            begin = whole
        whole = end
    yield frames[begin:]
