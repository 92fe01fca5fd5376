"""COMPLETE_AWAKEABLE: resolve or reject another invocation's awakeable, by its id."""

from ...core.ids import MalformedIdError, parse_awakeable_id
from ...core.protocol.messages import SIGNAL_FIRST_AWAKEABLE
from ...proto.generated import service_protocol_pb2 as wire
from ..records import Signal
from .appending import ProtocolViolationError
from .entry import Entry
from .failures import failure_of
from .send_signal import SignalCommand, apply_signal


def _read(body: bytes) -> SignalCommand:
    command = wire.CompleteAwakeableCommand.FromString(body)
    try:
        target, index = parse_awakeable_id(command.awakeable_id)
    except MalformedIdError as error:
        raise ProtocolViolationError(error.message) from None
    if index < SIGNAL_FIRST_AWAKEABLE:
        raise ProtocolViolationError(f"{command.awakeable_id[:64]!r} is no awakeable's id")
    if command.HasField("failure"):
        return SignalCommand(Signal(target, index, "", None, failure_of(command.failure)))
    return SignalCommand(Signal(target, index, "", command.value.content, None))


COMPLETE_AWAKEABLE = Entry(_read, apply_signal)
