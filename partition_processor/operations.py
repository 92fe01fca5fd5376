"""What may be asked of an invocation or an object from outside, and the keys of each record.

Only records that give or take an attempt carry the attempt key, so that the log refuses what the
attempt that was taken away still writes. A signal does not: the attempt goes on.
"""

from typing import TypeAlias

from ..core.ids import InvocationId
from ..core.protocol.messages import SIGNAL_CANCEL
from .records import (
    Kill,
    PatchState,
    Pause,
    Purge,
    Restart,
    Resume,
    Signal,
    attempt_key,
    object_key,
)

Operation: TypeAlias = Signal | Kill | Pause | Resume | Purge | Restart | PatchState


def cancel(invocation_id: InvocationId) -> Signal:
    """Ask an invocation to cancel itself, where it waits."""
    return Signal(invocation_id, SIGNAL_CANCEL, "", None, None)


def keys_of(operation: Operation) -> tuple[bytes, ...]:
    """The keys of an operation's record."""
    if isinstance(operation, PatchState):
        return (object_key(operation.service, operation.key),)
    if isinstance(operation, Signal | Purge):
        return ()
    if isinstance(operation, Restart):
        return (attempt_key(operation.new_id),)
    return (attempt_key(operation.invocation_id),)
