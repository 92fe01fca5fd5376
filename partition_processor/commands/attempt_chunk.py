"""AttemptChunk: entries of a running attempt join the journal, which may end or suspend it."""

from ...core.ids import InvocationId
from ...core.protocol import messages
from ...log.types import Record
from ..chunk import ReadChunk, read_chunk
from ..context import ApplyContext
from ..effects import EndAttempt, Notify
from ..entries.appending import Appending, ProtocolViolationError
from ..journal_append import append_frames
from ..lifecycle.complete import complete
from ..lifecycle.fail import AttemptFailure, fail_attempt
from ..lifecycle.suspend import check_can_wake, suspend
from ..records import AttemptChunk
from ..tables.invocations import Invocation

VIOLATION_DELAY_NS = 1_000_000_000
"""Wait before the next attempt after frames that cannot be applied; fixed, as apply asks nobody."""


def apply_attempt_chunk(context: ApplyContext, command: AttemptChunk, record: Record) -> None:
    """Store the entries, change what they change; ignore attempts that are over."""
    invocation_id = command.invocation_id
    invocation = context.transaction.invocation(invocation_id)
    if context.is_of_another(invocation, command.born_lsn):
        return
    if invocation is None or not context.is_current(invocation, command.attempt):
        context.assert_superseded_elsewhere(invocation, command.attempt, record)
        context.effects.append(EndAttempt(invocation_id, command.attempt, True, context.lsn))
        return
    try:
        chunk = read_chunk(command.frames, invocation, len(command.calls))
        _check_end(chunk, invocation)
    except ProtocolViolationError as error:
        failure = AttemptFailure(error.failure_code, error.message, VIOLATION_DELAY_NS)
        fail_attempt(context, invocation_id, invocation, failure)
        return
    invocation, notifications = _append(context, command, invocation, chunk)
    if chunk.ended:
        complete(context, invocation_id, invocation, invocation.output, invocation.failure)
    elif chunk.waiting is not None:
        suspend(context, invocation_id, invocation, chunk.waiting)
    else:
        context.transaction.put_invocation(invocation_id, invocation)
        if notifications:
            context.effects.append(
                Notify(
                    invocation_id,
                    command.attempt,
                    context.record_time_ns,
                    notifications,
                    invocation.entries,
                )
            )


def _check_end(chunk: ReadChunk, invocation: Invocation) -> None:
    """Raise ProtocolViolationError for an end without a result or a wait without an end."""
    if chunk.ended:
        if invocation.output is None and invocation.failure is None:
            for frame in reversed(chunk.frames):
                if frame.message_type == messages.OUTPUT_COMMAND:
                    return
            raise ProtocolViolationError("the attempt ended without an output")
    elif chunk.waiting is not None:
        check_can_wake(chunk, invocation)


def _append(
    context: ApplyContext, command: AttemptChunk, invocation: Invocation, chunk: ReadChunk
) -> tuple[Invocation, bytes]:
    """Store and apply the entries: the invocation, whose row the caller writes, and what its
    attempt is to be told.
    """
    if not chunk.frames:
        return invocation, b""
    invocation_id = InvocationId(command.invocation_id)
    appending = Appending(context, invocation_id, invocation, command.frames, command.calls)
    for frame in chunk.frames:
        appending.entries += 1
        apply = frame.entry.apply
        if apply is not None:
            apply(appending, frame.message, frame.end)
        if frame.message_type >= messages.NOTIFICATION_FIRST:
            appending.notify(frame.start, frame.end)
    invocation = append_frames(
        context,
        invocation_id,
        appending.invocation,
        appending.stored(chunk.end),
        appending.entries,
        deployment=command.deployment,
        failures_since_entry=0,
        last_entry_ns=context.record_time_ns,
        output=appending.output,
        failure=appending.failure,
    )
    return invocation, appending.notifications
