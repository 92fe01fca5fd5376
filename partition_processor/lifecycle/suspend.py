"""An invocation has no attempt until something comes; proof that something can."""

from typing import Final

import msgspec

from ...core.ids import InvocationId
from ...core.protocol import messages
from ..chunk import ReadChunk
from ..context import ApplyContext
from ..effects import EndAttempt
from ..entries.appending import ProtocolViolationError
from ..tables import id_sets, keys
from ..tables.invocations import STATUS_RUNNING, STATUS_SUSPENDED, Invocation, Waiting
from .notify import is_satisfied
from .start import start_attempt

NUMBERS_SHOWN_MAX: Final = 10


def check_can_wake(chunk: ReadChunk, invocation: Invocation) -> None:
    """Raise ProtocolViolationError when nothing that is waited for can ever come.

    What can come is the completion of a command whose completion is made elsewhere, or a signal;
    a cancellation does not count, as waiting for nothing else is waiting for ever. The completion
    of a step comes from the attempt itself, and an attempt that has ended proposes nothing.
    """
    waiting = chunk.waiting
    assert waiting is not None
    issued = {
        number
        for frame in chunk.frames
        if frame.entry.completion_ids is not None
        for number in frame.entry.completion_ids(frame.message)
    }
    can_come = (
        bool(waiting.names)
        or any(index != messages.SIGNAL_CANCEL for index in waiting.signals)
        or any(
            number in issued
            or id_sets.contains(invocation.issued, number)
            or id_sets.contains(invocation.notified, number)
            for number in waiting.completions
        )
    )
    if not can_come:
        raise ProtocolViolationError(
            "the attempt suspended, but nothing that it waits for can ever come: it waits for "
            f"completions {_some(waiting.completions)} and signals {_some(waiting.signals)}"
        )


def _some(numbers: tuple[int, ...]) -> str:
    """The first numbers as text: it is stored, and code may send any number of them."""
    more = ", …" if len(numbers) > NUMBERS_SHOWN_MAX else ""
    return f"[{', '.join(map(str, numbers[:NUMBERS_SHOWN_MAX]))}{more}]"


def suspend(
    context: ApplyContext, invocation_id: InvocationId, invocation: Invocation, waiting: Waiting
) -> None:
    """Take the running attempt away; start the next at once if what it waits for is there."""
    context.effects.append(EndAttempt(invocation_id, invocation.attempt, False, context.lsn))
    invocation = msgspec.structs.replace(invocation, failed_attempts=0)
    if is_satisfied(waiting, invocation):
        start_attempt(context, invocation_id, invocation)
        return
    suspended = msgspec.structs.replace(
        invocation,
        status=STATUS_SUSPENDED,
        waiting=waiting,
        modified_ns=context.record_time_ns,
    )
    context.move(STATUS_RUNNING, STATUS_SUSPENDED)
    context.transaction.put_invocation(invocation_id, suspended)
    context.transaction.delete(keys.ACTIVE + invocation_id)
