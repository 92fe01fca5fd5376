"""GET_INVOCATION_OUTPUT: the result of another invocation, if there is one yet."""

from ...core.protocol import messages
from ...proto.generated import service_protocol_pb2 as wire
from .appending import Appending
from .attach_invocation import TargetedCommand, ask, read_targeted
from .entry import Entry, result_completion_id


def _read(body: bytes) -> TargetedCommand:
    return read_targeted(wire.GetInvocationOutputCommand.FromString(body))


def _apply(chunk: Appending, command: TargetedCommand, _end: int) -> None:
    ask(chunk, command, messages.GET_INVOCATION_OUTPUT_COMPLETION, wait=False)


GET_INVOCATION_OUTPUT = Entry(_read, _apply, result_completion_id)
