"""What may be asked of an invocation or an object from outside, and the keys of each record.

Only records that give or take an attempt carry the attempt key, so that the log refuses what the
attempt that was taken away still writes. A signal does not: the attempt goes on.
"""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec

from ..core.ids import InvocationId
from ..core.protocol.messages import SIGNAL_CANCEL
from .records import (
    COMMAND_TYPES,
    OPERATION_KINDS,
    Kill,
    Once,
    PatchState,
    Pause,
    Purge,
    Restart,
    Resume,
    Signal,
    attempt_key,
    object_key,
)

Plain: TypeAlias = Signal | Kill | Pause | Resume | Purge | Restart | PatchState
Operation: TypeAlias = Plain | Once

_DECODE: Final[dict[int, Callable[[bytes], Any]]] = {
    kind: msgspec.msgpack.Decoder(COMMAND_TYPES[kind]).decode for kind in sorted(OPERATION_KINDS)
}


def cancel(invocation_id: InvocationId) -> Signal:
    """Ask an invocation to cancel itself, where it waits."""
    return Signal(invocation_id, SIGNAL_CANCEL, "", None, None)


def decode_operation(kind: int, body: bytes) -> Plain:
    """The operation inside `Once`. Raises KeyError or msgspec.DecodeError for what is none."""
    operation: Plain = _DECODE[kind](body)
    return operation


def partition_key_bytes(operation: Plain) -> bytes:
    """The 8 bytes that say in which partition an operation belongs."""
    if isinstance(operation, PatchState):
        return operation.partition_key
    return operation.invocation_id[:8]


def keys_of(operation: Operation) -> tuple[bytes, ...]:
    """The keys of an operation's record."""
    if isinstance(operation, Once):
        operation = decode_operation(operation.kind, operation.body)
    if isinstance(operation, PatchState):
        return (object_key(operation.service, operation.key),)
    if isinstance(operation, Signal | Purge):
        return ()
    if isinstance(operation, Restart):
        return (attempt_key(operation.new_id),)
    return (attempt_key(operation.invocation_id),)
