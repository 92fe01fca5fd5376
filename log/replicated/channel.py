"""A channel: everything one turn of the event loop sends to one end goes in one message."""

from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from ...core.errors import TransportError

Item = TypeVar("Item")


class Channel(Generic[Item]):
    """Collects what is sent and sends it at the end of the turn."""

    __slots__ = ("_encode", "_items", "_loop", "_open", "_send")

    def __init__(
        self,
        send: Callable[[bytes], object],
        encode: Callable[[list[Item]], Iterable[bytes]],
        loop: AbstractEventLoop,
    ) -> None:
        """Send messages by `send`, which may raise TransportError when nobody is there.

        Args:
            encode: the messages that carry items, in order.
        """
        self._send = send
        self._encode = encode
        self._loop = loop
        self._items: list[Item] = []
        self._open = True

    def send(self, item: Item) -> None:
        """Send it with everything else of this turn; nothing happens when it is closed."""
        if not self._open:
            return
        if not self._items:
            self._loop.call_soon(self._flush)
        self._items.append(item)

    def close(self) -> None:
        """Forget what was not sent."""
        self._open = False
        self._items.clear()

    def _flush(self) -> None:
        items, self._items = self._items, []
        try:
            for message in self._encode(items):
                self._send(message)
        except TransportError:
            self.close()  # The end of the connection is on its way to whoever receives from it.
