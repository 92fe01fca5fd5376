"""What a handler's context asks of its attempt: futures, steps, and where they stand."""

import asyncio
import contextvars
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, Protocol, TypeVar

from . import vm
from .children import Children, cancel_invocation
from .durable_loop import DurableLoop
from .durable_tasks import Cancellation, CommandFuture, DurableFuture, set_result
from .errors import OutsideHandlerError
from .handlers import Handler
from .signals import Signals
from .source_lines import calling_frame
from .steps import CURRENT_OF_STEP, RunOptions, Step

C = TypeVar("C", bound=CommandFuture[Any])

_MICROSECOND: Final = timedelta(microseconds=1)


class NodeTime(Protocol):
    """What contexts ask of whoever runs the attempt."""

    def node_time_ns(self) -> int:
        """The node's wall clock, as well as it is known, in nanoseconds since 1970."""
        ...


class AttemptBase:
    """One attempt, as contexts, steps and handlers in threads see it; `Attempt` drives it.

    Attributes:
        stream: the session's number for it.
        number: (epoch, attempt) of the invocation; the higher one is the younger.
        ended: nothing more will be sent or done.
        random: the invocation's generator of chance; None before the handler asks for it.
    """

    __slots__ = (
        "_cancellation",
        "_children",
        "_end_waiters",
        "_handler",
        "_host",
        "_pending",
        "_root",
        "_signals",
        "_steps",
        "_time_ahead_ns",
        "ended",
        "loop",
        "machine",
        "number",
        "random",
        "stream",
    )

    def __init__(
        self, handler: Handler, host: NodeTime, stream: int = 0, number: tuple[int, int] = (0, 0)
    ) -> None:
        """Wait for frames."""
        self._handler = handler
        self._host: NodeTime = host
        self.stream = stream
        self.number = number
        self.machine = vm.Machine()
        self.loop: DurableLoop | None = None
        self.ended = False
        self._root: Any = None
        # Completion id to the future that waits for it and how to read its value.
        self._pending: dict[int, tuple[DurableFuture[Any], Callable[[bytes], Any]]] = {}
        self._steps: dict[int, Step] = {}
        self._children: Children | None = None
        self._signals: Signals | None = None
        self._cancellation: Cancellation | None = None
        # None while there are none, as is so for almost every attempt.
        self._end_waiters: list[asyncio.Future[None]] | None = None
        self.random: Any = None
        # By how much the time that sleeps are counted by is ahead of what the host takes it to be.
        self._time_ahead_ns = 0

    # What `Attempt` does

    def finish_step(
        self, step: Step, value: Any, error: BaseException | None, elapsed_ns: int
    ) -> None:
        """A step's closure has returned or raised."""
        raise NotImplementedError

    def go_on(self) -> None:
        """Step on, because the thread of a `def` handler has asked for something."""
        raise NotImplementedError

    def give_way(self) -> None:
        """Suspend as soon as that is possible, because others need the handler's thread."""
        raise NotImplementedError

    # What contexts ask

    def told_time(self, time_ns: int) -> None:
        """The node tells by what time it counts the invocation's sleeps now; 0 where it does not.

        Its clock may have been set since the greeting, and partitions go on by what their logs say.
        """
        if time_ns:
            self._time_ahead_ns = time_ns - self._host.node_time_ns()

    def now_ns(self, loop: DurableLoop) -> int:
        """The node's time, in nanoseconds since 1970."""
        # No record is younger than now, whatever the estimate says.
        return max(loop.time_ns, self._host.node_time_ns() + self._time_ahead_ns)

    def refuse_outsider(self) -> None:
        """Raise OutsideHandlerError: something used the context while its handler did not run.

        After the attempt's end only so often, as `Machine.command` does.
        """
        if self.ended and not self.machine.refuse():
            return
        raise OutsideHandlerError(
            f"the context of {self._handler.target} was used in a step, a thread, a finalizer or "
            "after the end; only the handler's own tasks may use it"
        )

    def expect(self, completion_id: int, read: Callable[[bytes], Any]) -> DurableFuture[Any]:
        """A future for a completion."""
        assert self.loop is not None
        future = self.loop.make_future()
        self._pending[completion_id] = (future, read)
        return future

    def expect_command(
        self, kind: type[C], command: str, completion_id: int, read: Callable[[bytes], Any]
    ) -> C:
        """A future for a completion, which warns when nobody waits for it."""
        future = self.command_future(kind, command)
        self._pending[completion_id] = (future, read)
        return future

    def command_future(self, kind: type[C], command: str) -> C:
        """A future that knows `command` and the line that issued it."""
        assert self.loop is not None
        return self.loop.make_command_future(kind, command, calling_frame(sys._getframe(1)))

    @property
    def children(self) -> Children:
        """The invocations that the handler has started."""
        if self._children is None:
            self._children = Children()
        return self._children

    @property
    def signals(self) -> Signals:
        """The signals that the handler waits for or has been sent."""
        if self._signals is None:
            self._signals = Signals()
        return self._signals

    def cancel_invocation(self, invocation_id: str) -> None:
        """Ask another invocation to cancel itself."""
        cancel_invocation(self.machine, invocation_id)

    def wake_ms(self, delay: timedelta) -> int:
        """The time `delay` from now, by the node's clock, in milliseconds since 1970."""
        assert self.loop is not None
        wake_ns = self.now_ns(self.loop) + max(delay, timedelta()) // _MICROSECOND * 1000
        return -(-wake_ns // 1_000_000)

    def node_time(self) -> float:
        """Seconds since 1970 by the node's clock; for steps, because it differs in a replay."""
        return (self._host.node_time_ns() + self._time_ahead_ns) / 1e9

    def when_ended(self, waiter: "asyncio.Future[None]") -> None:
        """Resolve a future of another loop when the attempt has ended."""
        if self._end_waiters is None:
            self._end_waiters = []
        self._end_waiters.append(waiter)

    def known(self, value: Any) -> DurableFuture[Any]:
        """A future that has its value."""
        assert self.loop is not None
        future = self.loop.make_future()
        set_result(future, value)
        return future

    def run(
        self,
        name: str,
        action: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        options: RunOptions[Any],
        serde: Any,
    ) -> DurableFuture[Any]:
        """Issue a step; its closure starts when the handler is blocked with nothing stored left."""
        completion_id, command_index, stored = self.machine.run(name)
        future = self.expect(completion_id, serde.deserialize)
        variables = contextvars.copy_context()
        assert self.loop is not None
        variables.run(CURRENT_OF_STEP.set, self.loop.current)
        self._steps[completion_id] = Step(
            self,
            name,
            action,
            arguments,
            keywords,
            options,
            serde,
            future,
            completion_id,
            command_index,
            stored,
            variables,
        )
        return future
