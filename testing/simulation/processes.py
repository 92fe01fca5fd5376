"""Processes on a simulated loop: each can be held up, as by SIGSTOP, and killed, as by SIGKILL.

Every callback belongs to the process in whose context it was made, and so do the tasks and timers
that it makes in turn. The loop runs nothing of a process that is held up or gone: no handler, no
``finally``. What comes from outside, such as a network's deliveries, is made in `outside` and must
put its callbacks into the context of whom it concerns.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any, Final


class Process:
    """One process, from its start until it ends or is killed.

    Attributes:
        name: for the trace.
        stopped: nothing of it runs now.
        gone: nothing of it will ever run again.
        held: its callbacks that were due while it was stopped, in their order.
    """

    def __init__(self, name: str) -> None:
        """Begin to run."""
        self.name = name
        self.stopped = False
        self.gone = False
        self.held: list[asyncio.Handle] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._context = Context()
        self._context.run(PROCESS.set, self)

    def context(self) -> Context:
        """A context of its own, for a callback or a task."""
        return self._context.copy()

    def start(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None], *, name: str
    ) -> "asyncio.Task[None]":
        """Run a coroutine as a task of this process."""
        return loop.create_task(work, name=name, context=self.context())

    def call(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        """Run a callback in this process in the next turn, or when it goes on."""
        loop.call_soon(callback, context=self.context())

    def pause(self) -> None:
        """Stop it where it is."""
        self.stopped = True

    def resume(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let it go on, first with what was due meanwhile."""
        if not self.gone:
            self._release(loop)

    def kill(self, tasks: list["asyncio.Task[Any]"]) -> None:
        """End it at once and for ever; `tasks` are its own, see `SimulationLoop.tasks_of`."""
        self.stopped = self.gone = True
        # Their ``finally`` must not run because nobody holds them any more.
        self._tasks = tasks

    def unwind(self, loop: asyncio.AbstractEventLoop) -> None:
        """After the end of a simulation: let the tasks end that were cut off."""
        self._release(loop)

    def _release(self, loop: asyncio.AbstractEventLoop) -> None:
        self.stopped = False
        held, self.held = self.held, []
        for handle in held:
            loop.call_soon(_run, handle, context=self.context())


PROCESS: Final[ContextVar[Process | None]] = ContextVar("PROCESS", default=None)
"""Whose code runs; None for whoever watches from outside."""


def outside() -> Context:
    """A context that belongs to no process."""
    return Context()


def _run(handle: asyncio.Handle) -> None:
    if not handle.cancelled():
        handle._run()
