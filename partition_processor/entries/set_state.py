"""SET_STATE: a state is written, and seen by others at once."""

from ...proto.generated import service_protocol_pb2 as wire
from .appending import Appending
from .entry import WRITERS, Entry

REFUSAL = (
    "only exclusive handlers of virtual objects and the run handlers of workflows may write state"
)


def _apply(chunk: Appending, command: wire.SetStateCommand, _end: int) -> None:
    chunk.context.transaction.put_state(
        chunk.partition_key, chunk.object_name, command.key, command.value.content
    )


SET_STATE = Entry(wire.SetStateCommand.FromString, _apply, None, WRITERS, REFUSAL)
