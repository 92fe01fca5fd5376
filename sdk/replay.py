"""Commands compared with the stored ones of an earlier attempt, and put into words."""

from typing import Any, Final

from ..core.protocol import messages
from ..proto.generated import service_protocol_pb2 as pb

_MESSAGES: Final[dict[int, tuple[str, Any]]] = {
    messages.INPUT_COMMAND: ("Input", pb.InputCommand),
    messages.OUTPUT_COMMAND: ("Output", pb.OutputCommand),
    messages.GET_LAZY_STATE_COMMAND: ("GetLazyState", pb.GetLazyStateCommand),
    messages.SET_STATE_COMMAND: ("SetState", pb.SetStateCommand),
    messages.CLEAR_STATE_COMMAND: ("ClearState", pb.ClearStateCommand),
    messages.CLEAR_ALL_STATE_COMMAND: ("ClearAllState", pb.ClearAllStateCommand),
    messages.GET_LAZY_STATE_KEYS_COMMAND: ("GetLazyStateKeys", pb.GetLazyStateKeysCommand),
    messages.GET_EAGER_STATE_COMMAND: ("GetEagerState", pb.GetEagerStateCommand),
    messages.GET_EAGER_STATE_KEYS_COMMAND: ("GetEagerStateKeys", pb.GetEagerStateKeysCommand),
    messages.GET_PROMISE_COMMAND: ("GetPromise", pb.GetPromiseCommand),
    messages.PEEK_PROMISE_COMMAND: ("PeekPromise", pb.PeekPromiseCommand),
    messages.COMPLETE_PROMISE_COMMAND: ("CompletePromise", pb.CompletePromiseCommand),
    messages.SLEEP_COMMAND: ("Sleep", pb.SleepCommand),
    messages.CALL_COMMAND: ("Call", pb.CallCommand),
    messages.ONE_WAY_CALL_COMMAND: ("OneWayCall", pb.OneWayCallCommand),
    messages.SEND_SIGNAL_COMMAND: ("SendSignal", pb.SendSignalCommand),
    messages.RUN_COMMAND: ("Run", pb.RunCommand),
    messages.ATTACH_INVOCATION_COMMAND: ("AttachInvocation", pb.AttachInvocationCommand),
    messages.GET_INVOCATION_OUTPUT_COMMAND: (
        "GetInvocationOutput",
        pb.GetInvocationOutputCommand,
    ),
    messages.COMPLETE_AWAKEABLE_COMMAND: ("CompleteAwakeable", pb.CompleteAwakeableCommand),
}

COMMAND_NAMES: Final[dict[int, str]] = {kind: name for kind, (name, _) in _MESSAGES.items()}

_SHOWN_MAX: Final = 64


def same_command(message_type: int, body: bytes, stored: bytes) -> bool:
    """Whether two bodies of one type mean the same; another encoder may write other bytes.

    When something is to happen depends on when an attempt asks for it, and names of entries are
    for people; neither counts, but for the names of steps and sleeps, which are what they are.
    """
    kind = _MESSAGES[message_type][1]
    return bool(_normal(message_type, kind, body) == _normal(message_type, kind, stored))


def _normal(message_type: int, kind: Any, body: bytes) -> Any:
    command = kind.FromString(body)
    if message_type == messages.SLEEP_COMMAND:
        command.wake_up_time = 0
    elif message_type == messages.ONE_WAY_CALL_COMMAND:
        command.invoke_time = 1 if command.invoke_time else 0
        command.name = ""
    elif message_type == messages.SEND_SIGNAL_COMMAND:
        command.entry_name = ""
    elif message_type != messages.RUN_COMMAND:
        command.name = ""
    return command


def describe_command(message_type: int, body: bytes) -> str:
    """A command in words, for messages about journals that do not match."""
    known = _MESSAGES.get(message_type)
    if known is None:
        return f"a command of type {message_type:#06x}"
    name, kind = known
    fields = sorted(kind.FromString(body).ListFields(), key=lambda each: each[0].name != "name")
    details = [
        f"{_WORDS.get(field.name, field.name)} {_shown(value)}"
        for field, value in fields
        if field.name not in _LEFT_OUT
    ]
    return f"{name} ({', '.join(details)})" if details else name


_LEFT_OUT: Final = frozenset(("headers", "wake_up_time", "invoke_time", "void"))
_WORDS: Final = {
    "result_completion_id": "completion",
    "invocation_id_notification_idx": "invocation id completion",
    "service_name": "service",
    "handler_name": "handler",
    "completion_value": "value",
    "completion_failure": "failure",
    "target_invocation_id": "invocation",
    "idx": "signal",
}


def _shown(value: Any) -> str:
    if isinstance(value, pb.Value):
        return _short(value.content)
    if isinstance(value, pb.Failure):
        return f"{value.code} {_short(value.message.encode())}"
    if isinstance(value, pb.StateKeys):
        return _short(b", ".join(value.keys))
    if isinstance(value, bytes):
        return _short(value)
    if isinstance(value, str):
        return repr(value[:_SHOWN_MAX])
    return str(value).strip()[:_SHOWN_MAX]


def _short(content: bytes) -> str:
    text = content[:_SHOWN_MAX].decode(errors="replace")
    return repr(text + "…" if len(content) > _SHOWN_MAX else text)
