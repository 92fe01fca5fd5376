"""COMPLETE_PROMISE: the first one to complete a promise wakes those that wait for it."""

from ...core.protocol import messages
from ...proto.generated import service_protocol_pb2 as wire
from ..records import respond_to
from ..tables.invocations import Failure
from ..tables.promises import Promise
from . import promises
from .appending import Appending
from .entry import WORKFLOWS, Entry, result_completion_id
from .failures import failure_of

CODE_COMPLETED_BEFORE = 409


def _apply(chunk: Appending, command: wire.CompletePromiseCommand, end: int) -> None:
    number = command.result_completion_id
    promise = promises.load(chunk, command.key)
    if promise.completed:
        failure = Failure(
            CODE_COMPLETED_BEFORE, f"promise {command.key[:100]!r} is completed already"
        )
        chunk.complete(end, messages.COMPLETE_PROMISE_COMPLETION, number, None, failure)
        return
    if command.HasField("completion_failure"):
        completed = Promise(True, None, failure_of(command.completion_failure))
    else:
        completed = Promise(True, command.completion_value.content, None)
    promises.store(chunk, command.key, completed)
    chunk.complete(end, messages.COMPLETE_PROMISE_COMPLETION, number)
    for sink in promise.waiters:
        chunk.context.deliver(respond_to(sink, completed.value, completed.failure))


COMPLETE_PROMISE = Entry(
    wire.CompletePromiseCommand.FromString,
    _apply,
    result_completion_id,
    WORKFLOWS,
    promises.REFUSAL,
)
