"""Room: a bound on what one producer has under way, with a queue of those who wait for it."""

from asyncio import AbstractEventLoop, CancelledError, Future
from collections import deque

from .errors import LogClosedError


class Room:
    """Counts records and bytes; who finds no room waits behind those who wait already.

    Attributes:
        records: how many are under way.
    """

    def __init__(self, loop: AbstractEventLoop, *, records_max: int, bytes_max: int) -> None:
        """Start empty."""
        self._loop = loop
        self._records_max = records_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._closed = False
        self._waiting: deque[Future[None]] = deque()
        self.records = 0

    async def take(self, records: int, size: int) -> None:
        """Wait until these fit, or nothing else is under way. Raises LogClosedError once closed.

        Cancelling is safe: nothing was taken.
        """
        turn = not self._waiting
        while not self._closed and not (turn and self._fits(records, size)):
            waiter: Future[None] = self._loop.create_future()
            if turn:
                self._waiting.appendleft(waiter)
            else:
                self._waiting.append(waiter)
            try:
                await waiter
            except CancelledError:
                self._waiting.remove(waiter)
                self._call_next()
                raise
            self._waiting.remove(waiter)
            turn = True
        if self._closed:
            self._call_next()
            raise LogClosedError("the appender is closed: open another one to go on")
        self.records += records
        self._bytes += size
        self._call_next()

    def give_back(self, records: int, size: int) -> None:
        """These are no longer under way."""
        self.records -= records
        self._bytes -= size
        self._call_next()

    def close(self) -> None:
        """Let nobody take anything any more."""
        self._closed = True
        self._call_next()

    def _fits(self, records: int, size: int) -> bool:
        return not self.records or (
            self.records + records <= self._records_max and self._bytes + size <= self._bytes_max
        )

    def _call_next(self) -> None:
        """Have the first of those who wait look whether there is room; it calls the next."""
        if self._waiting and not self._waiting[0].done():
            self._waiting[0].set_result(None)
