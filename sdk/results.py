"""Results: what a notification brings to a future, and a handler's end to its caller."""

import asyncio
from collections.abc import Callable
from typing import Any

from ..core.protocol import messages
from ..proto.generated import service_protocol_pb2 as pb
from . import vm, wire
from .durable_tasks import Cancellation, DurableFuture, set_exception, set_result
from .errors import RetryableError, SerializationError, TerminalError
from .handlers import Handler
from .texts import message_of, short_text, stacktrace_of


def unreadable(error: Exception) -> SerializationError:
    """What a future raises whose value could not be read."""
    return SerializationError(f"a stored value cannot be read any more: {error}")


def end_future(
    future: DurableFuture[Any],
    notification: pb.Notification,
    read: Callable[[bytes], Any] = bytes,
) -> None:
    """End a future as a notification says, a value read by `read`."""
    result = notification.WhichOneof("result")
    if result == "value":
        try:
            set_result(future, read(notification.value.content))
        except Exception as error:
            set_exception(future, unreadable(error))
    elif result == "failure":
        failure = notification.failure
        metadata = {pair.key: pair.value for pair in failure.metadata}
        set_exception(future, TerminalError(failure.message, failure.code, metadata or None))
    elif result == "state_keys":
        set_result(future, [key.decode() for key in notification.state_keys.keys])
    else:
        set_result(future, None)


def end_handler(
    machine: vm.Machine,
    handler: Handler,
    ended: "asyncio.Task[Any]",
    cancellation: Cancellation | None,
) -> bool:
    """Send what a handler has returned or raised; True when it has returned.

    `cancellation` is the one that it got, if any.
    """
    try:
        value = ended.result()
    except BaseException as error:
        _raised(machine, error, cancellation)
        return False
    try:
        body = handler.output_serde.serialize(value)
    except SerializationError as unwritable:
        machine.fail(vm.CODE_INTERNAL, f"[{unwritable.code}] {handler.target}: {unwritable}")
        return True
    if len(body) > messages.ENTRY_BYTES_MAX:
        too_large = wire.too_large(f"the answer of {short_text(handler.target)}", len(body))
        _raised(machine, too_large, cancellation)
        return True
    machine.succeed(body)
    return True


def ended_for_good(ended: "asyncio.Task[Any]", cancellation: Cancellation | None) -> bool:
    """Whether a handler has returned or failed terminally, so that it is not tried again."""
    try:
        ended.result()
    except BaseException as error:
        return _terminal_of(error, cancellation) is not None
    return True


def _raised(machine: vm.Machine, error: BaseException, cancellation: Cancellation | None) -> None:
    terminal = _terminal_of(error, cancellation)
    if terminal is not None:
        machine.fail_terminally(terminal.status_code, terminal.message, terminal.metadata)
    elif isinstance(error, RetryableError):
        machine.fail(
            error.status_code,
            message_of(error),
            stacktrace_of(error),
            retry_after=error.retry_after,
        )
    else:
        machine.fail(vm.CODE_INTERNAL, message_of(error), stacktrace_of(error))


def _terminal_of(error: BaseException, cancellation: Cancellation | None) -> TerminalError | None:
    """What a handler fails with for good, None when it is to be tried again."""
    if isinstance(error, TerminalError):
        return error
    if isinstance(error, asyncio.CancelledError) and cancellation is not None:
        # A future of the standard library's own passes a cancellation on without its reason.
        return TerminalError(str(cancellation), cancellation.status_code)
    # A TaskGroup in which only terminal errors happened has failed for good too.
    if isinstance(error, BaseExceptionGroup):
        leaves = [_terminal_of(inner, None) for inner in error.exceptions]
        if all(leaf is not None for leaf in leaves):
            return leaves[0]
    return None
