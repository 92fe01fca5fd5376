"""AttemptChunk: entries of a running attempt join the journal; END completes the invocation."""

import msgspec

from ...log.types import Record
from ..chunk import ParsedChunk, ProtocolViolationError, parse_chunk
from ..context import ApplyContext, complete
from ..effects import EndAttempt, Notify
from ..records import AttemptChunk
from ..tables import keys
from ..tables.invocations import HEAD_BYTES_MAX, Invocation
from ..tables.journal import Chunk, encode_chunk
from .attempt_failed import fail_attempt

VIOLATION_DELAY_NS = 1_000_000_000
"""Wait before the next attempt after frames that cannot be applied; fixed, as apply asks nobody."""


def apply_attempt_chunk(context: ApplyContext, command: AttemptChunk, record: Record) -> None:
    """Store the entries, change the state, complete on END; ignore attempts that are over."""
    invocation_id = command.invocation_id
    invocation = context.transaction.invocation(invocation_id)
    if invocation is None or not context.is_current(invocation, command.attempt):
        context.assert_superseded_elsewhere(invocation, command.attempt, record)
        context.effects.append(EndAttempt(invocation_id, command.attempt, True, context.lsn))
        return
    try:
        chunk = parse_chunk(command.frames, invocation.target_kind)
        if chunk.ended and not (
            chunk.output is not None
            or chunk.failure is not None
            or invocation.output is not None
            or invocation.failure is not None
        ):
            raise ProtocolViolationError("the attempt ended without an output")
    except ProtocolViolationError as error:
        context.effects.append(EndAttempt(invocation_id, command.attempt, True, context.lsn))
        fail_attempt(
            context,
            invocation_id,
            invocation,
            error.failure_code,
            error.message,
            VIOLATION_DELAY_NS,
            True,
        )
        return
    if chunk.state:
        _apply_state(context, command, invocation, chunk)
    if chunk.entries:
        invocation = _append(context, command, invocation, chunk, record.epoch)
    if chunk.ended:
        complete(context, invocation_id, invocation, invocation.output, invocation.failure)
        return
    context.transaction.put_invocation(invocation_id, invocation)
    if chunk.notifications:
        context.effects.append(
            Notify(invocation_id, command.attempt, context.record_time_ns, chunk.notifications)
        )


def _apply_state(
    context: ApplyContext, command: AttemptChunk, invocation: Invocation, chunk: ParsedChunk
) -> None:
    assert invocation.key is not None
    object_name = keys.object_suffix(invocation.service, invocation.key)
    partition_key = command.invocation_id[:8]
    for key, value in chunk.state:
        context.transaction.put_state(partition_key, object_name, key, value)


def _append(
    context: ApplyContext,
    command: AttemptChunk,
    invocation: Invocation,
    chunk: ParsedChunk,
    epoch: int,
) -> Invocation:
    """Store the entries; the invocation with them, whose row the caller writes."""
    time_ns = context.record_time_ns
    value = encode_chunk(Chunk(time_ns, command.attempt, epoch, chunk.entries, chunk.stored))
    head = invocation.head
    rows = invocation.rows
    if rows == 0 and sum(map(len, head)) + len(value) <= HEAD_BYTES_MAX:
        head = (*head, value)
    else:
        rows += 1
        context.transaction.put(keys.journal_row(command.invocation_id, invocation.entries), value)
    replaced = chunk.output is not None or chunk.failure is not None
    return msgspec.structs.replace(
        invocation,
        entries=invocation.entries + chunk.entries,
        head=head,
        rows=rows,
        deployment=command.deployment,
        failures_since_entry=0,
        last_entry_ns=time_ns,
        output=chunk.output if replaced else invocation.output,
        failure=chunk.failure if replaced else invocation.failure,
    )
