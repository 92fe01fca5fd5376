"""TimersFired: sleeps are over and scheduled invocations begin."""

import msgspec

from ...core.protocol import messages
from ...log.types import Record
from ..context import ApplyContext
from ..lifecycle.begin import begin
from ..lifecycle.notify import take_completion
from ..records import Respond, Timer, TimersFired
from ..tables import keys
from ..tables.invocations import STATUS_SCHEDULED


def apply_timers_fired(context: ApplyContext, command: TimersFired, _record: Record) -> None:
    """Fire each timer that still exists; no clock is asked whether its time has come."""
    for timer in command.timers:
        row = keys.timer_row(context.range.first, timer.due_ns, timer.invocation_id, timer.number)
        if context.transaction.get(row) is not None:
            _fire(context, timer)


def _fire(context: ApplyContext, timer: Timer) -> None:
    invocation_id = timer.invocation_id
    context.drop_timer(timer.due_ns, invocation_id, timer.number)
    invocation = context.transaction.invocation(invocation_id)
    assert invocation is not None, "a timer is left of a forgotten invocation"
    invocation = msgspec.structs.replace(invocation, timers=invocation.timers - 1)
    if timer.number == 0:
        assert invocation.status == STATUS_SCHEDULED, "a start is due of what has started"
        begin(context, invocation_id, invocation)
        return
    context.transaction.put_invocation(invocation_id, invocation)
    taken = take_completion(
        context, Respond(invocation_id, timer.number, messages.SLEEP_COMPLETION, None, None)
    )
    assert taken, "a timer is left whose sleep is over"
