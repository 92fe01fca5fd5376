"""What is still to be done, derived from the store alone: how a new leader goes on."""

from .effects import ArmRetry, Effect, StartAttempt
from .tables.invocations import STATUS_BACKING_OFF, STATUS_RUNNING
from .transaction import Transaction


def pending_effects(transaction: Transaction, first: bytes, last: bytes) -> list[Effect]:
    """The effects of a range of partition keys that nobody has acknowledged."""
    effects: list[Effect] = []
    for invocation_id, invocation in transaction.active(first, last):
        if invocation.status == STATUS_RUNNING:
            effects.append(StartAttempt(invocation_id, invocation))
        elif invocation.status == STATUS_BACKING_OFF:
            effects.append(ArmRetry(invocation_id, invocation.attempt, invocation.retry_at_ns))
    return effects
