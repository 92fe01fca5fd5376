"""An attempt ended without an answer: wait for the next one, give up, or wait for somebody."""

import msgspec

from ...core.ids import InvocationId
from ..context import ApplyContext
from ..effects import ArmRetry, EndAttempt
from ..records import DELAY_NS_MAX
from ..tables import keys
from ..tables.events import EVENTS_KEPT, FAILED, PAUSED, Event, encode_event
from ..tables.invocations import (
    STATUS_BACKING_OFF,
    STATUS_PAUSED,
    Failure,
    Invocation,
)
from .complete import complete


class AttemptFailure(msgspec.Struct, frozen=True, gc=False):
    """What went wrong and what is to follow; fields as in `records.AttemptFailed`."""

    code: int
    message: str
    delay_ns: int | None
    counts: bool = True
    pause: bool = False
    related_index: int = -1
    related_name: str = ""
    related_type: int = 0
    stacktrace: str = ""


def fail_attempt(
    context: ApplyContext,
    invocation_id: InvocationId,
    invocation: Invocation,
    failure: AttemptFailure,
) -> None:
    """Take the running attempt away and do what follows."""
    due_ns = 0
    if failure.delay_ns is not None and not failure.pause:
        due_ns = context.record_time_ns + max(0, min(failure.delay_ns, DELAY_NS_MAX))
    failed = msgspec.structs.replace(
        invocation,
        last_failure=f"[{failure.code}] {failure.message}",
        failed_attempts=invocation.failed_attempts + (1 if failure.counts else 0),
        failures_since_entry=invocation.failures_since_entry + 1,
    )
    failed = add_event(
        context,
        invocation_id,
        failed,
        PAUSED if failure.pause else FAILED,
        failure,
        retry_at_ns=due_ns,
    )
    if failure.pause:
        pause(context, invocation_id, failed)
    elif failure.delay_ns is None:
        result = Failure(failure.code, failure.message)
        complete(context, invocation_id, failed, None, result, abort=True)
    else:
        # The worker may be at it still, where it was given up for its silence.
        context.effects.append(EndAttempt(invocation_id, invocation.attempt, True, context.lsn))
        waiting = msgspec.structs.replace(
            failed,
            status=STATUS_BACKING_OFF,
            retry_at_ns=due_ns,
            modified_ns=context.record_time_ns,
        )
        context.move(invocation.status, STATUS_BACKING_OFF)
        context.transaction.put_invocation(invocation_id, waiting)
        context.effects.append(ArmRetry(invocation_id, invocation.attempt, due_ns))


def pause(context: ApplyContext, invocation_id: InvocationId, invocation: Invocation) -> None:
    """Leave a running or backing-off invocation without an attempt until it is resumed."""
    context.effects.append(EndAttempt(invocation_id, invocation.attempt, True, context.lsn))
    paused = msgspec.structs.replace(
        invocation,
        status=STATUS_PAUSED,
        failed_attempts=0,
        retry_at_ns=0,
        modified_ns=context.record_time_ns,
    )
    context.move(invocation.status, STATUS_PAUSED)
    context.transaction.put_invocation(invocation_id, paused)
    context.transaction.delete(keys.ACTIVE + invocation_id)


def add_event(
    context: ApplyContext,
    invocation_id: InvocationId,
    invocation: Invocation,
    kind: str,
    failure: AttemptFailure,
    *,
    retry_at_ns: int,
) -> Invocation:
    """Keep an event, and let the oldest go; the invocation, whose row the caller writes."""
    number = invocation.events
    transaction = context.transaction
    event = Event(
        kind,
        context.record_time_ns,
        invocation.attempt,
        invocation.entries,
        failure.code,
        failure.message,
        failure.related_index,
        failure.related_name,
        failure.related_type,
        failure.stacktrace,
        retry_at_ns,
        invocation.deployment,
    )
    transaction.put(keys.event_row(invocation_id, number), encode_event(event))
    if number >= EVENTS_KEPT:
        transaction.delete(keys.event_row(invocation_id, number - EVENTS_KEPT))
    return msgspec.structs.replace(invocation, events=number + 1)
