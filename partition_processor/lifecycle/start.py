"""An invocation gets an attempt: its first one, or the next after a wait."""

import msgspec

from ...core.ids import InvocationId
from ...core.protocol.messages import SIGNAL_FIRST_AWAKEABLE
from ..context import ApplyContext
from ..effects import StartAttempt
from ..tables import keys
from ..tables.invocations import STATUS_RUNNING, Invocation


def start_attempt(
    context: ApplyContext, invocation_id: InvocationId, invocation: Invocation
) -> Invocation:
    """Have the invocation run, whatever it did before; the row that was written."""
    running = msgspec.structs.replace(
        invocation,
        status=STATUS_RUNNING,
        attempt=invocation.attempt + 1,
        retry_at_ns=0,
        inbox_number=-1,
        waiting=None,
        # The attempt begins with the whole journal: what it waits for is none of these. An
        # awakeable is completed once, whenever that was.
        signals=tuple(filter(_is_awakeable, invocation.signals)) if invocation.signals else (),
        modified_ns=context.record_time_ns,
    )
    context.move(invocation.status, STATUS_RUNNING)
    context.transaction.put_invocation(invocation_id, running)
    context.transaction.put(keys.ACTIVE + invocation_id, b"")
    context.effects.append(StartAttempt(invocation_id, running))
    return running


def _is_awakeable(signal: int | str) -> bool:
    return isinstance(signal, int) and signal >= SIGNAL_FIRST_AWAKEABLE
