"""SLEEP: a timer that wakes the handler."""

from typing import Final

import msgspec

from ...proto.generated import service_protocol_pb2 as wire
from .appending import Appending
from .entry import Entry, result_completion_id

WAKE_MS_MAX: Final = (1 << 63) // 1_000_000 - 1
"""Later wake-up times are cut to this one, some 260 years after 1970."""


def _apply(chunk: Appending, command: wire.SleepCommand, _end: int) -> None:
    number = command.result_completion_id
    chunk.issue(number)
    due_ns = min(command.wake_up_time, WAKE_MS_MAX) * 1_000_000
    chunk.context.add_timer(due_ns, chunk.invocation_id, number)
    invocation = chunk.invocation
    chunk.invocation = msgspec.structs.replace(invocation, timers=invocation.timers + 1)


SLEEP = Entry(wire.SleepCommand.FromString, _apply, result_completion_id)
