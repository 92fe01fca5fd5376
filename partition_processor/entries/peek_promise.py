"""PEEK_PROMISE: look whether a promise is completed."""

from ...core.protocol import messages
from ...proto.generated import service_protocol_pb2 as wire
from . import promises
from .appending import Appending
from .entry import WORKFLOWS, Entry, result_completion_id


def _apply(chunk: Appending, command: wire.PeekPromiseCommand, end: int) -> None:
    promise = promises.load(chunk, command.key)
    chunk.complete(
        end,
        messages.PEEK_PROMISE_COMPLETION,
        command.result_completion_id,
        promise.value,
        promise.failure,
    )


PEEK_PROMISE = Entry(
    wire.PeekPromiseCommand.FromString,
    _apply,
    result_completion_id,
    WORKFLOWS,
    promises.REFUSAL,
)
