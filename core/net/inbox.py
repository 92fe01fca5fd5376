"""Inbox: what has arrived on a connection and nobody has received yet."""

import asyncio
from collections import deque

MESSAGE_OVERHEAD_BYTES = 64
"""What a message counts for besides its own bytes: empty ones fill an inbox, too."""


class Inbox:
    """A queue of messages with one receiver, an end, and a bound that the deliverer can wait on."""

    __slots__ = ("_bytes", "_bytes_max", "_dropped", "_ended", "_messages", "_receiver", "_room")

    def __init__(self, bytes_max: int) -> None:
        """Start empty; `wait_for_room` waits while about `bytes_max` or more is waiting."""
        self._messages: deque[bytes] = deque()
        self._bytes = 0
        self._bytes_max = bytes_max
        self._ended = False
        self._dropped = False
        self._receiver: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

    @property
    def bytes_waiting(self) -> int:
        """Bytes that arrived and were not received yet."""
        return self._bytes

    @property
    def is_full(self) -> bool:
        """Whether `wait_for_room` would wait."""
        cost = self._bytes + len(self._messages) * MESSAGE_OVERHEAD_BYTES
        return cost >= self._bytes_max and not self._ended

    @property
    def is_dropped(self) -> bool:
        """Whether its owner let go of it: what arrived is forgotten."""
        return self._dropped

    def deliver(self, message: bytes) -> None:
        """Add a message; after the end it is dropped."""
        if self._ended:
            return
        self._messages.append(message)
        self._bytes += len(message)
        if self._receiver is not None:
            _wake(self._receiver)

    def end(self, *, drop: bool = False) -> None:
        """Let nothing more in; with `drop`, forget what was not received."""
        self._ended = True
        if drop:
            self._dropped = True
            self._messages.clear()
            self._bytes = 0
        for waiter in (self._receiver, self._room):
            if waiter is not None:
                _wake(waiter)

    async def receive(self) -> bytes | None:
        """The next message, or None at the end. Cancelling is safe."""
        messages = self._messages
        while not messages:
            if self._ended:
                return None
            assert self._receiver is None, "two tasks receive from one connection"
            self._receiver = asyncio.get_running_loop().create_future()
            try:
                await self._receiver
            finally:
                self._receiver = None
        message = messages.popleft()
        self._bytes -= len(message)
        if self._room is not None and not self.is_full:
            _wake(self._room)
        return message

    async def wait_for_room(self) -> None:
        """Wait until less than the bound is waiting, or the end. Cancelling is safe."""
        while self.is_full:
            self._room = asyncio.get_running_loop().create_future()
            try:
                await self._room
            finally:
                self._room = None


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
