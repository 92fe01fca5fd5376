"""Attach: another invocation wants this one's result."""

import msgspec

from ..context import ApplyContext
from ..lifecycle.complete import respond, respond_not_completed
from ..records import Attach, respond_to
from ..tables.invocations import STATUS_COMPLETED, Failure
from .invoke import CODE_DEADLOCK, WAITS_FOR_ITSELF

CODE_NOT_FOUND = 404


def apply_attach(context: ApplyContext, command: Attach) -> None:
    """Answer now, or when there is a result."""
    sink = command.sink
    invocation = context.transaction.invocation(command.invocation_id)
    if invocation is None:
        failure = Failure(CODE_NOT_FOUND, "not found")
        context.deliver(respond_to(sink, None, failure))
    elif invocation.status == STATUS_COMPLETED:
        respond(context, sink, invocation)
    elif command.wait and sink.invocation_id == command.invocation_id:
        context.deliver(respond_to(sink, None, Failure(CODE_DEADLOCK, WAITS_FOR_ITSELF)))
    elif command.wait:
        joined = msgspec.structs.replace(invocation, sinks=(*invocation.sinks, sink))
        context.transaction.put_invocation(command.invocation_id, joined)
    else:
        respond_not_completed(context, sink)
