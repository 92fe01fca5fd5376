"""The event loop that a handler runs on: tiny, and the same in every replay.

It owns nothing but a queue of callbacks. Whoever drives it does so from a plain callback of the
real event loop, never inside a Task (Python 3.14 has one current task per thread): `enter`, then
`run_ready` until the handler is blocked, then one more notification, and so on, then `leave`.
Between `leave` and `enter` nothing may be scheduled here, which is what keeps steps, threads and
finalizers from reaching into a handler behind its journal.
"""

import asyncio
import gc
import inspect
import logging
import math
import sys
from asyncio import events
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextvars import Context
from types import FrameType
from typing import Any, Final, TypeVar, cast

from .durable_tasks import (
    Cancellation,
    CommandFuture,
    DurableFuture,
    DurableTask,
    await_result,
    make_command_future,
    make_future,
    make_task,
    refuse_outsiders,
)
from .errors import AttemptEnded, ForbiddenCallError, HandlerDeadlockedError, OutsideHandlerError
from .forbidden import ReplayableCallsOnly
from .source_lines import caller_line, waiting_line

T = TypeVar("T")
C = TypeVar("C", bound=CommandFuture[Any])

CALLBACKS_WARN: Final = 100_000
CALLBACKS_MAX: Final = 500_000
"""In one turn; a worker does nothing else in the second or two that they take."""
UNWIND_CALLBACKS_MAX: Final = 10_000
GENERATOR_CLOSING_AWAITS_MAX: Final = 100
LEFT_BEHIND_MAX: Final = 1000
# Bits of a task's hash: `hash` of a larger number would be folded.
_HASH_MASK: Final = (1 << 60) - 1
_KEPT_BEFORE_PRUNING: Final = 256

logger = logging.getLogger("perdure.sdk")

_get_running_loop = events._get_running_loop
_set_running_loop = events._set_running_loop
_AS_COMPLETED_NAMES: Final = frozenset(("as_completed", "_AsCompletedIterator.__init__"))
_ENSURE_FUTURE_FILE: Final = asyncio.tasks.__file__


class DurableTimer(asyncio.TimerHandle):
    """A timer of the durable loop.

    Attributes:
        sleeping: the future of the sleep that it has become; None before, for most for ever.
    """

    __slots__ = ("sleeping",)

    sleeping: DurableFuture[None] | None

    def __init__(
        self,
        when: float,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        loop: asyncio.AbstractEventLoop,
        context: Context | None,
    ) -> None:
        """Not yet a sleep; `when` is in seconds since 1970."""
        super().__init__(when, callback, args, loop, context)
        self.sleeping = None

    def sleep(self, future: DurableFuture[None]) -> None:
        """Run the callback when the sleep is over."""
        self.sleeping = future
        future.add_done_callback(self._woken)

    def _woken(self, future: "asyncio.Future[None]") -> None:
        if not future.cancelled() and not self.cancelled():
            self._run()


class DurableLoop(ReplayableCallsOnly):
    """The event loop of one attempt of one invocation.

    Attributes:
        time_ns: what `time` tells, the largest record time seen; set by the driver.
        halted: nothing runs any more, because the attempt has failed.
        timers: made since the driver has looked last, in order; None for none.
        current: the context of the handler that runs here; None when none does.
        cancellation: why the handler is cancelled, while its tasks are told; else None.
    """

    def __init__(self, seed: int, context: Context | None = None) -> None:
        """Number tasks and futures from `seed` on; callbacks start in `context`."""
        self._ready: deque[asyncio.Handle] = deque()
        self._next_hash = seed & _HASH_MASK
        self._tasks: list[DurableTask[Any]] = []
        self._created = 0
        self._generators: list[AsyncGenerator[Any, Any]] = []
        self._variables = Context() if context is None else context
        self._outer: asyncio.AbstractEventLoop | None = None
        self._outer_hooks: Any = None
        self._collecting = False
        self.current: Any = None
        self.timers: list[DurableTimer] | None = None
        self.cancellation: Cancellation | None = None
        self.time_ns = 0
        self.halted = False

    # Driving

    def enter(self) -> None:
        """Become the running loop. Every call is paired with `leave`."""
        self._outer = _get_running_loop()
        self._outer_hooks = sys.get_asyncgen_hooks()
        # While a handler runs, finalizers run when the last reference goes, which is the same in
        # every replay, and never when the collector happens to come by.
        self._collecting = gc.isenabled()
        gc.disable()
        sys.set_asyncgen_hooks(self._generators_started, _leave_generator_alone)
        _set_running_loop(self)

    def leave(self) -> None:
        """Give way to the loop that ran before."""
        _set_running_loop(self._outer)
        sys.set_asyncgen_hooks(*self._outer_hooks)
        if self._collecting:
            gc.enable()
        self._outer = None

    def run_ready(self, callbacks_max: int | None = None) -> int:
        """Run callbacks until none is ready; returns how many ran. Only between enter and leave.

        Raises HandlerDeadlockedError for a handler that never comes to wait.
        """
        ready = self._ready
        count = 0
        while ready and not self.halted:
            ready.popleft()._run()
            count += 1
            if count == callbacks_max:
                break
            if count == CALLBACKS_WARN:
                logger.warning(
                    "handler ran %d callbacks without blocking; its tasks are at %s",
                    count,
                    self._lines(),
                )
            if count == CALLBACKS_MAX:
                raise HandlerDeadlockedError(
                    f"handler went on for {count} callbacks and waits for nothing durable, while "
                    f"nobody else has a turn. Its tasks are at {self._lines()}"
                )
        return count

    def _lines(self) -> str:
        return ", ".join(waiting_line(task.get_coro()) for task in self.unfinished())

    def start(self, coroutine: Any, name: str) -> DurableTask[Any]:
        """Make the handler's own task."""
        return self._make_task(coroutine, name, self._variables)

    @property
    def running(self) -> bool:
        """Whether this loop is the running one in the calling thread."""
        return _get_running_loop() is self

    def unfinished(self) -> list[DurableTask[Any]]:
        """The tasks that are not done, in creation order."""
        return [task for task in self._tasks if not task.done()]

    def unwind(self) -> None:
        """Cancel every task and close every generator, in creation order; then let go of them.

        The caller has made sure that nothing durable can be done any more.
        """
        if not self.settle():
            self.halted = False
            self.cancellation = None
            for task in self.unfinished():
                task.cancel()
            self.run_ready(UNWIND_CALLBACKS_MAX)
            for generator in self._generators:
                _close_generator(generator)
            for task in self.unfinished():
                task.forget()
                _close_coroutine(task.get_coro())
            self._generators.clear()
            self._ready.clear()
            self._tasks.clear()
        self.halted = True

    def settle(self) -> bool:
        """End at once where nothing is left to unwind, as is so for most handlers."""
        tasks = self._tasks
        if self._ready or self._generators or len(tasks) != 1 or not tasks[0].done():
            return False
        tasks.clear()
        self.halted = True
        return True

    # What handlers and asyncio call

    def time(self) -> float:
        """Seconds since 1970: the time of the newest record that this handler has seen."""
        return self.time_ns / 1e9

    def call_soon(  # type: ignore[override]  # the base types it by a type variable tuple
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Run a callback before the handler counts as blocked."""
        if _get_running_loop() is not self:
            refuse_outsiders(self)
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]  # as `call_soon`
        self,
        delay: float,
        callback: Callable[..., Any],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run a callback in `delay` seconds: a durable sleep, once the handler is blocked."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]  # as `call_soon`
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """As `call_later`, at a time that `time` will tell. Infinity is never.

        Raises ValueError for what is no number.
        """
        if _get_running_loop() is not self:
            refuse_outsiders(self)
        if math.isnan(when):
            raise ValueError("a timer needs a time; nan is none")
        timer = DurableTimer(when, callback, args, self, context)
        if when < math.inf:
            if self.timers is None:
                self.timers = []
            self.timers.append(timer)
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        sleeping = handle.sleeping if isinstance(handle, DurableTimer) else None
        if sleeping is not None and not sleeping.done() and self.running:
            sleeping.cancel()

    def create_future(self) -> asyncio.Future[Any]:
        """A future with a hash that is the same in every replay."""
        return self.make_future()

    def make_future(self) -> DurableFuture[Any]:
        """As `create_future`, for the SDK itself."""
        stable_hash = self._next_hash
        self._next_hash = stable_hash + 1
        return make_future(self, stable_hash)

    def make_command_future(self, kind: type[C], command: str, frame: FrameType) -> C:
        """A future of a command, which warns when nobody waits for it."""
        stable_hash = self._next_hash
        self._next_hash = stable_hash + 1
        return make_command_future(kind, self, stable_hash, command, frame)

    def create_task(
        self, coro: Any, *, name: object = None, context: Context | None = None, **options: Any
    ) -> asyncio.Task[Any]:
        """A task with a hash that is the same in every replay."""
        frame = sys._getframe(1)
        if _get_running_loop() is not self:
            raise OutsideHandlerError(
                f"{caller_line(frame)}: tasks of a handler are made by the handler only"
            )
        if options.get("eager_start"):
            raise ForbiddenCallError(f"{caller_line(frame)}: eager tasks do not run in handlers")
        if frame.f_code.co_filename == _ENSURE_FUTURE_FILE:
            _refuse_as_completed(frame)
        if isinstance(coro, DurableFuture):
            coro = await_result(coro)
        return self._make_task(coro, None if name is None else str(name), context)

    def _make_task(self, coro: Any, name: str | None, context: Context | None) -> DurableTask[Any]:
        stable_hash = self._next_hash
        self._next_hash = stable_hash + 1
        self._created += 1
        tasks = self._tasks
        if len(tasks) >= _KEPT_BEFORE_PRUNING:
            tasks[:] = self.unfinished()
        task = make_task(
            self, coro, f"task-{self._created}" if name is None else name, context, stable_hash
        )
        tasks.append(task)
        return task

    def is_running(self) -> bool:
        """Whether a handler is being stepped on this loop now."""
        return self.running

    def is_closed(self) -> bool:
        """Always False: the loop ends with its attempt."""
        return False

    def get_debug(self) -> bool:
        """Always False."""
        return False

    def get_task_factory(self) -> None:
        """None: the loop makes its own tasks."""

    def get_exception_handler(self) -> None:
        """None: `call_exception_handler` logs."""

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log what `call_exception_handler` was told."""
        logger.error(
            "%s", context.get("message", "unhandled exception"), exc_info=context.get("exception")
        )

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Log an exception that no task took, unless the attempt's end has said it already."""
        if not isinstance(context.get("exception"), AttemptEnded):
            self.default_exception_handler(context)

    def _generators_started(self, generator: AsyncGenerator[Any, Any]) -> None:
        generators = self._generators
        if len(generators) >= _KEPT_BEFORE_PRUNING:
            generators[:] = [kept for kept in generators if cast("Any", kept).ag_frame is not None]
        generators.append(generator)


_left_behind: Final[deque[Any]] = deque(maxlen=LEFT_BEHIND_MAX)
"""Coroutines that do not let themselves be closed: kept, because to drop one is to wake it."""

new_loop: Callable[[int], DurableLoop] = DurableLoop
"""Makes the loop of one attempt from its seed; a type checker misses what `forbidden` defines."""


def _leave_generator_alone(_generator: AsyncGenerator[Any, Any]) -> None:
    """No finalizer of a generator runs user code; the loop holds all of them until the end."""


def _close_generator(generator: AsyncGenerator[Any, Any]) -> None:
    closing = generator.aclose()
    try:
        for _ in range(GENERATOR_CLOSING_AWAITS_MAX):
            closing.send(None)  # what it waits for never comes: the attempt has ended
            closing.throw(asyncio.CancelledError())
    except BaseException as ending:
        if isinstance(ending, Exception) and not isinstance(ending, StopIteration):
            logger.warning("closing an async generator of a handler failed", exc_info=ending)


def _close_coroutine(coroutine: Any) -> None:
    try:
        coroutine.close()
    except Exception:
        if inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED:
            logger.warning("a handler's task failed when its attempt ended", exc_info=True)
            return
        logger.error(
            "a handler swallows the end of its attempt and waits on at %s; it is left behind. Let "
            "exceptions pass that `except Exception` would not catch",
            waiting_line(coroutine),
        )
        _left_behind.append(coroutine)


def _refuse_as_completed(frame: Any) -> None:
    # as_completed puts coroutines into a set, whose order is that of their addresses.
    for _ in range(4):
        if frame is None or frame.f_code.co_filename != _ENSURE_FUTURE_FILE:
            return
        code = frame.f_code
        if getattr(code, "co_qualname", code.co_name) in _AS_COMPLETED_NAMES:
            raise ForbiddenCallError(
                f"{caller_line(frame)}: asyncio.as_completed starts coroutines in an order that "
                "a replay does not repeat; use perdure.sdk.as_completed"
            )
        frame = frame.f_back
