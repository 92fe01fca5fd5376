"""CLEAR_STATE: a state is removed."""

from ...proto.generated import service_protocol_pb2 as wire
from .appending import Appending
from .entry import WRITERS, Entry
from .set_state import REFUSAL


def _apply(chunk: Appending, command: wire.ClearStateCommand, _end: int) -> None:
    chunk.context.transaction.put_state(chunk.partition_key, chunk.object_name, command.key, None)


CLEAR_STATE = Entry(wire.ClearStateCommand.FromString, _apply, None, WRITERS, REFUSAL)
