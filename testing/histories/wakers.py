"""Whether all that sleeps can be woken, and handlers were given the state there is."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ...core.ids import InvocationId
from ...core.protocol import messages
from ...core.storage.memory import MemoryStore
from ...partition_processor.records import (
    KIND_OBJECT_EXCLUSIVE,
    KIND_WORKFLOW_RUN,
    AttemptChunk,
)
from ...partition_processor.tables import keys
from ...partition_processor.tables.invocations import (
    STATUS_RUNNING,
    STATUS_SUSPENDED,
    Invocation,
    Sink,
)
from ...partition_processor.tables.promises import decode_promise
from ...proto.generated import service_protocol_pb2 as wire
from ..simulation.violation import require

if TYPE_CHECKING:
    from .observer import Observer

CAN_WAKE: Final = "whatever is suspended can be woken"
STATE_SEEN: Final = "who holds an object sees its state"

Waker = tuple[InvocationId, int]


def check_wakers(observers: "Sequence[Observer]") -> None:
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


def is_current(rows: Mapping[InvocationId, Invocation], command: AttemptChunk) -> bool:
    """Whether the attempt that sent this is the one that runs."""
    row = rows.get(command.invocation_id)
    return row is not None and row.status == STATUS_RUNNING and row.attempt == command.attempt


def check_state_seen(store: MemoryStore, command: AttemptChunk, row: Invocation) -> None:
    """Check what an attempt says it has read, before the record of it is applied.

    Nobody writes while an exclusive handler holds its object: what it read is what is there. But
    one that was restarted as new sees what the entries that it kept wrote, whatever came of it.
    """
    if row.target_kind not in (KIND_OBJECT_EXCLUSIVE, KIND_WORKFLOW_RUN):
        return
    if row.restarted_from is not None:
        return
    assert row.key is not None
    object_name = keys.object_suffix(row.service, row.key)
    prefix = keys.STATE + command.invocation_id[:8] + object_name
    rows = store.scan(prefix, keys.prefix_end(prefix))
    state = {key[len(prefix) :]: value for key, value in rows}
    for message_type, start, end in messages.split_frames(command.frames):
        body = command.frames[start:end]
        seen: Any = None
        there: Any = None
        if message_type == messages.SET_STATE_COMMAND:
            written = wire.SetStateCommand.FromString(body)
            state[written.key] = written.value.content
        elif message_type == messages.CLEAR_STATE_COMMAND:
            state.pop(wire.ClearStateCommand.FromString(body).key, None)
        elif message_type == messages.CLEAR_ALL_STATE_COMMAND:
            state.clear()
        elif message_type == messages.GET_EAGER_STATE_COMMAND:
            read = wire.GetEagerStateCommand.FromString(body)
            seen = read.value.content if read.HasField("value") else None
            there = state.get(read.key)
        elif message_type == messages.GET_EAGER_STATE_KEYS_COMMAND:
            listed = wire.GetEagerStateKeysCommand.FromString(body)
            seen, there = list(listed.value.keys), sorted(state)
        require(seen == there, STATE_SEEN, f"{command.invocation_id.hex()}: {seen}, not {there}")
