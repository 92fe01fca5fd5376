"""What a command's apply works with: the partition, the facts of the record, what comes of it."""

from collections import deque
from typing import Final

import msgspec

from ..core.ids import InvocationId, partition_key_of, partition_of
from ..log.types import Record
from .effects import ArmTimer, Done, Effect, Ship
from .records import KINDS, DeliveredCommand, encode_command
from .tables import keys
from .tables.invocations import STATUS_NAMES, STATUS_RUNNING, Invocation
from .tables.progress import Progress
from .transaction import Transaction

LOCAL_DELIVERIES_MAX: Final = 1_000
"""So many commands are delivered within one record; the rest takes records of its own."""


NOTHING_FOLLOWS: Final = 1 << 62
"""Of the leader that has this as the number of its last record, no further one counts."""


class PartitionRange(msgspec.Struct, frozen=True):
    """Which part of the key space a partition has; fixed when the cluster is set up.

    Attributes:
        number: of the partition.
        count: how many partitions there are.
        first: first partition key, 8 bytes.
        last: last one.
    """

    number: int
    count: int
    first: bytes
    last: bytes


WHOLE: Final = PartitionRange(0, 1, bytes(8), b"\xff" * 8)
"""The only partition there is."""


class ApplyContext:
    """One partition's interpreter state between records, and the facts of the current record.

    Attributes:
        range: the partition's own.
        transaction: where rows are read and written.
        counts: invocations by status; part of the progress row.
        effects: what this batch's records ask for, in order.
        deliveries: commands that this record still has for invocations of this partition.
        deliveries_left: how many more it may have.
        lsn: of the current record.
        record_time_ns: of the current record.
        record_epoch: of the current record.
        epoch: the highest announced leader epoch.
        sequence: number of that leader's last record; -1 when it is not known.
        outcome: of the last operation, and the inbox row that it waits in; see `done`.
        digests: what the partition's digest was, by LSN, at some of the last ones.
        digest_before: LSN and digest before the announcement that is applied.
    """

    __slots__ = (
        "_own_outbox",
        "counts",
        "deliveries",
        "deliveries_left",
        "digest_before",
        "digests",
        "effects",
        "epoch",
        "lsn",
        "outcome",
        "range",
        "record_epoch",
        "record_time_ns",
        "sequence",
        "transaction",
    )

    def __init__(self, transaction: Transaction, progress: Progress, own: PartitionRange) -> None:
        """Start after the last record that `progress` counts as applied."""
        self.range = own
        self.transaction = transaction
        missing = len(STATUS_NAMES) - len(progress.counts)
        self.counts = [*progress.counts, *(0,) * missing]
        self.effects: list[Effect] = []
        self.deliveries: deque[DeliveredCommand] = deque()
        self.epoch = progress.epoch
        self.sequence = progress.sequence
        self.lsn = progress.applied_lsn
        self.record_time_ns = 0
        self.record_epoch = 0
        self.deliveries_left = LOCAL_DELIVERIES_MAX
        self.outcome = ("", b"")
        self.digests: dict[int, bytes] = {}
        self.digest_before = (-1, b"")
        sent = transaction.get(keys.outbox_tail_row(own.first, own.number))
        received = transaction.get(keys.received_row(own.first, own.number))
        # How many messages this partition has under way to itself.
        self._own_outbox = max(0, keys.read_number(sent) - 1) - keys.read_number(received)

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

    def done(self, record: Record, outcome: str, queued_as: bytes = b"") -> None:
        """Tell whoever asked for the record's operation what became of it; see `Done`."""
        self.outcome = (outcome, queued_as)
        if record.sequence > 0:
            self.effects.append(Done(record.epoch, record.sequence, outcome, queued_as))

    # Other invocations ---------------------------------------------------------------------------

    def deliver(self, command: DeliveredCommand) -> None:
        """Hand a command to its target: behind this one where it lives here, by the outbox else.

        In the order given for each partition, this one included.
        """
        own = self.range
        destination = partition_of(partition_key_of(command.invocation_id), own.count)
        if destination == own.number and self._own_outbox == 0 and self.deliveries_left > 0:
            self.deliveries_left -= 1
            self.deliveries.append(command)
            return
        if destination == own.number:
            self._own_outbox += 1
        self._put_outbox(destination, KINDS[type(command)], encode_command(command))

    def _put_outbox(self, destination: int, kind: int, body: bytes) -> None:
        transaction = self.transaction
        first = self.range.first
        tail_row = keys.outbox_tail_row(first, destination)
        number = keys.read_number(transaction.get(tail_row)) or 1
        transaction.put(tail_row, keys.pack_number(number + 1))
        transaction.put(keys.outbox_row(first, destination, number), bytes((kind,)) + body)
        self.effects.append(Ship(destination, number, kind, body))

    def received_own(self, count: int) -> None:
        """So many messages of this partition to itself have arrived."""
        self._own_outbox -= count

    # Timers --------------------------------------------------------------------------------------

    def add_timer(self, due_ns: int, invocation_id: InvocationId, number: int) -> None:
        """Write a timer; its invocation counts it."""
        transaction = self.transaction
        transaction.put(keys.timer_row(self.range.first, due_ns, invocation_id, number), b"")
        transaction.put(keys.own_timer_row(invocation_id, number), keys.pack_number(due_ns))
        self.effects.append(ArmTimer(due_ns, invocation_id, number))

    def drop_timer(self, due_ns: int, invocation_id: InvocationId, number: int) -> None:
        """Delete a timer; its invocation counts it no more."""
        transaction = self.transaction
        transaction.delete(keys.timer_row(self.range.first, due_ns, invocation_id, number))
        transaction.delete(keys.own_timer_row(invocation_id, number))

    # Attempts ------------------------------------------------------------------------------------

    def is_of_another(self, invocation: Invocation | None, born_lsn: int) -> bool:
        """Whether the invocation is not the one that was made at `born_lsn`, which is forgotten."""
        return invocation is not None and 0 < born_lsn != invocation.born_lsn

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

        What passes is a record behind one that took the attempt away without writing the attempt
        key, which only ends an invocation or leaves it without an attempt: a protocol violation
        found at apply, a caller's kill. It may even have been forgotten since.
        """
        assert not record.conditions or invocation is None or invocation.attempt == attempt, (
            "the log admitted a record of an attempt that a later one had replaced"
        )
