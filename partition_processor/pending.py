"""What is still to be done, derived from the store alone: how a new leader goes on."""

from collections.abc import Iterator
from typing import Final

from ..core.storage.kv import KvStore
from .context import PartitionRange
from .effects import ArmRetry, ArmTimer, Effect, Ship, StartAttempt
from .tables import keys
from .tables.invocations import STATUS_BACKING_OFF, STATUS_RUNNING
from .transaction import Transaction

_ROWS_PER_READ: Final = 256


def pending_effects(transaction: Transaction, own: PartitionRange) -> Iterator[Effect]:
    """The effects of a partition that nobody has acknowledged, its timers left out.

    The outbox is read piece by piece, as it may be larger than what fits into memory.
    """
    for invocation_id, invocation in transaction.active(own.first, own.last):
        if invocation.status == STATUS_RUNNING:
            yield StartAttempt(invocation_id, invocation)
        elif invocation.status == STATUS_BACKING_OFF:
            yield ArmRetry(invocation_id, invocation.attempt, invocation.retry_at_ns)
    start = keys.OUTBOX + own.first
    end = keys.prefix_end(start)
    while rows := transaction.scan(start, end, _ROWS_PER_READ):
        for row, value in rows:
            destination, number = keys.read_outbox_row(row)
            yield Ship(destination, number, value[0], value[1:])
        start = rows[-1][0] + b"\x00"


def pending_timers(store: KvStore, own: PartitionRange, after: bytes = b"") -> Iterator[ArmTimer]:
    """The timers of a partition in order of time, from behind the row `after` on."""
    start = keys.TIMERS + own.first
    for row, _ in store.scan(after + b"\x00" if after else start, keys.prefix_end(start)):
        yield ArmTimer(*keys.read_timer_row(row))
