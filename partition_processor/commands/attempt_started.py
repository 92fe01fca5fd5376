"""AttemptStarted: an invocation that backed off gets its next attempt."""

import msgspec

from ...log.types import Record
from ..context import ApplyContext
from ..effects import StartAttempt
from ..records import AttemptStarted
from ..tables.invocations import STATUS_BACKING_OFF, STATUS_RUNNING


def apply_attempt_started(context: ApplyContext, command: AttemptStarted, _record: Record) -> None:
    """Start the attempt if the invocation still waits for exactly this one."""
    invocation = context.transaction.invocation(command.invocation_id)
    if (
        invocation is None
        or invocation.status != STATUS_BACKING_OFF
        or command.attempt != invocation.attempt + 1
    ):
        return
    started = msgspec.structs.replace(
        invocation, status=STATUS_RUNNING, attempt=command.attempt, retry_at_ns=0
    )
    context.move(STATUS_BACKING_OFF, STATUS_RUNNING)
    context.transaction.put_invocation(command.invocation_id, started)
    context.effects.append(StartAttempt(command.invocation_id, started))
