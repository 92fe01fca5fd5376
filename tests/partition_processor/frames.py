"""Frames by name: building what code sends, reading what the journal and the attempt get."""

from typing import Any, NamedTuple

from perdure.core.protocol import messages
from perdure.partition_processor.tables.invocations import Failure
from perdure.proto.generated import service_protocol_pb2 as wire

NAMES: dict[int, str] = {
    value: name
    for name, value in vars(messages).items()
    if name.isupper()
    and type(value) is int
    and (name.endswith(("_COMMAND", "_COMPLETION")) or name in ("SIGNAL", "CALL_INVOCATION_ID"))
}
"""Type number → name, of everything that may be in a journal."""


class Entry(NamedTuple):
    """A frame, read."""

    name: str
    message: Any


def message_class(name: str) -> Any:
    """The protobuf class of a message's body."""
    if name == "SIGNAL" or (name.endswith("_COMPLETION") and not name.startswith("PROPOSE")):
        return wire.Notification
    if name == "CALL_INVOCATION_ID":
        return wire.Notification
    return getattr(wire, "".join(part.capitalize() for part in name.split("_")))


def entry(name: str, /, **fields: Any) -> tuple[int, bytes]:
    """A frame as (type, body), by the name of its message and its fields."""
    return getattr(messages, name), message_class(name)(**fields).SerializeToString()


def read_frames(frames: bytes) -> list[Entry]:
    """Every frame, read by protobuf."""
    return [
        Entry(NAMES[kind], message_class(NAMES[kind]).FromString(frames[start:end]))
        for kind, start, end in messages.split_frames(frames)
    ]


def result(notification: Any) -> object:
    """A notification's result: None for void, bytes, a `Failure`, an id's text or a list of keys.

    Raises AssertionError when there is none at all, which no code could understand.
    """
    which = notification.WhichOneof("result")
    assert which is not None, "a notification without a result"
    if which == "void":
        return None
    if which == "value":
        return notification.value.content
    if which == "failure":
        failure = notification.failure
        return Failure(
            failure.code,
            failure.message,
            tuple((item.key, item.value) for item in failure.metadata),
        )
    if which == "invocation_id":
        return notification.invocation_id
    return list(notification.state_keys.keys)
