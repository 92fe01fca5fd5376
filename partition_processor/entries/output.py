"""OUTPUT: the handler's result; the last one before END counts."""

from ...proto.generated import service_protocol_pb2 as wire
from .appending import Appending
from .entry import Entry
from .failures import failure_of


def _apply(chunk: Appending, output: wire.OutputCommand, _end: int) -> None:
    if output.HasField("failure"):
        chunk.output, chunk.failure = None, failure_of(output.failure)
    else:
        chunk.output, chunk.failure = output.value.content, None


OUTPUT = Entry(wire.OutputCommand.FromString, _apply)
