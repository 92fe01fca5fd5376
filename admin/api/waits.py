"""What an invocation waits for, in words."""

from typing import Final

from ...core.ids import InvocationId, awakeable_id_text
from ...core.protocol import messages
from ...partition_processor.tables.invocations import Invocation
from .entry_view import attached_target, call_target, instant_text, signal_text
from .invocation_answers import WaitView
from .journal_pass import OpenCommand

WAITS_MAX: Final = 1000
"""So many are shown."""


def waits_of(
    invocation_id: InvocationId, invocation: Invocation, open_commands: dict[int, OpenCommand]
) -> list[WaitView]:
    """What would wake a suspended invocation; of any other, its commands that are open."""
    waiting = invocation.waiting
    if waiting is None:
        commands = {command.index: command for command in open_commands.values()}
        return [_open(commands[index]) for index in sorted(commands)][:WAITS_MAX]
    waits: list[WaitView] = []
    for number in waiting.completions:
        command = open_commands.get(number)
        if command is None:
            waits.append(WaitView("completion", f"completion {number}"))
        else:
            waits.append(_open(command))
    for index in waiting.signals:
        # Every wait ends with a cancellation; to say so each time would hide the rest.
        if index != messages.SIGNAL_CANCEL:
            awakeable = awakeable_id_text(invocation_id, index)
            text = signal_text(invocation_id, index, "")
            waits.append(WaitView("awakeable", text, awakeable=awakeable))
    waits.extend(
        WaitView("signal", signal_text(invocation_id, 0, name), name=name) for name in waiting.names
    )
    return waits[:WAITS_MAX]


def _open(command: OpenCommand) -> WaitView:
    """An open command, by what would complete it."""
    message_type, message, entry = command.frame.message_type, command.frame.message, command.index
    if message_type == messages.SLEEP_COMMAND:
        until = instant_text(message.wake_up_time)
        return WaitView("sleep", f"sleep until {until}", entry, until=until)
    if message_type in (messages.CALL_COMMAND, messages.ONE_WAY_CALL_COMMAND):
        invocation = command.called
        text = f"call to {call_target(message)}"
        if invocation is not None:
            text = f"{text} ({invocation})"
        return WaitView("call", text, entry, invocation=invocation)
    if message_type == messages.RUN_COMMAND:
        name = message.name
        return WaitView("step", f'step "{name}"' if name else "a step", entry, name=name)
    if message_type == messages.GET_PROMISE_COMMAND:
        return WaitView("promise", f'promise "{message.key}"', entry, name=message.key)
    if message_type == messages.ATTACH_INVOCATION_COMMAND:
        target = attached_target(message)
        invocation = target if message.WhichOneof("target") == "invocation_id" else None
        return WaitView("attach", f"result of {target}", entry, invocation=invocation)
    return WaitView("completion", f"completion of {command.frame.entry}", entry)
