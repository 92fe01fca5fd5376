"""Something for an invocation has come: it joins the journal, and wakes the handler or is sent."""

import msgspec

from ...core.ids import InvocationId
from ...core.protocol import messages
from .. import notification_frames
from ..context import ApplyContext
from ..effects import Notify
from ..journal_append import append_frames
from ..records import Respond, Signal
from ..tables import id_sets
from ..tables.invocations import (
    STATUS_COMPLETED,
    STATUS_PAUSED,
    STATUS_PENDING,
    STATUS_RUNNING,
    STATUS_SCHEDULED,
    STATUS_SUSPENDED,
    Failure,
    Invocation,
    Waiting,
)
from .complete import CODE_CANCELLED, complete
from .start import start_attempt

_NOT_STARTED = (STATUS_PENDING, STATUS_SCHEDULED)


def is_satisfied(waiting: Waiting, invocation: Invocation) -> bool:
    """Whether one of the things that are waited for has come since the attempt began.

    A handler that took a cancellation, or a signal of a name, and waits for the next one lists it
    again; it must not be woken for ever by the one it had. So `Invocation.signals` forgets them
    when an attempt begins, which reads all of the journal: an attempt that took one while it ran is
    woken once in vain.
    """
    notified = invocation.notified
    if any(id_sets.contains(notified, number) for number in waiting.completions):
        return True
    signals = invocation.signals
    return any(which in signals for which in (*waiting.names, *waiting.signals))


def take_completion(context: ApplyContext, command: Respond) -> bool:
    """Hand a completion to its invocation, once; False when nobody wants it any more."""
    invocation = context.transaction.invocation(command.invocation_id)
    if invocation is None or invocation.status == STATUS_COMPLETED:
        return False
    if command.born_lsn and command.born_lsn != invocation.born_lsn:
        return False
    number = command.completion_id
    if id_sets.contains(invocation.notified, number):
        return False
    if not id_sets.contains(invocation.issued, number):
        # It was restarted as new from an earlier entry; the command was never issued here.
        return False
    result = notification_frames.result_of(command.value, command.failure)
    frame = notification_frames.completion(command.frame_type, number, result)
    invocation = msgspec.structs.replace(
        invocation, notified=id_sets.with_number(invocation.notified, number)
    )
    _arrived(context, command.invocation_id, invocation, frame)
    return True


def take_signal(context: ApplyContext, command: Signal) -> bool:
    """Hand a signal to its invocation; False when nobody wants it any more.

    One that has not started yet takes a cancellation by ending, and nothing else.
    """
    invocation = context.transaction.invocation(command.invocation_id)
    if invocation is None or invocation.status == STATUS_COMPLETED:
        return False
    cancel = command.index == messages.SIGNAL_CANCEL and not command.name
    if invocation.status in _NOT_STARTED:
        if cancel:
            failure = Failure(CODE_CANCELLED, "cancelled")
            complete(context, command.invocation_id, invocation, None, failure)
        return cancel
    which: int | str = command.name or command.index
    signals = invocation.signals
    if which not in signals:
        invocation = msgspec.structs.replace(invocation, signals=(*signals, which))
    elif not command.name and command.index >= messages.SIGNAL_FIRST_AWAKEABLE:
        return False  # An awakeable is completed once.
    frame = notification_frames.signal(command.index, command.name, command.value, command.failure)
    _arrived(context, command.invocation_id, invocation, frame, cancel=cancel)
    return True


def _arrived(
    context: ApplyContext,
    invocation_id: InvocationId,
    invocation: Invocation,
    frame: bytes,
    *,
    cancel: bool = False,
) -> None:
    invocation = append_frames(context, invocation_id, invocation, frame, 1)
    status = invocation.status
    if status == STATUS_SUSPENDED:
        waiting = invocation.waiting
        assert waiting is not None, "a suspended invocation waits for nothing"
        # A cancellation reaches also the handler that did not say that it waits for one.
        if cancel or is_satisfied(waiting, invocation):
            start_attempt(context, invocation_id, invocation)
            return
    elif status == STATUS_PAUSED and cancel:
        start_attempt(context, invocation_id, invocation)
        return
    context.transaction.put_invocation(invocation_id, invocation)
    if status == STATUS_RUNNING:
        context.effects.append(
            Notify(
                invocation_id,
                invocation.attempt,
                context.record_time_ns,
                frame,
                invocation.entries,
            )
        )
