"""The frames of a journal for people: what each is called, what it says, in a line."""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec
from google.protobuf.message import DecodeError, Message

from ...core.ids import InvocationId, awakeable_id_text
from ...core.protocol import messages
from ...proto.generated import service_protocol_pb2 as wire
from .times import time_text
from .value_view import key_text, short_text, value_view

NS_PER_MS: Final = 1_000_000
_COMMAND: Final = "_COMMAND"
_Read: TypeAlias = Callable[[bytes], Any]


def _type_name(constant: str) -> str:
    return constant.title().replace("_", "")


_COMMANDS: Final[dict[int, tuple[str, _Read]]] = {
    number: (
        _type_name(constant.removesuffix(_COMMAND)),
        getattr(wire, _type_name(constant)).FromString,
    )
    for constant, number in vars(messages).items()
    if constant.endswith(_COMMAND)
}
_NOTIFICATIONS: Final[dict[int, str]] = {
    number: _type_name(constant)
    for constant, number in vars(messages).items()
    if constant.endswith("_COMPLETION") and number >= messages.NOTIFICATION_FIRST
} | {messages.CALL_INVOCATION_ID: "CallInvocationId", messages.SIGNAL: "Signal"}


class Frame(msgspec.Struct, frozen=True):
    """One frame, decoded.

    Attributes:
        entry: what it is called.
        message: a protobuf message, None for a type that this release does not know or a body that
            does not parse; `problem` says which.
    """

    message_type: int
    entry: str
    message: Any
    problem: str = ""

    @property
    def is_command(self) -> bool:
        """Whether it is a command and no notification."""
        return self.message_type < messages.NOTIFICATION_FIRST

    @property
    def name(self) -> str:
        """The name that the code gave it, mostly none."""
        if self.message is None:
            return ""
        field = "entry_name" if self.message_type == messages.SEND_SIGNAL_COMMAND else "name"
        return str(getattr(self.message, field, ""))


def entry_name(message_type: int) -> str:
    """What entries of a type are called."""
    if message_type in _COMMANDS:
        return _COMMANDS[message_type][0]
    return _NOTIFICATIONS.get(message_type, f"{message_type:#06x}")


def read_frame(message_type: int, body: bytes) -> Frame:
    """A frame of a journal."""
    name = entry_name(message_type)
    if message_type in _COMMANDS:
        read = _COMMANDS[message_type][1]
    elif message_type in _NOTIFICATIONS:
        read = wire.Notification.FromString
    else:
        return Frame(message_type, name, None, "this release does not know the type")
    try:
        return Frame(message_type, name, read(body))
    except DecodeError:
        return Frame(message_type, name, None, "the body does not parse")


def fields_of(message: Any) -> dict[str, Any]:
    """Everything that a message says, by the protocol's names."""
    return {field.name: _plain(value) for field, value in message.ListFields()}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value_view(value)
    if isinstance(value, wire.Value):
        return value_view(value.content)
    if isinstance(value, Message):
        return fields_of(value)
    if isinstance(value, str | int | float | bool):
        return value
    return [_plain(item) for item in value]


def details_of(frame: Frame, invocation_id: InvocationId) -> str:
    """A line about a frame of an invocation."""
    if frame.message is None:
        return frame.problem
    describe = _DETAILS.get(frame.message_type)
    if describe is not None:
        return describe(frame.message)
    if frame.message_type == messages.SIGNAL:
        return signal_text(invocation_id, frame.message.signal_index, frame.message.signal_name)
    return ""


def instant_text(milliseconds: int) -> str:
    """An instant of the protocol."""
    return time_text(milliseconds * NS_PER_MS)


def signal_text(invocation_id: InvocationId, index: int, name: str) -> str:
    """What a signal is for."""
    if name:
        return f'signal "{name}"'
    if index == messages.SIGNAL_CANCEL:
        return "cancellation"
    if not 0 <= index < 1 << 32:
        return f"signal {index}"
    return f"awakeable {awakeable_id_text(invocation_id, index)}"


def call_target(command: Any) -> str:
    """What a call names."""
    parts = (command.service_name, command.key, command.handler_name)
    return "/".join(part for part in parts if part)


def attached_target(command: Any) -> str:
    """What an attach names."""
    which = command.WhichOneof("target")
    if which == "workflow_target":
        workflow = command.workflow_target
        return f"{workflow.workflow_name}/{workflow.workflow_key}"
    if which == "idempotent_request_target":
        request = command.idempotent_request_target
        parts = (request.service_name, request.service_key, request.handler_name)
        path = "/".join(part for part in parts if part)
        return f'{path} with the idempotency key "{request.idempotency_key}"'
    return str(command.invocation_id)


def _input(command: Any) -> str:
    return short_text(command.value.content)


def _output(command: Any) -> str:
    if command.HasField("failure"):
        return f"[{command.failure.code}] {command.failure.message}"
    return short_text(command.value.content)


def _state(command: Any) -> str:
    return key_text(command.key)


def _set_state(command: Any) -> str:
    return f"{key_text(command.key)} = {short_text(command.value.content)}"


def _promise(command: Any) -> str:
    return f'promise "{command.key}"'


def _sleep(command: Any) -> str:
    return f"until {instant_text(command.wake_up_time)}"


def _one_way_call(command: Any) -> str:
    at = f" at {instant_text(command.invoke_time)}" if command.invoke_time else ""
    return f"{call_target(command)}{at}"


def _send_signal(command: Any) -> str:
    if command.HasField("name"):
        what = f'signal "{command.name}"'
    elif command.idx == messages.SIGNAL_CANCEL:
        what = "cancellation"
    else:
        what = f"signal {command.idx}"
    return f"{what} for {command.target_invocation_id}"


def _complete_awakeable(command: Any) -> str:
    return str(command.awakeable_id)


_DETAILS: Final[dict[int, Callable[[Any], str]]] = {
    messages.INPUT_COMMAND: _input,
    messages.OUTPUT_COMMAND: _output,
    messages.GET_LAZY_STATE_COMMAND: _state,
    messages.GET_EAGER_STATE_COMMAND: _state,
    messages.SET_STATE_COMMAND: _set_state,
    messages.CLEAR_STATE_COMMAND: _state,
    messages.GET_PROMISE_COMMAND: _promise,
    messages.PEEK_PROMISE_COMMAND: _promise,
    messages.COMPLETE_PROMISE_COMMAND: _promise,
    messages.SLEEP_COMMAND: _sleep,
    messages.CALL_COMMAND: call_target,
    messages.ONE_WAY_CALL_COMMAND: _one_way_call,
    messages.SEND_SIGNAL_COMMAND: _send_signal,
    messages.ATTACH_INVOCATION_COMMAND: attached_target,
    messages.GET_INVOCATION_OUTPUT_COMMAND: attached_target,
    messages.COMPLETE_AWAKEABLE_COMMAND: _complete_awakeable,
}
