"""Whether handlers were given the state there is."""

from collections.abc import Mapping
from typing import Any, Final

from ...core.ids import InvocationId
from ...core.protocol import messages
from ...core.storage.memory import MemoryStore
from ...partition_processor.records import (
    KIND_OBJECT_EXCLUSIVE,
    KIND_WORKFLOW_RUN,
    AttemptChunk,
)
from ...partition_processor.tables import keys
from ...partition_processor.tables.invocations import STATUS_RUNNING, Invocation
from ...proto.generated import service_protocol_pb2 as wire
from ..simulation.violation import require

STATE_SEEN: Final = "who holds an object sees its state"


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
