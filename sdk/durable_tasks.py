"""Tasks and futures of the durable loop: the same in every replay, down to their hash.

A set of tasks is walked in the order of their hashes, and by default a hash is an address: two
replays would cancel the tasks of one TaskGroup in different orders. Here it is a number that the
invocation and the order of creation decide.
"""

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, Final, TypeVar

T = TypeVar("T")


class DurableFuture(asyncio.Future[T]):
    """A future of the durable loop; see `make_future`."""

    __slots__ = ("stable_hash",)

    stable_hash: int

    def __hash__(self) -> int:
        return self.stable_hash


class DurableTask(asyncio.Task[T]):
    """A task of the durable loop; see `make_task`."""

    __slots__ = ("stable_hash",)

    stable_hash: int

    def __hash__(self) -> int:
        return self.stable_hash

    def forget(self) -> None:
        """Say that nobody will see this task's end, so that its destruction is not reported."""
        self._log_destroy_pending = False


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


async def await_result(awaitable: Any) -> Any:
    """A coroutine for what can be awaited but is none, as `TaskGroup.create_task` wants one."""
    return await awaitable
