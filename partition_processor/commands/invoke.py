"""Invoke: a new invocation starts, or waits, or turns out to be known."""

from typing import Final

import msgspec

from ...core.ids import invocation_id_text
from ...log.types import Record
from ..context import ApplyContext
from ..effects import Accepted
from ..lifecycle.begin import begin
from ..lifecycle.complete import respond
from ..records import KIND_OBJECT_EXCLUSIVE, KIND_WORKFLOW_RUN, Invoke, object_key, respond_to
from ..tables import keys
from ..tables.invocations import (
    HEAD_BYTES_MAX,
    STATUS_COMPLETED,
    STATUS_SCHEDULED,
    Failure,
    Invocation,
    Sink,
)
from ..tables.journal import Chunk, encode_chunk

CODE_WORKFLOW_RAN: Final = 409
CODE_DEADLOCK: Final = 409
WAITS_FOR_ITSELF: Final = "the invocation would wait for its own result"


def apply_invoke(context: ApplyContext, command: Invoke, record: Record) -> None:
    """Create the invocation unless its id exists, and tell the client that asked for it."""
    invocation_id = command.invocation_id
    known = context.transaction.invocation(invocation_id)
    expired = known is None and 0 < command.expires_ns < context.record_time_ns
    context.effects.append(Accepted(record.epoch, record.sequence, invocation_id, known, expired))
    if known is None and not expired:
        _begin(context, command, record.traceparent)


def apply_called(context: ApplyContext, command: Invoke) -> None:
    """Create the invocation for the handler that called it, or join the one that exists."""
    sink = command.sink
    known = context.transaction.invocation(command.invocation_id)
    if sink is None:
        if known is None:
            _begin(context, command, command.traceparent)
        return
    refusal = _refusal(command, sink, known)
    if refusal is not None:
        context.deliver(respond_to(sink, None, refusal))
    elif known is None:
        _begin(context, command, command.traceparent)
    elif known.status == STATUS_COMPLETED:
        respond(context, sink, known)
    else:
        joined = msgspec.structs.replace(known, sinks=(*known.sinks, sink))
        context.transaction.put_invocation(command.invocation_id, joined)


def _refusal(command: Invoke, sink: Sink, known: Invocation | None) -> Failure | None:
    """Why the caller must not wait for this invocation, known already or not; None if it may."""
    if known is not None and command.target_kind == KIND_WORKFLOW_RUN:
        return Failure(
            CODE_WORKFLOW_RAN,
            f"workflow {command.service}/{command.key} was started before, as "
            f"{invocation_id_text(command.invocation_id)}: a workflow runs once per key",
        )
    if known is not None and known.status == STATUS_COMPLETED:
        return None
    if sink.invocation_id == command.invocation_id:
        return Failure(CODE_DEADLOCK, WAITS_FOR_ITSELF)
    # Whoever is known and holds the object is among the callers, or waits for it behind them.
    if command.target_kind == KIND_OBJECT_EXCLUSIVE and command.held:
        assert command.key is not None
        if object_key(command.service, command.key) in command.held:
            return Failure(
                CODE_DEADLOCK,
                f"{command.service}/{command.key}/{command.handler} can never start: the call "
                "comes from a handler that holds the same object, directly or through others, and "
                "waits; send it one-way, or call a shared handler",
            )
    return None


def _begin(context: ApplyContext, command: Invoke, traceparent: str | None) -> None:
    transaction = context.transaction
    invocation_id = command.invocation_id
    time_ns = context.record_time_ns
    chunk = encode_chunk(Chunk(time_ns, 0, context.record_epoch, 1, command.input_frames))
    inline = len(chunk) <= HEAD_BYTES_MAX
    scheduled = command.start_ns > time_ns
    invocation = Invocation(
        STATUS_SCHEDULED,
        command.service,
        command.handler,
        command.key,
        command.target_kind,
        0,
        time_ns,
        1,
        (chunk,) if inline else (),
        0 if inline else 1,
        command.idempotency_key,
        traceparent,
        last_entry_ns=time_ns,
        start_ns=command.start_ns,
        completion_retention_ns=command.completion_retention_ns,
        journal_retention_ns=min(command.journal_retention_ns, command.completion_retention_ns),
        sinks=() if command.sink is None else (command.sink,),
        parent=command.parent,
        held=command.held,
        timers=1 if scheduled else 0,
        modified_ns=time_ns,
        born_lsn=context.lsn,
        request_id=command.request_id,
    )
    context.counts[STATUS_SCHEDULED] += 1
    if not inline:
        transaction.put(keys.journal_row(invocation_id, 0), chunk)
    if scheduled:
        transaction.put_invocation(invocation_id, invocation)
        context.add_timer(command.start_ns, invocation_id, 0)
    else:
        begin(context, invocation_id, invocation)
