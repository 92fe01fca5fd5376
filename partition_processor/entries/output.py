"""OUTPUT: the handler's result; the last one before END counts."""

import msgspec

from ...proto.generated import service_protocol_pb2 as wire
from ..tables.invocations import Failure
from .appending import Appending
from .entry import Entry
from .failures import failure_of


def _apply(chunk: Appending, output: wire.OutputCommand, _end: int) -> None:
    value: bytes | None = output.value.content
    failure: Failure | None = None
    if output.HasField("failure"):
        value, failure = None, failure_of(output.failure)
    chunk.invocation = msgspec.structs.replace(chunk.invocation, output=value, failure=failure)


OUTPUT = Entry(wire.OutputCommand.FromString, _apply)
