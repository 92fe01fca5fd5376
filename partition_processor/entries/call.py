"""CALL: another handler is called, and its result waited for."""

from typing import Any

from ...core.ids import invocation_id_text
from ...core.protocol import messages
from ...proto.generated import service_protocol_pb2 as wire
from ..notification_frames import input_command, invocation_id_result
from ..records import KIND_OBJECT_EXCLUSIVE, Invoke, object_key
from ..tables.invocations import Sink
from .appending import Appending
from .entry import Entry

HELD_MAX = 64
"""So many locks of waiting callers are known further down; a longer chain is not looked through."""


def _apply(chunk: Appending, command: wire.CallCommand, end: int) -> None:
    number = command.result_completion_id
    chunk.issue(number)
    sink = chunk.sink(number, messages.CALL_COMPLETION)
    invoke_called(chunk, command, end, sink=sink, held=_held(chunk), start_ns=0)


def invoke_called(
    chunk: Appending,
    command: Any,
    end: int,
    *,
    sink: Sink | None,
    held: tuple[bytes, ...],
    start_ns: int,
) -> None:
    """Tell the caller the id of the called invocation, and have it begin."""
    target = chunk.calls.pop()
    text = invocation_id_text(target.invocation_id)
    chunk.complete_with(
        end,
        messages.CALL_INVOCATION_ID,
        command.invocation_id_notification_idx,
        invocation_id_result(text),
    )
    headers = [(header.key, header.value) for header in command.headers]
    idempotency_key = command.idempotency_key if command.HasField("idempotency_key") else None
    chunk.context.deliver(
        Invoke(
            target.invocation_id,
            command.service_name,
            command.handler_name,
            command.key or None,
            target.target_kind,
            input_command(headers, command.parameter),
            idempotency_key,
            start_ns,
            target.completion_retention_ns,
            target.journal_retention_ns,
            sink,
            chunk.invocation_id,
            held,
            0,
            chunk.invocation.traceparent,
        )
    )


def _held(chunk: Appending) -> tuple[bytes, ...]:
    """The objects whose locks are held until the called one has answered."""
    invocation = chunk.invocation
    if invocation.target_kind != KIND_OBJECT_EXCLUSIVE:
        return invocation.held
    assert invocation.key is not None
    own = object_key(invocation.service, invocation.key)
    return (*invocation.held, own)[-HELD_MAX:]


def _completion_ids(command: wire.CallCommand) -> tuple[int, ...]:
    return (command.invocation_id_notification_idx, command.result_completion_id)


CALL = Entry(wire.CallCommand.FromString, _apply, _completion_ids)
