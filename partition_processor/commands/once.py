"""Once: an operation is applied if it was not before, and its outcome is kept for who asks again.

A node that loses a leader does not know whether what it asked for was done, so it asks again, under
the same operation id. The rows of the ids are in order of the time of asking, so that the oldest
are found first; each operation forgets a few that nobody asks for any more.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from ...log.types import Record
from .. import outcomes
from ..context import ApplyContext
from ..operations import decode_operation
from ..records import Kill, Once, PatchState, Pause, Purge, Restart, Resume, Signal
from ..tables import keys
from .kill import apply_kill
from .patch_state import apply_patch_state
from .pause import apply_pause
from .purge import apply_purge
from .restart import apply_restart
from .resume import apply_resume
from .signal import apply_signal

ASKED_NS_MAX: Final = 600 * 10**9
"""Whoever asks later than this for the first time, by record time, is refused."""
KEPT_NS: Final = 3 * ASKED_NS_MAX
"""So long after the asking an outcome is kept: longer than it can still be asked for."""
_FORGOTTEN_MAX: Final = 4

_APPLY: Final[dict[type, Callable[[ApplyContext, Any, Record], None]]] = {
    Signal: apply_signal,
    Kill: apply_kill,
    Pause: apply_pause,
    Resume: apply_resume,
    Purge: apply_purge,
    Restart: apply_restart,
    PatchState: apply_patch_state,
}
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(tuple[str, bytes]).decode


def apply_once(context: ApplyContext, command: Once, record: Record) -> None:
    """Apply the operation, or tell what it came to before."""
    transaction = context.transaction
    first = context.range.first
    row = keys.operation_row(first, command.operation_id)
    known = transaction.get(row)
    if known is not None:
        context.done(record, *_decode(known))
        return
    asked_ns = keys.read_number(command.operation_id[:8])
    if asked_ns + ASKED_NS_MAX < context.record_time_ns:
        context.done(record, outcomes.EXPIRED)
        return
    _forget(context)
    operation = decode_operation(command.kind, command.body)
    _APPLY[type(operation)](context, operation, record)
    transaction.put(row, _encode(context.outcome))


def _forget(context: ApplyContext) -> None:
    """Forget a few of the outcomes that nobody can ask for any more."""
    prefix = keys.OPERATIONS + context.range.first
    end = prefix + keys.pack_number(max(0, context.record_time_ns - KEPT_NS))
    for row, _ in context.transaction.scan(prefix, end, _FORGOTTEN_MAX):
        context.transaction.delete(row)
