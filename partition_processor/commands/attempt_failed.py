"""AttemptFailed: the attempt ended without an answer; wait for the next one, or give up."""

import msgspec

from ...core.ids import InvocationId
from ...log.types import Record
from ..context import ApplyContext, complete
from ..effects import ArmRetry, EndAttempt
from ..records import DELAY_NS_MAX, AttemptFailed
from ..tables.invocations import STATUS_BACKING_OFF, Failure, Invocation


def apply_attempt_failed(context: ApplyContext, command: AttemptFailed, record: Record) -> None:
    """Back off or fail, unless the attempt was over already."""
    invocation = context.transaction.invocation(command.invocation_id)
    if invocation is None or not context.is_current(invocation, command.attempt):
        context.assert_superseded_elsewhere(invocation, command.attempt, record)
        return
    # The worker may be at it still, where it was given up for its silence.
    context.effects.append(EndAttempt(command.invocation_id, command.attempt, True, context.lsn))
    fail_attempt(
        context,
        command.invocation_id,
        invocation,
        command.code,
        command.message,
        command.delay_ns,
        command.counts,
    )


def fail_attempt(
    context: ApplyContext,
    invocation_id: InvocationId,
    invocation: Invocation,
    code: int,
    message: str,
    delay_ns: int | None,
    counts: bool,
) -> None:
    """Take the attempt away; None as `delay_ns` ends the invocation with the error."""
    text = f"[{code}] {message}"
    failed = msgspec.structs.replace(
        invocation,
        last_failure=text,
        failed_attempts=invocation.failed_attempts + (1 if counts else 0),
        failures_since_entry=invocation.failures_since_entry + 1,
    )
    if delay_ns is None:
        complete(context, invocation_id, failed, None, Failure(code, message))
        return
    due_ns = context.record_time_ns + max(0, min(delay_ns, DELAY_NS_MAX))
    waiting = msgspec.structs.replace(failed, status=STATUS_BACKING_OFF, retry_at_ns=due_ns)
    context.move(invocation.status, STATUS_BACKING_OFF)
    context.transaction.put_invocation(invocation_id, waiting)
    context.effects.append(ArmRetry(invocation_id, invocation.attempt, due_ns))
