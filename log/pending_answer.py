"""PendingAnswer: the answer to one append, waited for a while at a time."""

from asyncio import AbstractEventLoop, Future, TimerHandle
from typing import Generic, TypeVar

from ..core.waiters import settle

T = TypeVar("T")


class PendingAnswer(Generic[T]):
    """Waits for an answer, a while at a time."""

    __slots__ = ("_answer", "_loop", "_waiter")

    def __init__(self, loop: AbstractEventLoop) -> None:
        """Wait on `loop`."""
        self._loop = loop
        self._answer: T | None = None
        self._waiter: Future[None] | None = None

    def settle(self, answer: T) -> None:
        """This is the answer."""
        self._answer = answer
        if self._waiter is not None:
            settle(self._waiter)

    async def answer_within(self, seconds: float) -> T | None:
        """The answer, or None when it has not come by then. Cancelling is safe."""
        if self._answer is None:
            waiter = self._waiter = self._loop.create_future()
            timer: TimerHandle = self._loop.call_later(seconds, settle, waiter)
            try:
                await waiter
            finally:
                timer.cancel()
        return self._answer
