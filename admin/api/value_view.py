"""Values and failures of somebody's code, shown to people: JSON where they are JSON."""

import base64
from typing import Any, Final

import msgspec

from ...partition_processor.tables.invocations import Failure
from .invocation_answers import FailureView, ResultView, ValueView

VALUE_BYTES_SHOWN: Final = 64 * 1024
"""Longer values are not shown, only how long they are."""
_TEXT_SHOWN: Final = 80


def value_view(value: bytes, shown_max: int = VALUE_BYTES_SHOWN) -> ValueView:
    """A value as JSON, else in base64; one of more than `shown_max` bytes is not shown."""
    if not value:
        return ValueView(0)
    if len(value) > shown_max:
        return ValueView(len(value), too_long=True)
    if is_json(value):
        return ValueView(len(value), json=msgspec.Raw(value))
    return ValueView(len(value), base64=base64.b64encode(value).decode())


def is_json(value: bytes) -> bool:
    """Whether bytes are JSON as a whole."""
    try:
        msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def short_text(value: bytes) -> str:
    """A line about a value for people."""
    if not value:
        return "nothing"
    if len(value) <= _TEXT_SHOWN and is_json(value):
        return value.decode()
    return f"{len(value)} bytes"


def failure_view(failure: Failure | None) -> FailureView | None:
    """A failure for people."""
    if failure is None:
        return None
    return FailureView(failure.code, failure.message, dict(failure.metadata))


def wire_failure_view(failure: Any) -> FailureView:
    """A failure of the protocol for people."""
    metadata = {item.key: item.value for item in failure.metadata}
    return FailureView(failure.code, failure.message, metadata)


def result_view(message: Any) -> ResultView:
    """The result of a notification, or of a command that brings its own."""
    which = message.WhichOneof("result")
    if which == "value":
        value = message.value
        if isinstance(value, bytes):
            return ResultView(value=value_view(value))
        return ResultView(value=value_view(value.content))
    if which == "failure":
        return ResultView(failure=wire_failure_view(message.failure))
    if which == "invocation_id":
        return ResultView(invocation=message.invocation_id)
    if which == "state_keys":
        return ResultView(state_keys=[key_text(key) for key in message.state_keys.keys])
    return ResultView()


def key_text(key: bytes) -> str:
    """The name of an entry of an object's state; bytes that are no text show as they can."""
    return key.decode(errors="backslashreplace")
