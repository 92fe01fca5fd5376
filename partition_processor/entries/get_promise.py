"""GET_PROMISE: wait until somebody has completed a promise."""

import msgspec

from ...core.protocol import messages
from ...proto.generated import service_protocol_pb2 as wire
from . import promises
from .appending import Appending
from .entry import WORKFLOWS, Entry, result_completion_id

_COMPLETION = messages.GET_PROMISE_COMPLETION


def _apply(chunk: Appending, command: wire.GetPromiseCommand, end: int) -> None:
    number = command.result_completion_id
    promise = promises.load(chunk, command.key)
    if promise.completed:
        chunk.complete(end, _COMPLETION, number, promise.value, promise.failure)
        return
    chunk.issue(number)
    waiters = (*promise.waiters, chunk.sink(number, _COMPLETION))
    promises.store(chunk, command.key, msgspec.structs.replace(promise, waiters=waiters))


GET_PROMISE = Entry(
    wire.GetPromiseCommand.FromString,
    _apply,
    result_completion_id,
    WORKFLOWS,
    promises.REFUSAL,
)
