"""What a command's apply works with, and the moves that several commands share."""

import msgspec

from ..core.ids import InvocationId
from ..log.types import Record
from .effects import Answer, Effect, EndAttempt, StartAttempt
from .records import KIND_OBJECT_EXCLUSIVE
from .tables import keys
from .tables.invocations import (
    STATUS_COMPLETED,
    STATUS_PENDING,
    STATUS_RUNNING,
    Failure,
    Invocation,
)
from .tables.locks import Lock
from .tables.progress import Progress
from .transaction import Transaction


class ApplyContext:
    """One partition's interpreter state between records, and the facts of the current record.

    Attributes:
        transaction: where rows are read and written.
        counts: invocations by status; part of the progress row.
        effects: what this batch's records ask for, in order.
        lsn: of the current record.
        record_time_ns: of the current record.
        epoch: the highest announced leader epoch.
        sequence: number of that leader's last record; -1 when it is not known.
    """

    __slots__ = (
        "counts",
        "effects",
        "epoch",
        "lsn",
        "record_time_ns",
        "sequence",
        "transaction",
    )

    def __init__(self, transaction: Transaction, progress: Progress) -> None:
        """Start after the last record that `progress` counts as applied."""
        self.transaction = transaction
        self.counts = list(progress.counts)
        self.effects: list[Effect] = []
        self.epoch = progress.epoch
        self.sequence = progress.sequence
        self.lsn = progress.applied_lsn
        self.record_time_ns = 0

    def counts_once(self, record: Record) -> bool:
        """Whether the record is its leader's next one, and not a copy or one out of order.

        A leader numbers its records from its announcement on without a gap. Records without a
        number always count.
        """
        if record.epoch < self.epoch:
            return False
        numbered = record.sequence > 0 and record.producer is None
        if record.epoch == self.epoch and numbered and self.sequence >= 0:
            return record.sequence == self.sequence + 1
        return True

    def move(self, status_from: int, status_to: int) -> None:
        """Count an invocation's change of status."""
        self.counts[status_from] -= 1
        self.counts[status_to] += 1

    def is_current(self, invocation: Invocation | None, attempt: int) -> bool:
        """Whether `attempt` is the one that runs now."""
        return (
            invocation is not None
            and invocation.status == STATUS_RUNNING
            and invocation.attempt == attempt
        )

    def assert_superseded_elsewhere(
        self, invocation: Invocation | None, attempt: int, record: Record
    ) -> None:
        """A record of an attempt that is over: the log must not have admitted it on a condition.

        What passes is a record behind one that broke the protocol: that took the attempt away at
        apply, without writing the attempt key.
        """
        assert not record.conditions or (
            invocation is not None and invocation.attempt == attempt
        ), "the log admitted a record of an attempt that a later one had replaced"


def complete(
    context: ApplyContext,
    invocation_id: InvocationId,
    invocation: Invocation,
    output: bytes | None,
    failure: Failure | None,
) -> None:
    """End a running or backing-off invocation with its result and pass its lock on."""
    transaction = context.transaction
    completed = msgspec.structs.replace(
        invocation,
        status=STATUS_COMPLETED,
        output=output,
        failure=failure,
        completed_ns=context.record_time_ns,
        retry_at_ns=0,
    )
    context.move(invocation.status, STATUS_COMPLETED)
    transaction.put_invocation(invocation_id, completed)
    transaction.delete(keys.ACTIVE + invocation_id)
    context.effects.append(EndAttempt(invocation_id, invocation.attempt, False, context.lsn))
    context.effects.append(Answer(invocation_id, completed))
    if invocation.target_kind == KIND_OBJECT_EXCLUSIVE:
        _pass_lock_on(context, invocation_id, invocation)


def _pass_lock_on(
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
    if lock.head == lock.tail:
        transaction.put_lock(partition_key, object_name, None)
        return
    row = keys.inbox_row(partition_key, object_name, lock.head)
    value = transaction.get(row)
    assert value is not None, "a number of the inbox is missing"
    next_id = InvocationId(value)
    transaction.delete(row)
    transaction.put_lock(partition_key, object_name, Lock(next_id, lock.head + 1, lock.tail))
    waiting = transaction.invocation(next_id)
    assert waiting is not None, "the inbox names an unknown invocation"
    started = msgspec.structs.replace(waiting, status=STATUS_RUNNING, attempt=1)
    context.move(STATUS_PENDING, STATUS_RUNNING)
    transaction.put_invocation(next_id, started)
    context.effects.append(StartAttempt(next_id, started))
