"""An invocation ends: its result goes to whoever waits, its lock on, its rows get a time to go."""

from typing import Final

import msgspec

from ...core.ids import InvocationId
from ...core.protocol import messages
from ..context import ApplyContext
from ..effects import Answer, EndAttempt
from ..records import KIND_OBJECT_EXCLUSIVE, KIND_WORKFLOW_RUN, respond_to
from ..tables import keys
from ..tables.invocations import (
    STATUS_BACKING_OFF,
    STATUS_COMPLETED,
    STATUS_PENDING,
    STATUS_RUNNING,
    STATUS_SCHEDULED,
    Failure,
    Invocation,
    Sink,
)
from ..tables.promises import decode_promise
from .lock import leave_inbox, pass_lock_on

CODE_CANCELLED: Final = 409
CODE_PURGED: Final = 410
EXPIRES_NS_MAX: Final = (1 << 63) - 1
"""What would be kept for longer is kept until then, some 260 years after 1970."""

_WITHOUT_LOCK: Final = (STATUS_PENDING, STATUS_SCHEDULED)


def complete(
    context: ApplyContext,
    invocation_id: InvocationId,
    invocation: Invocation,
    output: bytes | None,
    failure: Failure | None,
    *,
    abort: bool = False,
) -> None:
    """End an invocation with its result; `abort` when a worker may be at it still."""
    transaction = context.transaction
    status = invocation.status
    assert status != STATUS_COMPLETED, "an invocation completes twice"
    now_ns = context.record_time_ns
    retention_ns = invocation.completion_retention_ns
    completed = msgspec.structs.replace(
        invocation,
        status=STATUS_COMPLETED,
        output=output,
        failure=failure,
        completed_ns=now_ns,
        modified_ns=now_ns,
        expires_ns=min(now_ns + retention_ns, EXPIRES_NS_MAX),
        retry_at_ns=0,
        inbox_number=-1,
        waiting=None,
        timers=0,
        sinks=(),
    )
    context.move(status, STATUS_COMPLETED)
    if invocation.timers:
        drop_timers(context, invocation_id)
    if status in (STATUS_RUNNING, STATUS_BACKING_OFF):
        transaction.delete(keys.ACTIVE + invocation_id)
        end = EndAttempt(invocation_id, invocation.attempt, abort, context.lsn)
        context.effects.append(end)
    elif status == STATUS_PENDING:
        # An earlier release marked those that wait as well.
        transaction.delete(keys.ACTIVE + invocation_id)
        leave_inbox(context, invocation_id, invocation)
    context.effects.append(Answer(invocation_id, completed))
    for sink in invocation.sinks:
        respond(context, sink, completed)
    _keep_for(context, invocation_id, completed)
    if invocation.target_kind == KIND_OBJECT_EXCLUSIVE and status not in _WITHOUT_LOCK:
        pass_lock_on(context, invocation_id, invocation)


def respond(context: ApplyContext, sink: Sink, completed: Invocation) -> None:
    """Tell a waiting invocation the result of a completed one."""
    output, failure = completed.output, completed.failure
    value = None if failure is not None else output or b""
    context.deliver(respond_to(sink, value, failure))


def respond_not_completed(context: ApplyContext, sink: Sink) -> None:
    """Tell an invocation that asked for a result that there is none yet."""
    assert sink.frame_type == messages.GET_INVOCATION_OUTPUT_COMPLETION, sink
    context.deliver(respond_to(sink, None, None))


def drop_timers(context: ApplyContext, invocation_id: InvocationId) -> None:
    """Delete all timers that an invocation still has."""
    start = keys.OWN_TIMERS + invocation_id
    for row, value in context.transaction.scan(start, keys.prefix_end(start)):
        number = int.from_bytes(row[-4:], "big")
        context.drop_timer(keys.read_number(value), invocation_id, number)


def _keep_for(context: ApplyContext, invocation_id: InvocationId, completed: Invocation) -> None:
    """Write the completed row and when it and its journal are to go."""
    transaction = context.transaction
    first = context.range.first
    if completed.completion_retention_ns <= 0:
        forget(context, invocation_id, completed)
        return
    journal_until_ns = completed.completed_ns + completed.journal_retention_ns
    if completed.journal_retention_ns <= 0:
        completed = forget_journal(context, invocation_id, completed)
    elif journal_until_ns < completed.expires_ns:
        transaction.put(keys.expiry_row(first, journal_until_ns, invocation_id), b"")
    transaction.put(keys.expiry_row(first, completed.expires_ns, invocation_id), b"")
    transaction.put_invocation(invocation_id, completed)


def forget_journal(
    context: ApplyContext, invocation_id: InvocationId, completed: Invocation
) -> Invocation:
    """Delete a completed invocation's journal and events; its row, which the caller writes."""
    transaction = context.transaction
    if completed.rows:
        transaction.delete_all(keys.JOURNAL + invocation_id)
    if completed.events:
        transaction.delete_all(keys.EVENTS + invocation_id)
    return msgspec.structs.replace(completed, head=(), rows=0, entries=0, events=0)


def forget(context: ApplyContext, invocation_id: InvocationId, completed: Invocation) -> None:
    """Delete everything about a completed invocation."""
    transaction = context.transaction
    forget_journal(context, invocation_id, completed)
    transaction.delete_invocation(invocation_id)
    if completed.target_kind == KIND_WORKFLOW_RUN:
        _free_workflow_key(context, invocation_id, completed)
    context.counts[STATUS_COMPLETED] -= 1


def _free_workflow_key(
    context: ApplyContext, invocation_id: InvocationId, completed: Invocation
) -> None:
    """Another run of the key must find nothing of this one: neither state nor promises.

    A handler that still waits for a promise would wait for ever; it is told.
    """
    assert completed.key is not None
    transaction = context.transaction
    object_name = keys.object_suffix(completed.service, completed.key)
    transaction.clear_state(invocation_id[:8], object_name)
    prefix = keys.PROMISES + invocation_id[:8] + object_name
    failure = Failure(CODE_PURGED, f"workflow {completed.service}/{completed.key} was purged")
    for row, value in transaction.scan(prefix, keys.prefix_end(prefix)):
        transaction.delete(row)
        for sink in decode_promise(value).waiters:
            context.deliver(respond_to(sink, None, failure))
