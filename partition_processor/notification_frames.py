"""Notifications and inputs that apply makes, as frames.

Written by hand, because every replica and release must write the same bytes; protobuf promises
that of no two of its releases.

`tests/partition_processor/test_notification_frames.py` reads each of them with protobuf.
"""

from collections.abc import Iterable
from typing import Final

from ..core.protocol import messages
from ..core.protocol.fields import field, varint
from .tables.invocations import Failure

_VOID: Final = b"\x22\x00"


def _value(content: bytes) -> bytes:
    return field(b"\x2a", field(b"\x0a", content) if content else b"")


def _failure(failure: Failure) -> bytes:
    parts = [b"\x08" + varint(failure.code)] if failure.code else []
    if failure.message:
        parts.append(field(b"\x12", failure.message.encode()))
    for key, value in failure.metadata:
        pair = field(b"\x0a", key.encode()) + field(b"\x12", value.encode())
        parts.append(field(b"\x1a", pair))
    return field(b"\x32", b"".join(parts))


def result_of(value: bytes | None, failure: Failure | None) -> bytes:
    """The result part of a notification: the failure, else the value, else void."""
    if failure is not None:
        return _failure(failure)
    return _VOID if value is None else _value(value)


def completion(frame_type: int, completion_id: int, result: bytes) -> bytes:
    """A completion as a frame; `result` is from `result_of`, or one of the two below."""
    return messages.frame(frame_type, b"\x08" + varint(completion_id) + result)


def invocation_id_result(text: str) -> bytes:
    """The result part that tells a called invocation's id."""
    return field(b"\x82\x01", text.encode())


def state_keys_result(names: list[bytes]) -> bytes:
    """The result part that lists state keys."""
    return field(b"\x8a\x01", b"".join(field(b"\x0a", name) for name in names))


def input_command(headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
    """The INPUT command of a called invocation as a frame."""
    parts = [
        field(b"\x0a", field(b"\x0a", key.encode()) + field(b"\x12", value.encode()))
        for key, value in headers
    ]
    parts.append(field(b"\x72", field(b"\x0a", body) if body else b""))
    return messages.frame(messages.INPUT_COMMAND, b"".join(parts))


def signal(index: int, name: str, value: bytes | None, failure: Failure | None) -> bytes:
    """A signal as a frame, by its name or, where that is empty, its index."""
    which = field(b"\x1a", name.encode()) if name else b"\x10" + varint(index)
    return messages.frame(messages.SIGNAL, which + result_of(value, failure))
