"""Waiting on the event loop for something to happen, without a task and without a lock."""

import asyncio
from asyncio import Future


def settle(waiter: "Future[None]") -> None:
    """Wake whoever waits, if anybody still does."""
    if not waiter.done():
        waiter.set_result(None)


class Waiters:
    """Those who wait for the next event of one kind; each looks for himself what has happened."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        """Start without anybody."""
        self._waiting: list[Future[None]] = []

    def wake(self) -> None:
        """Something has happened."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                settle(waiter)

    async def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait for the next `wake`; False when the time, if given, is up first.

        Cancelling is safe.
        """
        loop = asyncio.get_running_loop()
        waiter: Future[None] = loop.create_future()
        self._waiting.append(waiter)
        timer = None
        if timeout_seconds is not None:
            timer = loop.call_later(timeout_seconds, settle, waiter)
        try:
            await waiter
        finally:
            if timer is not None:
                timer.cancel()
            # A wait that was given up must not leave itself behind for as long as nothing happens.
            woken = waiter not in self._waiting
            if not woken:
                self._waiting.remove(waiter)
        return woken
