"""Signal: an awakeable is completed, a named signal sent, or an invocation cancelled."""

from ...log.types import Record
from .. import outcomes
from ..context import ApplyContext
from ..lifecycle.notify import take_signal
from ..records import Signal
from ..tables.invocations import STATUS_COMPLETED


def apply_signal(context: ApplyContext, command: Signal, record: Record) -> None:
    """Hand the signal over, and tell whoever sent it."""
    invocation = context.transaction.invocation(command.invocation_id)
    if invocation is None:
        outcome = outcomes.NOT_FOUND
    elif invocation.status == STATUS_COMPLETED:
        outcome = outcomes.COMPLETED
    else:
        outcome = outcomes.DONE if take_signal(context, command) else outcomes.UNCHANGED
    context.done(record, outcome)
