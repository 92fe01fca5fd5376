"""Calls and sends to other handlers: their futures, and the invocations behind them."""

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from ..core.protocol import messages
from . import wire, wire_commands
from .durable_tasks import CommandFuture, DurableFuture, set_exception, set_result
from .errors import TerminalError
from .texts import short_text

if TYPE_CHECKING:
    from .attempt_base import AttemptBase

T = TypeVar("T")

CODE_TIMED_OUT = 408


class Target(msgspec.Struct, frozen=True, gc=False):
    """Whom to call and with what.

    Attributes:
        parameter: the request's body.
        key: of a virtual object or workflow; None for services.
    """

    service: str
    handler: str
    parameter: bytes
    key: str | None = None
    idempotency_key: str | None = None
    headers: Mapping[str, str] | None = None

    @property
    def name(self) -> str:
        """``Service/handler``, for messages."""
        return f"{self.service}/{self.handler}"


class Child:
    """An invocation that a handler has started.

    Attributes:
        cancel_wanted: it is to be cancelled as soon as its id is known.
        invocation_id: None until the node has told.
        future: of a call, its result; None for a send.
    """

    __slots__ = (
        "_asked",
        "_attempt",
        "_completion_id",
        "cancel_wanted",
        "future",
        "invocation_id",
    )

    def __init__(
        self, attempt: "AttemptBase", completion_id: int, future: CommandFuture[Any] | None
    ) -> None:
        """`completion_id` brings the invocation id."""
        self._attempt = attempt
        self._completion_id = completion_id
        self._asked: DurableFuture[str] | None = None
        self.cancel_wanted = False
        self.invocation_id: str | None = None
        self.future = future

    def id_future(self) -> DurableFuture[str]:
        """A future of the invocation id."""
        if self._asked is None or self._asked.cancelled():
            assert self._attempt.loop is not None
            self._asked = self._attempt.loop.make_future()
            if self.invocation_id is not None:
                set_result(self._asked, self.invocation_id)
        return self._asked

    def known(self, invocation_id: str) -> None:
        """The node has told the invocation id."""
        self.invocation_id = invocation_id
        if self._asked is not None and not self._asked.done():
            set_result(self._asked, invocation_id)
        if self.cancel_wanted:
            self._attempt.cancel_invocation(invocation_id)

    def cancel(self) -> None:
        """Ask the invocation to cancel itself, as soon as its id is known."""
        if self.invocation_id is not None:
            self._attempt.cancel_invocation(self.invocation_id)
        else:
            self.cancel_wanted = True

    @property
    def awaited_completion(self) -> int | None:
        """The completion that something waits for; None for none."""
        if self.invocation_id is not None:
            return None
        asked = self._asked is not None and not self._asked.done()
        return self._completion_id if asked or self.cancel_wanted else None


class Children:
    """The invocations that one attempt has started, in order."""

    __slots__ = ("_all", "_called")

    def __init__(self) -> None:
        """None yet."""
        self._all: dict[int, Child] = {}
        self._called: dict[int, Child] = {}

    def add(self, child: Child, id_completion: int, result_completion: int = 0) -> None:
        """A call or send was issued."""
        self._all[id_completion] = child
        if result_completion:
            self._called[result_completion] = child

    def take_id(self, completion_id: int, invocation_id: str) -> bool:
        """The id of a child has arrived; False when the completion belongs to none."""
        child = self._all.pop(completion_id, None)
        if child is not None:
            child.known(invocation_id)
        return child is not None

    def completed(self, completion_id: int) -> None:
        """The result of a call has arrived."""
        self._called.pop(completion_id, None)

    def cancel(self) -> None:
        """Cancel every called child that has not completed; those sent to are on their own."""
        for child in list(self._called.values()):
            child.cancel()

    def owe_cancellations(self) -> bool:
        """Whether some child is to be cancelled whose id has not come."""
        return any(child.cancel_wanted for child in self._all.values())

    def awaited(self) -> Iterator[int]:
        """The completions of invocation ids that something waits for."""
        for child in self._all.values():
            completion_id = child.awaited_completion
            if completion_id is not None:
                yield completion_id


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
    attempt: "AttemptBase", target: Target, read: Callable[[bytes], Any], timeout: timedelta | None
) -> RestateDurableCallFuture[Any]:
    """Call; the result is read by `read`.

    Not answered within `timeout`, the callee is cancelled and the future raises TerminalError 408.
    """
    machine, children = attempt.machine, attempt.children
    completions = (machine.completions + 1, machine.completions + 2)
    machine.completions += 2
    _check_size(target)
    body = wire_commands.call(
        target.service,
        target.handler,
        target.key,
        target.parameter,
        target.headers,
        target.idempotency_key,
        completions,
    )
    machine.command(messages.CALL_COMMAND, body, target.name)
    future: RestateDurableCallFuture[Any] = attempt.expect_command(
        RestateDurableCallFuture, f"the call of {target.name}", completions[1], read
    )
    future.child = child = Child(attempt, completions[0], future)
    children.add(child, *completions)
    if timeout is not None:
        _limit(attempt, future, target, timeout)
    return future


def _limit(
    attempt: "AttemptBase",
    future: RestateDurableCallFuture[Any],
    target: Target,
    timeout: timedelta,
) -> None:
    def expire() -> None:
        if not future.done():
            future.child.cancel()
            sentence = f"{target.name} did not answer within {timeout.total_seconds():g} s"
            set_exception(future, TerminalError(sentence, CODE_TIMED_OUT))

    assert attempt.loop is not None
    timer = attempt.loop.call_later(timeout.total_seconds(), expire)
    # Not by the future's own method, which takes it that somebody waits for the result.
    DurableFuture.add_done_callback(future, lambda _: timer.cancel())


def issue_send(attempt: "AttemptBase", target: Target, delay: timedelta | None) -> SendHandle:
    """Send, to be begun after `delay`."""
    machine, children = attempt.machine, attempt.children
    machine.completions += 1
    completion_id = machine.completions
    _check_size(target)
    body = wire_commands.one_way_call(
        target.service,
        target.handler,
        target.key,
        target.parameter,
        target.headers,
        target.idempotency_key,
        completion_id,
        attempt.wake_ms(delay) if delay else 0,
    )
    machine.command(messages.ONE_WAY_CALL_COMMAND, body, target.name)
    child = Child(attempt, completion_id, None)
    children.add(child, completion_id)
    return SendHandle(child)


def _check_size(target: Target) -> None:
    if len(target.parameter) > messages.ENTRY_BYTES_MAX:
        raise wire.too_large(f"the argument of {short_text(target.name)}", len(target.parameter))
