"""ATTACH_INVOCATION: wait for the result of an invocation that somebody else started."""

from typing import Any

import msgspec

from ...core.hashing import idempotent_invocation_id, workflow_invocation_id
from ...core.ids import InvocationId
from ...core.protocol import messages
from ...proto.generated import service_protocol_pb2 as wire
from ..records import Attach
from .appending import Appending, ProtocolViolationError
from .entry import Entry, result_completion_id
from .send_signal import parse_target


class TargetedCommand(msgspec.Struct, frozen=True, gc=False):
    """A command about another invocation."""

    target: InvocationId
    result_completion_id: int


def read_targeted(command: Any) -> TargetedCommand:
    """The command with its target's id. Raises ProtocolViolationError."""
    which = command.WhichOneof("target")
    if which == "invocation_id":
        target = parse_target(command.invocation_id)
    elif which == "workflow_target":
        workflow = command.workflow_target
        target = workflow_invocation_id(workflow.workflow_name, workflow.workflow_key)
    elif which == "idempotent_request_target":
        request = command.idempotent_request_target
        key = request.service_key if request.HasField("service_key") else None
        target = idempotent_invocation_id(
            request.service_name, key, request.handler_name, request.idempotency_key
        )
    else:
        raise ProtocolViolationError("the command names no invocation")
    return TargetedCommand(target, command.result_completion_id)


def ask(chunk: Appending, command: TargetedCommand, frame_type: int, *, wait: bool) -> None:
    """Have the target answer."""
    number = command.result_completion_id
    chunk.issue(number)
    chunk.context.deliver(Attach(command.target, chunk.sink(number, frame_type), wait))


def _read(body: bytes) -> TargetedCommand:
    return read_targeted(wire.AttachInvocationCommand.FromString(body))


def _apply(chunk: Appending, command: TargetedCommand, _end: int) -> None:
    ask(chunk, command, messages.ATTACH_INVOCATION_COMPLETION, wait=True)


ATTACH_INVOCATION = Entry(_read, _apply, result_completion_id)
