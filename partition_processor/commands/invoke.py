"""Invoke: a new invocation starts, or waits for its object, or turns out to be known."""

from ...log.types import Record
from ..context import ApplyContext
from ..effects import Accepted, StartAttempt
from ..records import KIND_OBJECT_EXCLUSIVE, Invoke
from ..tables import keys
from ..tables.invocations import HEAD_BYTES_MAX, STATUS_PENDING, STATUS_RUNNING, Invocation
from ..tables.journal import Chunk, encode_chunk
from ..tables.locks import Lock


def apply_invoke(context: ApplyContext, command: Invoke, record: Record) -> None:
    """Create the invocation unless its id exists; start it or put it into the inbox."""
    transaction = context.transaction
    invocation_id = command.invocation_id
    known = transaction.invocation(invocation_id)
    if known is not None:
        context.effects.append(Accepted(record.epoch, record.sequence, invocation_id, known))
        return
    status = STATUS_RUNNING
    if command.target_kind == KIND_OBJECT_EXCLUSIVE and not _take_lock(context, command):
        status = STATUS_PENDING
    time_ns = context.record_time_ns
    chunk = encode_chunk(Chunk(time_ns, 0, record.epoch, 1, command.input_frames))
    inline = len(chunk) <= HEAD_BYTES_MAX
    invocation = Invocation(
        status,
        command.service,
        command.handler,
        command.key,
        command.target_kind,
        1 if status == STATUS_RUNNING else 0,
        time_ns,
        1,
        (chunk,) if inline else (),
        0 if inline else 1,
        command.idempotency_key,
        record.traceparent,
        last_entry_ns=time_ns,
    )
    transaction.put_invocation(invocation_id, invocation)
    transaction.put(keys.ACTIVE + invocation_id, b"")
    if not inline:
        transaction.put(keys.journal_row(invocation_id, 0), chunk)
    context.counts[status] += 1
    context.effects.append(Accepted(record.epoch, record.sequence, invocation_id, None))
    if status == STATUS_RUNNING:
        context.effects.append(StartAttempt(invocation_id, invocation))


def _take_lock(context: ApplyContext, command: Invoke) -> bool:
    """Take the object's lock, or the next number of its inbox; whether the lock was taken."""
    transaction = context.transaction
    assert command.key is not None
    partition_key = command.invocation_id[:8]
    object_name = keys.object_suffix(command.service, command.key)
    lock = transaction.lock(partition_key, object_name)
    if lock is None:
        transaction.put_lock(partition_key, object_name, Lock(command.invocation_id, 0, 0))
        return True
    transaction.put(
        keys.inbox_row(partition_key, object_name, lock.tail), bytes(command.invocation_id)
    )
    transaction.put_lock(partition_key, object_name, Lock(lock.holder, lock.head, lock.tail + 1))
    return False
