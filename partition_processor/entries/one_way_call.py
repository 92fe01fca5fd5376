"""ONE_WAY_CALL: another handler is started, now or later, and nobody waits for it."""

from ...proto.generated import service_protocol_pb2 as wire
from .appending import Appending
from .call import invoke_called
from .entry import Entry
from .sleep import WAKE_MS_MAX


def _apply(chunk: Appending, command: wire.OneWayCallCommand, end: int) -> None:
    start_ns = min(command.invoke_time, WAKE_MS_MAX) * 1_000_000
    invoke_called(chunk, command, end, sink=None, held=(), start_ns=start_ns)


def _completion_ids(command: wire.OneWayCallCommand) -> tuple[int, ...]:
    return (command.invocation_id_notification_idx,)


ONE_WAY_CALL = Entry(wire.OneWayCallCommand.FromString, _apply, _completion_ids)
