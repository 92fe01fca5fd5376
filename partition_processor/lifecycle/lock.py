"""A virtual object's lock and its inbox: one exclusive invocation at a time, in order of arrival.

Changes of the state from outside wait in the same inbox. A number of the inbox may be missing: its
invocation was cancelled while it waited.
"""

import msgspec

from ...core.ids import InvocationId
from ..context import ApplyContext
from ..effects import StateChanged
from ..outcomes import QUEUED
from ..records import PatchState
from ..state_changes import patch_state
from ..tables import keys
from ..tables.inbox import InboxItem, decode_item, encode_item
from ..tables.invocations import STATUS_PENDING, Invocation
from ..tables.locks import Lock
from .start import start_attempt


def take_lock(context: ApplyContext, invocation_id: InvocationId, service: str, key: str) -> int:
    """Take the object's lock, or a number of its inbox: that number, -1 when the lock was taken."""
    transaction = context.transaction
    partition_key = invocation_id[:8]
    object_name = keys.object_suffix(service, key)
    lock = transaction.lock(partition_key, object_name)
    if lock is None:
        transaction.put_lock(partition_key, object_name, Lock(invocation_id, 0, 0))
        return -1
    return _enter_inbox(context, partition_key, object_name, lock, InboxItem(invocation_id, None))


def _enter_inbox(
    context: ApplyContext, partition_key: bytes, object_name: bytes, lock: Lock, item: InboxItem
) -> int:
    number = lock.tail
    row = keys.inbox_row(partition_key, object_name, number)
    context.transaction.put(row, encode_item(item))
    longer = Lock(lock.holder, lock.head, number + 1)
    context.transaction.put_lock(partition_key, object_name, longer)
    return number


def start_or_wait(
    context: ApplyContext, invocation_id: InvocationId, invocation: Invocation
) -> Invocation:
    """Start an exclusive invocation, or have it wait for its object."""
    assert invocation.key is not None
    number = take_lock(context, invocation_id, invocation.service, invocation.key)
    if number < 0:
        return start_attempt(context, invocation_id, invocation)
    waiting = msgspec.structs.replace(
        invocation,
        status=STATUS_PENDING,
        inbox_number=number,
        modified_ns=context.record_time_ns,
    )
    context.move(invocation.status, STATUS_PENDING)
    context.transaction.put_invocation(invocation_id, waiting)
    return waiting


def change_state(context: ApplyContext, command: PatchState) -> tuple[str, bytes]:
    """Change the object's state now, or in its turn: the outcome and, when it waits, its row."""
    object_name = keys.object_suffix(command.service, command.key)
    lock = context.transaction.lock(command.partition_key, object_name)
    if lock is None:
        return patch_state(context.transaction, command), b""
    item = InboxItem(None, command)
    number = _enter_inbox(context, command.partition_key, object_name, lock, item)
    return QUEUED, keys.inbox_row(command.partition_key, object_name, number)


def leave_inbox(context: ApplyContext, invocation_id: InvocationId, invocation: Invocation) -> None:
    """Take a pending invocation out of its object's inbox."""
    assert invocation.key is not None
    object_name = keys.object_suffix(invocation.service, invocation.key)
    row = keys.inbox_row(invocation_id[:8], object_name, invocation.inbox_number)
    assert context.transaction.get(row) is not None, "a pending invocation is not in its inbox"
    context.transaction.delete(row)


def pass_lock_on(
    context: ApplyContext, invocation_id: InvocationId, invocation: Invocation
) -> None:
    """Free the object, or give it to whoever waited longest."""
    transaction = context.transaction
    assert invocation.key is not None
    partition_key = invocation_id[:8]
    object_name = keys.object_suffix(invocation.service, invocation.key)
    lock = transaction.lock(partition_key, object_name)
    assert lock is not None, "an exclusive invocation ends without a lock"
    assert lock.holder == invocation_id, "an exclusive invocation ends without holding its lock"
    for number in range(lock.head, lock.tail):
        row = keys.inbox_row(partition_key, object_name, number)
        value = transaction.get(row)
        if value is None:
            continue
        transaction.delete(row)
        item = decode_item(value)
        if item.change is not None:
            context.effects.append(StateChanged(row, patch_state(transaction, item.change)))
            continue
        assert item.invocation_id is not None
        transaction.put_lock(
            partition_key, object_name, Lock(item.invocation_id, number + 1, lock.tail)
        )
        waiting = transaction.invocation(item.invocation_id)
        assert waiting is not None, "the inbox names an unknown invocation"
        start_attempt(context, item.invocation_id, waiting)
        return
    transaction.put_lock(partition_key, object_name, None)
