"""AttemptStarted: an invocation that backed off gets its next attempt."""

from ...log.types import Record
from ..context import ApplyContext
from ..lifecycle.start import start_attempt
from ..records import AttemptStarted
from ..tables.invocations import STATUS_BACKING_OFF


def apply_attempt_started(context: ApplyContext, command: AttemptStarted, _record: Record) -> None:
    """Start the attempt if the invocation still waits for exactly this one."""
    invocation = context.transaction.invocation(command.invocation_id)
    if (
        invocation is not None
        and invocation.status == STATUS_BACKING_OFF
        and command.attempt == invocation.attempt + 1
    ):
        start_attempt(context, command.invocation_id, invocation)
