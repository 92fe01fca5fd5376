"""Tasks and futures of the durable loop: the same in every replay, down to their hash.

A set of tasks is walked in the order of their hashes, and by default a hash is an address: two
replays would cancel the tasks of one TaskGroup in different orders. Here it is a number that the
invocation and the order of creation decide.
"""

import asyncio
import sys
from asyncio import events
from collections.abc import Callable, Coroutine
from contextvars import Context
from types import CodeType, FrameType
from typing import Any, Final, TypeVar

from .errors import InvocationCancelledError, OutsideHandlerError
from .source_lines import caller_line

T = TypeVar("T")
C = TypeVar("C", bound="CommandFuture[Any]")


class Cancellation(str):
    """Why a whole handler is cancelled: the message that its awaits raise.

    Handed to `Task.cancel`, it goes down from the handler's own task through gathers, groups and
    child tasks to the futures that they wait for, which raise InvocationCancelledError for it.

    Attributes:
        status_code: of the error.
    """

    __slots__ = ("status_code",)

    status_code: int

    def __new__(cls, message: str, status_code: int) -> "Cancellation":
        """Take what the error says."""
        cancellation = super().__new__(cls, message)
        cancellation.status_code = status_code
        return cancellation


class DurableFuture(asyncio.Future[T]):
    """A future of the durable loop; see `make_future`.

    What ends it is refused from outside of the handler before it has changed anything: the base
    would mark itself as done first and only then find that nobody can be woken.
    """

    __slots__ = ("stable_hash",)

    stable_hash: int

    def __hash__(self) -> int:
        return self.stable_hash

    def set_result(self, result: T, /) -> None:
        """End with a result. Raises OutsideHandlerError."""
        refuse_outsiders(self.get_loop())
        super().set_result(result)

    def set_exception(self, exception: type | BaseException, /) -> None:
        """End with an exception. Raises OutsideHandlerError."""
        refuse_outsiders(self.get_loop())
        super().set_exception(exception)

    def cancel(self, msg: Any | None = None) -> bool:
        """End by cancelling. Raises OutsideHandlerError."""
        refuse_outsiders(self.get_loop())
        if isinstance(msg, Cancellation):
            if self.done():
                return False
            super().set_exception(InvocationCancelledError(str(msg), msg.status_code))
            self._log_traceback = False
            return True
        return super().cancel(msg)


class CommandFuture(DurableFuture[T]):
    """The future of a command that is worth a warning when nobody ever waits for it.

    Attributes:
        command: what was asked for, in words.
        line: where, as ``file:line``.
        awaited: whether somebody has waited for it.
    """

    __slots__ = ("awaited", "command", "line")

    command: str
    line: tuple[CodeType, int]
    awaited: bool

    def add_done_callback(
        self, fn: Callable[[Any], object], /, *, context: Context | None = None
    ) -> None:
        """As the base, and note that somebody waits."""
        self.awaited = True
        super().add_done_callback(fn, context=context)


class DurableTask(asyncio.Task[T]):
    """A task of the durable loop; see `make_task`."""

    __slots__ = ("stable_hash",)

    stable_hash: int

    def __hash__(self) -> int:
        return self.stable_hash

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel, as a part of the handler's own cancellation while that goes on."""
        if msg is None:
            msg = getattr(self.get_loop(), "cancellation", None)
        return super().cancel(msg)

    def forget(self) -> None:
        """Say that nobody will see this task's end, so that its destruction is not reported."""
        self._log_destroy_pending = False


# For the SDK itself, which ends futures between `enter` and `leave` only.
set_result: Final = asyncio.Future.set_result
set_exception: Final = asyncio.Future.set_exception

_get_running_loop = events._get_running_loop
_new_future: Final = DurableFuture.__new__
_init_future: Final = asyncio.Future.__init__
_new_task: Final = DurableTask.__new__
_init_task: Final = asyncio.Task.__init__


def make_future(loop: asyncio.AbstractEventLoop, stable_hash: int) -> DurableFuture[Any]:
    """A future that belongs to `loop`."""
    future: DurableFuture[Any] = _new_future(DurableFuture)
    future.stable_hash = stable_hash
    _init_future(future, loop=loop)
    return future


def make_command_future(
    kind: type[C], loop: asyncio.AbstractEventLoop, stable_hash: int, command: str, frame: FrameType
) -> C:
    """A future of a command that the code at `frame` has issued."""
    future = kind.__new__(kind)
    future.stable_hash = stable_hash
    future.command = command
    future.line = (frame.f_code, frame.f_lineno)
    future.awaited = False
    _init_future(future, loop=loop)
    return future


def make_task(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, Any],
    name: str,
    context: Context | None,
    stable_hash: int,
) -> DurableTask[Any]:
    """A task whose first step is scheduled on `loop`."""
    task: DurableTask[Any] = _new_task(DurableTask)
    # Before the base's initializer, which puts the task into a set at once.
    task.stable_hash = stable_hash
    _init_task(task, coroutine, loop=loop, name=name, context=context)
    return task


def refuse_outsiders(loop: asyncio.AbstractEventLoop) -> None:
    """Raise OutsideHandlerError unless `loop` is the one that runs in this thread now."""
    if _get_running_loop() is not loop:
        raise OutsideHandlerError(
            f"{caller_line(sys._getframe(1))}: a handler's tasks, futures and events cannot be "
            "touched from a step, a thread or a finalizer; return the value from the step"
        )


async def await_result(awaitable: Any) -> Any:
    """A coroutine for what can be awaited but is none, as `TaskGroup.create_task` wants one."""
    return await awaitable
