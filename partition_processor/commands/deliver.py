"""Deliver: what another partition has for invocations of this one, once and in order."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from ...log.types import Record
from ..context import ApplyContext
from ..effects import Delivered
from ..lifecycle.notify import take_completion, take_signal
from ..records import (
    COMMAND_TYPES,
    DELIVERED_KINDS,
    Attach,
    Deliver,
    DeliveredCommand,
    Invoke,
    Kill,
    Respond,
    Signal,
)
from ..tables import keys
from .attach import apply_attach
from .invoke import apply_called
from .kill import apply_kill_called

_APPLY: Final[dict[type[DeliveredCommand], Callable[[ApplyContext, Any], object]]] = {
    Invoke: apply_called,
    Signal: take_signal,
    Respond: take_completion,
    Attach: apply_attach,
    Kill: apply_kill_called,
}
_DECODE: Final[dict[int, Callable[[bytes], Any]]] = {
    kind: msgspec.msgpack.Decoder(COMMAND_TYPES[kind]).decode for kind in sorted(DELIVERED_KINDS)
}


def apply_delivered(context: ApplyContext, command: DeliveredCommand) -> None:
    """Apply what one invocation has for another."""
    _APPLY[type(command)](context, command)


def apply_deliver(context: ApplyContext, command: Deliver, _record: Record) -> None:
    """Take the messages that are next of their source; copies count for nothing.

    After a gap nothing is taken: the source is told how far this partition has come, and sends
    what is missing again.
    """
    transaction = context.transaction
    source = command.source
    row = keys.received_row(context.range.first, source)
    received = keys.read_number(transaction.get(row))
    fresh = command.messages[max(0, received + 1 - command.first) :]
    if command.first <= received + 1 and fresh:
        received += len(fresh)
        transaction.put(row, keys.pack_number(received))
        if source == context.range.number:
            context.received_own(len(fresh))
        for kind, body in fresh:
            context.deliveries.append(_DECODE[kind](body))
    context.effects.append(Delivered(source, received, command.first > received + 1))
