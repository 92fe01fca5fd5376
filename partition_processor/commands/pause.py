"""Pause: an invocation keeps what it has and gets no attempt until it is resumed."""

from ...log.types import Record
from .. import outcomes
from ..context import ApplyContext
from ..lifecycle.fail import AttemptFailure, add_event
from ..lifecycle.fail import pause as take_attempt_away
from ..records import Pause
from ..tables.events import PAUSED
from ..tables.invocations import (
    STATUS_BACKING_OFF,
    STATUS_COMPLETED,
    STATUS_RUNNING,
)

_BY_HAND = AttemptFailure(0, "paused by hand", None)


def apply_pause(context: ApplyContext, command: Pause, record: Record) -> None:
    """Pause what has an attempt or waits for the next; a suspended one has none and stays so."""
    invocation_id = command.invocation_id
    invocation = context.transaction.invocation(invocation_id)
    if invocation is None:
        outcome = outcomes.NOT_FOUND
    elif invocation.status == STATUS_COMPLETED:
        outcome = outcomes.COMPLETED
    elif invocation.status in (STATUS_RUNNING, STATUS_BACKING_OFF):
        noted = add_event(context, invocation_id, invocation, PAUSED, _BY_HAND, retry_at_ns=0)
        take_attempt_away(context, invocation_id, noted)
        outcome = outcomes.DONE
    else:
        outcome = outcomes.UNCHANGED
    context.done(record, outcome)
