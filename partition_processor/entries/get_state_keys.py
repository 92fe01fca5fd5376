"""GET_LAZY_STATE_KEYS and GET_EAGER_STATE_KEYS: which states there are."""

from ...core.protocol import messages
from ...proto.generated import service_protocol_pb2 as wire
from ..notification_frames import state_keys_result
from .appending import Appending
from .entry import KEYED, Entry, result_completion_id
from .get_state import REFUSAL


def _apply_lazy(chunk: Appending, command: wire.GetLazyStateKeysCommand, end: int) -> None:
    state = chunk.context.transaction.state_now(chunk.partition_key, chunk.object_name)
    chunk.complete_with(
        end,
        messages.GET_LAZY_STATE_KEYS_COMPLETION,
        command.result_completion_id,
        state_keys_result(sorted(state)),
    )


GET_LAZY_STATE_KEYS = Entry(
    wire.GetLazyStateKeysCommand.FromString, _apply_lazy, result_completion_id, KEYED, REFUSAL
)
GET_EAGER_STATE_KEYS = Entry(kinds=KEYED, refusal=REFUSAL)
