"""Whether all that sleeps can be woken."""

from collections.abc import Iterable, Sequence
from typing import Final

from ...core.ids import InvocationId
from ...core.protocol import messages
from ...partition_processor.tables import keys
from ...partition_processor.tables.invocations import STATUS_SUSPENDED, Invocation, Sink
from ...partition_processor.tables.promises import decode_promise
from ..simulation.violation import require
from .observer import Observer

CAN_WAKE: Final = "whatever is suspended can be woken"

Waker = tuple[InvocationId, int]


def check_wakers(observers: Sequence[Observer]) -> None:
    """Check a world where nothing is under way: no message, no record, nothing but timers."""
    wakers: set[Waker] = set()
    for observer in observers:
        wakers |= observer.own_timers()
        for _, row in observer.unfinished():
            wakers |= _wakers(row.sinks)
    for _, value in observers[0].store.scan(keys.PROMISES, keys.prefix_end(keys.PROMISES)):
        wakers |= _wakers(decode_promise(value).waiters)
    for observer in observers:
        for invocation_id, row in observer.unfinished():
            if row.status == STATUS_SUSPENDED:
                _check_waker(invocation_id, row, wakers)


def _wakers(sinks: Iterable[Sink]) -> set[Waker]:
    return {(sink.invocation_id, sink.completion_id) for sink in sinks}


def _check_waker(invocation_id: InvocationId, row: Invocation, wakers: set[Waker]) -> None:
    waiting = row.waiting
    assert waiting is not None
    if waiting.names or any(index != messages.SIGNAL_CANCEL for index in waiting.signals):
        return  # The outside sends what it is asked for.
    can = any((invocation_id, number) in wakers for number in waiting.completions)
    require(can, CAN_WAKE, f"{invocation_id.hex()} waits for {waiting}, and nothing brings it")
