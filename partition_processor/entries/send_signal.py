"""SEND_SIGNAL: a signal for another invocation, cancellation among them; nothing comes back."""

import msgspec

from ...core.ids import InvocationId, MalformedIdError, parse_invocation_id
from ...proto.generated import service_protocol_pb2 as wire
from ..records import Signal
from ..tables.invocations import Failure
from .appending import Appending, ProtocolViolationError
from .entry import Entry
from .failures import failure_of


class SignalCommand(msgspec.Struct, frozen=True, gc=False):
    """A command that comes down to a signal."""

    signal: Signal


def apply_signal(chunk: Appending, command: SignalCommand, _end: int) -> None:
    """Have the signal delivered."""
    chunk.context.deliver(command.signal)


def parse_target(text: str) -> InvocationId:
    """The invocation that a text names. Raises ProtocolViolationError."""
    try:
        return parse_invocation_id(text)
    except MalformedIdError as error:
        raise ProtocolViolationError(error.message) from None


def _read(body: bytes) -> SignalCommand:
    command = wire.SendSignalCommand.FromString(body)
    target = parse_target(command.target_invocation_id)
    value: bytes | None = None
    failure: Failure | None = None
    if command.HasField("value"):
        value = command.value.content
    elif command.HasField("failure"):
        failure = failure_of(command.failure)
    if not command.name and not command.idx:
        raise ProtocolViolationError("a signal has neither an index nor a name")
    return SignalCommand(Signal(target, command.idx, command.name, value, failure))


SEND_SIGNAL = Entry(_read, apply_signal)
