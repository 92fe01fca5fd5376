"""Runs the closures of steps: coroutines as tasks of the real loop, functions in threads."""

import asyncio
import inspect
import logging
import threading
from collections import deque
from collections.abc import Coroutine
from queue import SimpleQueue
from typing import Any, Final

from ..core.clock import Clock
from ..core.tasks import TaskScope
from .steps import Step, is_async

THREADS_MAX_DEFAULT: Final = 32

_LEFT_OUT: Final = object()
"""Stands for the value of a function that was not called, because nobody wanted its result."""

logger = logging.getLogger("perdure.sdk")

_Outcome = tuple[Step, Any, BaseException | None]


class StepRunner:
    """Shared by all attempts of a worker.

    Threads are daemons: a function that hangs does not keep the process from ending. However many
    functions end in one turn of the loop, they wake it once.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        scope: TaskScope,
        clock: Clock,
        threads_max: int = THREADS_MAX_DEFAULT,
    ) -> None:
        """Start no thread before a function needs one."""
        self._loop = loop
        self._scope = scope
        self._clock = clock
        self._threads_max = threads_max
        self._threads = 0
        self._in_threads = 0
        self._jobs: SimpleQueue[Step | None] = SimpleQueue()
        self._outcomes: deque[_Outcome] = deque()
        self._lock = threading.Lock()
        self._woken = False
        self._closed = False

    def start(self, step: Step) -> None:
        """Run a step's closure; its attempt hears of the end from a callback of the loop."""
        step.started_ns = self._clock.monotonic_ns()
        if step.options.timeout is not None:
            seconds = step.options.timeout.total_seconds()
            step.timer = self._loop.call_later(seconds, self._time_out, step)
        if is_async(step.action):
            try:
                coroutine = step.variables.run(step.action, *step.arguments, **step.keywords)
            except Exception as error:
                self._loop.call_soon(self._finish, step, None, error)
                return
            self._run_coroutine(step, coroutine)
            return
        if self._in_threads >= self._threads < self._threads_max:
            name = f"perdure-step-{self._threads + 1}"
            threading.Thread(target=self._work, name=name, daemon=True).start()
            self._threads += 1
        self._in_threads += 1
        self._jobs.put(step)

    def cancel(self, step: Step) -> None:
        """Cancel a coroutine; a function waits no longer for its thread.

        One that runs already runs on, and its result is dropped.
        """
        step.unwanted = True
        if step.timer is not None:
            step.timer.cancel()
        if isinstance(step.running, asyncio.Task):
            step.running.cancel()

    def close(self) -> None:
        """Let idle threads end, drop what busy ones bring, and begin nothing that waits."""
        self._closed = True
        for _ in range(self._threads):
            self._jobs.put(None)

    def _time_out(self, step: Step) -> None:
        assert step.options.timeout is not None
        self.cancel(step)
        seconds = step.options.timeout.total_seconds()
        self._finish(step, None, TimeoutError(f"step {step.name!r} took longer than {seconds:g} s"))

    def _run_coroutine(self, step: Step, coroutine: Coroutine[Any, Any, Any]) -> None:
        step.running = step.variables.run(
            self._scope.spawn, self._await(step, coroutine), name=f"step {step.name}"
        )
        # Cancelled before it began, the task would leave the coroutine behind without a word.
        step.running.add_done_callback(lambda _: coroutine.close())

    async def _await(self, step: Step, coroutine: Coroutine[Any, Any, Any]) -> None:
        value: Any = None
        error: BaseException | None = None
        try:
            value = await coroutine
        except asyncio.CancelledError as cancelled:
            if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise  # by us: nobody waits for the result
            error = cancelled
        except KeyboardInterrupt:
            raise
        except BaseException as raised:
            error = raised
        # Not from here: a durable loop is never stepped inside a task.
        self._loop.call_soon(self._finish, step, value, error)

    def _work(self) -> None:
        jobs = self._jobs
        while (step := jobs.get()) is not None:
            value: Any = None
            error: BaseException | None = None
            try:
                if self._is_wanted(step):
                    value = step.variables.run(step.action, *step.arguments, **step.keywords)
                else:
                    value = _LEFT_OUT
            except BaseException as raised:
                error = raised
            self._outcomes.append((step, value, error))
            with self._lock:
                wake, self._woken = not self._woken, True
            if wake and not self._closed:
                try:
                    self._loop.call_soon_threadsafe(self._take_outcomes)
                except RuntimeError:
                    return  # the loop has closed; nobody waits any more
            # Hold nothing while waiting for the next job.
            del step, value, error

    def _is_wanted(self, step: Step) -> bool:
        return not (step.unwanted or step.attempt.ended or self._closed)

    def _take_outcomes(self) -> None:
        with self._lock:
            self._woken = False
        outcomes = self._outcomes
        while outcomes:
            step, value, error = outcomes.popleft()
            self._in_threads -= 1
            if value is _LEFT_OUT:
                continue
            try:
                self._take_outcome(step, value, error)
            except Exception as unexpected:
                logger.exception("the worker failed at the end of step %r", step.name)
                self._finish(step, None, unexpected)

    def _take_outcome(self, step: Step, value: Any, error: BaseException | None) -> None:
        if not inspect.iscoroutine(value):
            self._finish(step, value, error)
        elif self._is_wanted(step):  # a lambda around an async function
            self._run_coroutine(step, value)
        else:
            value.close()

    def _finish(self, step: Step, value: Any, error: BaseException | None) -> None:
        if step.timer is not None:
            step.timer.cancel()
        if not self._closed:
            elapsed_ns = self._clock.monotonic_ns() - step.started_ns
            step.attempt.finish_step(step, value, error, elapsed_ns)
