"""Tasks and futures of the durable loop: the same in every replay, down to their hash.

A set of tasks is walked in the order of their hashes, and by default a hash is an address: two
replays would cancel the tasks of one TaskGroup in different orders. Here it is a number that the
invocation and the order of creation decide.
"""

import asyncio
from collections.abc import Coroutine, Generator
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")


class DurableFuture(asyncio.Future[T]):
    """A future of the durable loop."""

    __slots__ = ("_stable_hash",)

    def __init__(self, *, loop: asyncio.AbstractEventLoop, stable_hash: int) -> None:
        """Belong to `loop`."""
        self._stable_hash = stable_hash
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._stable_hash


class DurableTask(asyncio.Task[T]):
    """A task of the durable loop."""

    __slots__ = ("_stable_hash",)

    def __init__(
        self,
        coroutine: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        loop: asyncio.AbstractEventLoop,
        name: str,
        context: Context | None,
        stable_hash: int,
    ) -> None:
        """Have the first step of `coroutine` scheduled on `loop`."""
        # Before the base's, which puts the task into a set at once.
        self._stable_hash = stable_hash
        super().__init__(coroutine, loop=loop, name=name, context=context)

    def __hash__(self) -> int:
        return self._stable_hash

    def forget(self) -> None:
        """Say that nobody will see this task's end, so that its destruction is not reported."""
        self._log_destroy_pending = False


async def await_result(awaitable: Any) -> Any:
    """A coroutine for what can be awaited but is none, as `TaskGroup.create_task` wants one."""
    return await awaitable
