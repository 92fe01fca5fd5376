"""GET_LAZY_STATE and GET_EAGER_STATE: reading one state."""

from ...core.protocol import messages
from ...proto.generated import service_protocol_pb2 as wire
from ..tables import keys
from .appending import Appending
from .entry import KEYED, Entry, result_completion_id

REFUSAL = "a plain service has no state to read"


def _apply_lazy(chunk: Appending, command: wire.GetLazyStateCommand, end: int) -> None:
    row = keys.STATE + chunk.partition_key + chunk.object_name + command.key
    value = chunk.context.transaction.get(row)
    chunk.complete(end, messages.GET_LAZY_STATE_COMPLETION, command.result_completion_id, value)


GET_LAZY_STATE = Entry(
    wire.GetLazyStateCommand.FromString, _apply_lazy, result_completion_id, KEYED, REFUSAL
)
GET_EAGER_STATE = Entry(kinds=KEYED, refusal=REFUSAL)
