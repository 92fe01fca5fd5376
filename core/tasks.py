"""TaskScope: the only place that starts tasks, so that none outlives the one who answers for it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")

FailureCallback: TypeAlias = Callable[[BaseException], None]
"""Takes the exception that a task ended with; called on the event loop, must not raise."""


class TaskScope:
    """Owns tasks: when the scope is left, all of them have ended.

    With `on_failure`, each task's exception goes there and the others run on. Without, the first
    one cancels the other tasks and the body of the ``async with``, and is raised at its end (or by
    `close`); later ones follow from it and are dropped. A cancelled task is no failure.
    """

    __slots__ = ("_body", "_body_cancelled", "_children", "_closed", "_failure", "_name", "_report")

    def __init__(self, name: str, *, on_failure: FailureCallback | None = None) -> None:
        """Take the name that the tasks' names start with."""
        self._name = name
        self._report = on_failure
        self._children: set[asyncio.Task[Any]] = set()
        self._failure: BaseException | None = None
        self._closed = False
        self._body: asyncio.Task[Any] | None = None
        self._body_cancelled = False

    def __len__(self) -> int:
        """How many tasks are running."""
        return len(self._children)

    def spawn(self, work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Start a task named ``<scope>/<name>``. It is a bug to spawn in a scope that has ended."""
        if self._closed:
            work.close()
            raise AssertionError(f"task {name!r} started in {self._name!r}, which has ended")
        task = asyncio.create_task(work, name=f"{self._name}/{name}")
        self._children.add(task)
        task.add_done_callback(self._ended)
        return task

    def cancel(self) -> None:
        """Ask every task to stop, except the one that asks; whoever leaves the scope waits."""
        asking = asyncio.current_task()
        for task in self._children:
            if task is not asking:
                task.cancel()

    async def wait(self, timeout_seconds: float) -> bool:
        """Wait until no task runs; False when the time is up first. Cancelling is safe."""
        if self._children:
            await asyncio.wait(self._children, timeout=timeout_seconds)
        return not self._children

    async def close(self) -> None:
        """Cancel the tasks, wait for them, and raise the first failure, unless it was reported.

        Closing twice does nothing. Cancelling is safe: the tasks have ended all the same when the
        cancellation goes on. A task of the scope itself may close it and is then not waited for.
        """
        self._closed = True
        self.cancel()
        await self._drain()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    async def __aenter__(self) -> "TaskScope":
        """Enter the body, which a failing task cancels."""
        self._body = asyncio.current_task()
        return self

    async def __aexit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        """Wait for the tasks, cancelled first when the body failed. Raises the first failure.

        Cancelling is safe: the tasks have ended all the same when the cancellation goes on.
        """
        if error is not None and self._failure is None:
            # After a failure they are cancelled already; again would break into their clean-up.
            self.cancel()
        try:
            await self._drain()
        finally:
            self._closed = True
            body, self._body = self._body, None
            failure, self._failure = self._failure, None
            # Take back our own cancellation; one from outside is counted separately and stays.
            outside = bool(self._body_cancelled and body and body.uncancel())
            if failure is not None and not outside:
                if error is None or isinstance(error, asyncio.CancelledError):
                    raise failure
                raise error from failure

    async def _drain(self) -> None:
        waiting = asyncio.current_task()
        while others := [task for task in self._children if task is not waiting]:
            try:
                await asyncio.wait(others)
            except asyncio.CancelledError:
                self.cancel()
                await self._drain()
                raise

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._children.discard(task)
        if task.cancelled() or (failure := task.exception()) is None:
            return
        if self._report is not None:
            self._report(failure)
        elif self._failure is None:
            self._failure = failure
            self.cancel()
            if self._body is not None and not self._body.done():
                self._body_cancelled = self._body.cancel()
