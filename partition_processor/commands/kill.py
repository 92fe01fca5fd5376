"""Kill: an invocation ends at once, without a word of its handler, and those that it called too."""

from typing import Final

from ...core.ids import InvocationId, parse_invocation_id
from ...core.protocol import messages
from ...log.types import Record
from ...proto.generated import service_protocol_pb2 as wire
from .. import outcomes
from ..context import ApplyContext
from ..lifecycle.complete import complete
from ..records import Kill
from ..tables.invocations import STATUS_COMPLETED, Failure, Invocation

CODE_KILLED: Final = 409


def apply_kill(context: ApplyContext, command: Kill, record: Record) -> None:
    """Kill for somebody outside, and tell them."""
    invocation = context.transaction.invocation(command.invocation_id)
    if invocation is None:
        outcome = outcomes.NOT_FOUND
    elif invocation.status == STATUS_COMPLETED:
        outcome = outcomes.COMPLETED
    else:
        _kill(context, command.invocation_id, invocation)
        outcome = outcomes.DONE
    context.done(record, outcome)


def apply_kill_called(context: ApplyContext, command: Kill) -> None:
    """Kill what a killed invocation had called."""
    invocation = context.transaction.invocation(command.invocation_id)
    if invocation is not None and invocation.status != STATUS_COMPLETED:
        _kill(context, command.invocation_id, invocation)


def _kill(context: ApplyContext, invocation_id: InvocationId, invocation: Invocation) -> None:
    called = _called(context, invocation_id, invocation)
    complete(context, invocation_id, invocation, None, Failure(CODE_KILLED, "killed"), abort=True)
    for child in called:
        context.deliver(Kill(child))


def _called(
    context: ApplyContext, invocation_id: InvocationId, invocation: Invocation
) -> list[InvocationId]:
    """Everything that an invocation has called, as its journal tells."""
    called: list[InvocationId] = []
    for chunk in context.transaction.journal(invocation_id, invocation):
        for message_type, start, end in messages.split_frames(chunk.frames):
            if message_type == messages.CALL_INVOCATION_ID:
                notification = wire.Notification.FromString(chunk.frames[start:end])
                called.append(parse_invocation_id(notification.invocation_id))
    return called
