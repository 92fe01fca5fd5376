"""Calls and sends to other handlers: their futures, and the invocations behind them."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from ..core.protocol import messages
from . import wire, wire_commands
from .attempt_base import AttemptBase
from .children import Child
from .durable_loop import DurableLoop
from .durable_tasks import CommandFuture, DurableFuture, set_exception
from .errors import TerminalError
from .texts import short_text
from .wire_commands import Target

T = TypeVar("T")

CODE_TIMED_OUT = 408


class RestateDurableCallFuture(CommandFuture[T]):
    """The result of a call, to be awaited, gathered or given to tasks."""

    __slots__ = ("child",)

    child: Child

    async def invocation_id(self) -> str:
        """The id of the invocation that was called."""
        self.awaited = True
        return await self.child.id_future()

    async def cancel_invocation(self) -> None:
        """Ask the invocation that was called to cancel itself."""
        await self.invocation_id()
        self.child.cancel()


class SendHandle:
    """What a send gives: a way to the invocation that it started."""

    __slots__ = ("_child",)

    def __init__(self, child: Child) -> None:
        """Stand for one send; made by the SDK."""
        self._child = child

    async def invocation_id(self) -> str:
        """The id of the invocation that was started."""
        return await self._child.id_future()

    async def cancel_invocation(self) -> None:
        """Ask the invocation that was started to cancel itself."""
        await self.invocation_id()
        self._child.cancel()


def issue_call(
    attempt: AttemptBase, target: Target, read: Callable[[bytes], Any], timeout: timedelta | None
) -> RestateDurableCallFuture[Any]:
    """Call; the result is read by `read`.

    Not answered within `timeout`, the callee is cancelled and the future raises TerminalError 408.
    """
    loop, machine, children = attempt.loop, attempt.machine, attempt.children
    assert loop is not None
    completions = (machine.completions + 1, machine.completions + 2)
    machine.completions += 2
    _check_size(target)
    body = wire_commands.call(
        target,
        completions,
    )
    machine.command(messages.CALL_COMMAND, body, target.name)
    future: RestateDurableCallFuture[Any] = attempt.expect_command(
        RestateDurableCallFuture, f"the call of {target.name}", completions[1], read
    )
    future.child = child = Child(loop, machine, completions[0], future)
    children.add(child, *completions)
    if timeout is not None:
        _limit(loop, future, target, timeout)
    return future


def _limit(
    loop: DurableLoop,
    future: RestateDurableCallFuture[Any],
    target: Target,
    timeout: timedelta,
) -> None:
    def expire() -> None:
        if not future.done():
            future.child.cancel()
            sentence = f"{target.name} did not answer within {timeout.total_seconds():g} s"
            set_exception(future, TerminalError(sentence, CODE_TIMED_OUT))

    timer = loop.call_later(timeout.total_seconds(), expire)
    # Not by the future's own method, which takes it that somebody waits for the result.
    DurableFuture.add_done_callback(future, lambda _: timer.cancel())


def issue_send(attempt: AttemptBase, target: Target, delay: timedelta | None) -> SendHandle:
    """Send, to be begun after `delay`."""
    loop, machine, children = attempt.loop, attempt.machine, attempt.children
    assert loop is not None
    machine.completions += 1
    completion_id = machine.completions
    _check_size(target)
    body = wire_commands.one_way_call(
        target,
        completion_id,
        attempt.wake_ms(delay) if delay else 0,
    )
    machine.command(messages.ONE_WAY_CALL_COMMAND, body, target.name)
    child = Child(loop, machine, completion_id, None)
    children.add(child, completion_id)
    return SendHandle(child)


def _check_size(target: Target) -> None:
    if len(target.parameter) > messages.ENTRY_BYTES_MAX:
        raise wire.too_large(f"the argument of {short_text(target.name)}", len(target.parameter))
