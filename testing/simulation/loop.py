"""SimulationLoop: an asyncio event loop on a virtual clock, without threads, files and sockets.

Time stands still while something is ready, but for a few microseconds per turn, and jumps to the
next timer when nothing is. The same program on the same seed does the same things in the same
order: tasks and futures hash to the number of their making, so that sets of them iterate alike.
"""

import asyncio
import heapq
import threading
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Final, TypeVar

from ...core.random import Random
from .outside import NothingOutside, OutsideSimulationError
from .processes import PROCESS, Process

T = TypeVar("T")

TURN_NS: Final = 20_000
"""What a turn of the loop costs in virtual time: whoever spins until a timer fires gets there."""

WALL_START_NS: Final = 1_700_000_000_000_000_000
_MONOTONIC_START_NS: Final = 1_000_000_000_000
_WAITS_MAX: Final = 100
"""A coroutine that has waited so often while it was closed is left to the collector."""

_UNWIND_NS: Final = 60_000_000_000


class SimulationStalledError(AssertionError):
    """Nothing is ready, no timer is set, or the time is up, and the program has not ended."""


class _Task(asyncio.Task[Any]):
    """A task whose hash is its number."""

    def __init__(
        self, number: int, coroutine: Any, *, context: Context | None, **options: Any
    ) -> None:
        # Before anything else: making a task puts it into a set.
        self.number = number
        self.process = PROCESS.get() if context is None else context.get(PROCESS)
        super().__init__(coroutine, context=context, **options)

    def __hash__(self) -> int:
        return self.number


class _Future(asyncio.Future[Any]):
    """A future whose hash is its number."""

    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self.number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self.number


class SimulationLoop(NothingOutside):
    """Runs callbacks and timers in one order; calls that reach outside raise.

    Attributes:
        now_ns: virtual time since the loop was made, in ns.
        failure: what the first callback that failed raised, None while all is well.
    """

    def __init__(
        self,
        *,
        jitter: Random | None = None,
        jitter_ns_max: int = 0,
    ) -> None:
        """Start at time 0; `jitter` draws how late each timer is, `jitter_ns_max` at most."""
        self.now_ns = 0
        self.failure: BaseException | None = None
        self._jitter = jitter
        self._jitter_ns_max = jitter_ns_max
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[int, int, asyncio.TimerHandle]] = []
        self._number = 0
        self._thread = threading.get_ident()
        self._running = False
        self._stopping = False
        self._closed = False
        self._debug = False
        self._quiet = False
        self._task_factory: Any = None

    # Running -------------------------------------------------------------------------------------

    def run_until_complete(self, future: Any, *, until_ns: int | None = None) -> Any:
        """Run until a coroutine or future is done and give its result.

        Raises what it raises, what a callback raised first, and SimulationStalledError when it
        cannot get done, or not before the virtual time `until_ns`.
        """
        self._check_open()
        task = future if asyncio.isfuture(future) else self.create_task(future, name="main")
        # Whoever looks at the result is the caller, even when a callback fails first.
        task.add_done_callback(_look_at)
        self._run(lambda: bool(task.done()), until_ns)
        return task.result()

    def run_forever(self) -> None:
        """Run until `stop` is called."""
        self._check_open()
        self._run(lambda: False, None)

    def _run(self, done: Callable[[], bool], until_ns: int | None) -> None:
        if self._running or events._get_running_loop() is not None:
            raise RuntimeError("a loop is running already")
        self._running = True
        events._set_running_loop(self)
        try:
            while not done() and not self._stopping:
                self._turn(until_ns)
                if self.failure is not None:
                    raise self.failure
        finally:
            self._stopping = False
            self._running = False
            events._set_running_loop(None)

    def _turn(self, until_ns: int | None) -> None:
        ready = self._ready
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        now_ns = self.now_ns + TURN_NS
        if not ready:
            if not timers:
                raise SimulationStalledError(
                    f"nothing is ready and no timer is set; these wait: {self.describe_tasks()}"
                )
            now_ns = max(now_ns, timers[0][0])
        if until_ns is not None and now_ns > until_ns:
            raise SimulationStalledError(
                f"not done after {until_ns / 1e9:g} virtual seconds; these wait: "
                f"{self.describe_tasks()}"
            )
        self.now_ns = now_ns
        while timers and timers[0][0] <= now_ns:
            handle = heapq.heappop(timers)[2]
            if not handle.cancelled():
                ready.append(handle)
        for _ in range(len(ready)):
            handle_ready = ready.popleft()
            if handle_ready.cancelled():
                continue
            process = handle_ready._context.get(PROCESS)  # type: ignore[attr-defined]
            if process is not None and process.stopped:
                process.held.append(handle_ready)
                continue
            handle_ready._run()
            if self.failure is not None:
                return

    def describe_tasks(self) -> str:
        """Where every task that has not ended stands, in the order of their making."""
        tasks = sorted(asyncio.all_tasks(self), key=hash)
        return "; ".join(f"{task.get_name()} at {_place(task)}" for task in tasks) or "no task"

    def cancel_all(self, *, until_ns: int | None = None) -> None:
        """Cancel every task that has not ended and run until all have."""
        for _ in range(100):
            tasks = sorted(filter(_can_end, asyncio.all_tasks(self)), key=hash)
            if not tasks:
                return
            for task in tasks:
                task.cancel()
            self.run_until_complete(asyncio.wait(tasks), until_ns=until_ns)

    def unwind(self) -> None:
        """After a failure: end the tasks as far as they let themselves be ended, quietly."""
        self.failure = None
        self._quiet = True
        for process in {task.process: None for task in self._tasks() if task.process is not None}:
            process.unwind(self)
        try:
            self.cancel_all(until_ns=self.now_ns + _UNWIND_NS)
        except (SimulationStalledError, asyncio.CancelledError) as error:
            del error
        for task in self._tasks():
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            _close(task)

    def tasks_of(self, process: Process) -> list[asyncio.Task[Any]]:
        """The tasks of a process that have not ended, in the order of their making."""
        return [task for task in self._tasks() if task.process is process]

    def _tasks(self) -> list[_Task]:
        tasks = [task for task in asyncio.all_tasks(self) if isinstance(task, _Task)]
        return sorted(tasks, key=hash)

    def stop(self) -> None:
        """End `run_forever` after this turn."""
        self._stopping = True

    def is_running(self) -> bool:
        """Whether it runs now."""
        return self._running

    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def close(self) -> None:
        """Drop what has not run; closing twice does nothing."""
        if self._running:
            raise RuntimeError("a running loop cannot be closed")
        self._closed = True
        self._ready.clear()
        self._timers.clear()

    async def shutdown_asyncgens(self) -> None:
        """Nothing to do: generators end with their last reference."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Nothing to do: there is no executor."""

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the event loop is closed")

    # Callbacks and timers ------------------------------------------------------------------------

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self.now_ns / 1e9

    def call_soon(  # type: ignore[override]  # the base types it by a type variable tuple
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Run a callback in the next turn."""
        self._check_open()
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """As `call_soon`. Raises OutsideSimulationError in any thread but the loop's own."""
        if threading.get_ident() != self._thread:
            raise OutsideSimulationError(
                "a thread wants to wake the simulated loop: when it does so cannot be repeated; "
                "let the loop do the work, with a virtual delay"
            )
        return self.call_soon(callback, *args, context=context)

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., Any],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run a callback after `delay` virtual seconds."""
        return self.call_at_ns(self.now_ns + round(delay * 1e9), callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run a callback at a time of this loop's clock, in seconds."""
        return self.call_at_ns(round(when * 1e9), callback, *args, context=context)

    def call_at_ns(
        self, when_ns: int, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run a callback once `now_ns` is at `when_ns` or later."""
        self._check_open()
        if self._jitter is not None:
            when_ns += int(self._jitter.fraction() * self._jitter_ns_max)
        handle = asyncio.TimerHandle(when_ns / 1e9, callback, args, self, context)
        self._number += 1
        # The number keeps timers of one time in order; two handles are never compared.
        heapq.heappush(self._timers, (when_ns, self._number, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        # Cancelled timers are dropped when their time comes.
        pass

    async def pause(self, duration_ns: int) -> None:
        """Wait for some virtual time. Cancelling is safe."""
        future = self.create_future()
        handle = self.call_at_ns(self.now_ns + duration_ns, _wake, future)
        try:
            await future
        finally:
            handle.cancel()

    # Futures and tasks ---------------------------------------------------------------------------

    def create_future(self) -> asyncio.Future[Any]:
        """A future with a hash that is the same in every run."""
        self._number += 1
        return _Future(self._number, self)

    def create_task(
        self, coro: Any, *, name: object = None, context: Context | None = None, **options: Any
    ) -> asyncio.Task[Any]:
        """A task with a hash that is the same in every run."""
        self._check_open()
        if self._task_factory is not None:
            task: asyncio.Task[Any] = self._task_factory(self, coro, context=context)
            if name is not None:
                task.set_name(str(name))
            return task
        self._number += 1
        task_name = f"task-{self._number}" if name is None else str(name)
        return _Task(self._number, coro, loop=self, name=task_name, context=context)

    def set_task_factory(self, factory: Any) -> None:
        """Make tasks by `factory`; None goes back to those with repeatable hashes."""
        self._task_factory = factory

    def get_task_factory(self) -> Any:
        """What makes tasks, None for the loop itself."""
        return self._task_factory

    # Failures ------------------------------------------------------------------------------------

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Fail the run: nothing in a simulation may fail where nobody looks."""
        if self.failure is not None or self._quiet:
            return
        error = context.get("exception")
        if isinstance(error, BaseException):
            error.add_note(str(context.get("message")))
            self.failure = error
        else:
            self.failure = AssertionError(
                f"{context.get('message')}: {context.get('task') or context.get('future')!r}"
            )

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """As `call_exception_handler`."""
        self.call_exception_handler(context)

    def get_exception_handler(self) -> None:
        """None: failures end the run."""

    def set_exception_handler(self, handler: Any) -> None:
        """Refused unless None: failures end the run."""
        if handler is not None:
            raise OutsideSimulationError("the simulated loop ends the run at the first failure")

    def get_debug(self) -> bool:
        """Whether asyncio checks more than usual."""
        return self._debug

    def set_debug(self, enabled: bool) -> None:
        """Have asyncio check more than usual."""
        self._debug = enabled


class SimulationClock:
    """The Clock port on a loop's virtual time; `shift_ns` moves the wall clock alone.

    Attributes:
        shift_ns: by how much this clock is off; may be changed at any time.
    """

    def __init__(self, loop: SimulationLoop, shift_ns: int = 0) -> None:
        """Show the time of `loop`."""
        self._loop = loop
        self.shift_ns = shift_ns

    def time_ns(self) -> int:
        """Wall clock, nanoseconds since 1970."""
        return WALL_START_NS + self._loop.now_ns + self.shift_ns

    def monotonic_ns(self) -> int:
        """A clock that only goes forward, in ns."""
        return _MONOTONIC_START_NS + self._loop.now_ns


def _close(task: _Task) -> None:
    """End a task's coroutine now; the collector would, later, and complain of each that waits."""
    coroutine = task.get_coro()
    for _ in range(_WAITS_MAX):
        try:
            coroutine.close()
        except RuntimeError:
            continue  # It waits in a ``finally``, which is closed next.
        except Exception as error:  # Of a world that has failed already.
            del error
        return


def _can_end(task: "asyncio.Task[Any]") -> bool:
    """Whether a task will run again; those of killed processes do not."""
    process = task.process if isinstance(task, _Task) else None
    return process is None or not process.gone or not process.stopped


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _look_at(future: "asyncio.Future[Any]") -> None:
    if not future.cancelled():
        future.exception()


def _place(task: "asyncio.Task[Any]") -> str:
    """The innermost line that a task waits in."""
    place = "its start"
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is None:
            break
        place = f"{frame.f_code.co_name} (line {frame.f_lineno})"
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return place


def run_simulated(
    main: Coroutine[Any, Any, T], loop: SimulationLoop, *, until_ns: int | None = None
) -> T:
    """Run a coroutine on a simulated loop to its end, end what it left behind, close the loop.

    Raises what `SimulationLoop.run_until_complete` does.
    """
    try:
        result: T = loop.run_until_complete(main, until_ns=until_ns)
        loop.cancel_all()
        return result
    finally:
        loop.unwind()
        loop.close()
