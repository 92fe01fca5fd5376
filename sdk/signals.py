"""Signals of one attempt: those that have arrived and those that its handler waits for."""

from collections.abc import Callable, Iterator
from typing import Any

from ..core.protocol.messages import SIGNAL_FIRST_AWAKEABLE
from ..proto.generated import service_protocol_pb2 as pb
from .durable_tasks import CommandFuture
from .results import end_future

SignalKey = int | str
"""A signal's number, or its name."""

_Waiter = tuple[CommandFuture[Any], Callable[[bytes], Any]]


class Signals:
    """A signal has one value: the first that arrives. Later ones of its number or name are dropped.

    Attributes:
        next_index: of the next awakeable.
    """

    __slots__ = ("_arrived", "_waiting", "next_index")

    def __init__(self) -> None:
        """None have arrived."""
        self._arrived: dict[SignalKey, pb.Notification] = {}
        self._waiting: dict[SignalKey, list[_Waiter]] = {}
        self.next_index = SIGNAL_FIRST_AWAKEABLE

    def expect(
        self,
        key: SignalKey,
        future: CommandFuture[Any],
        read: Callable[[bytes], Any],
    ) -> None:
        """End `future` with the signal's value, at once when it is there."""
        arrived = self._arrived.get(key)
        if arrived is None:
            self._waiting.setdefault(key, []).append((future, read))
        else:
            end_future(future, arrived, read)

    def take(self, notification: pb.Notification) -> None:
        """A signal that is no cancellation has arrived."""
        key: SignalKey = notification.signal_name or notification.signal_index
        if key in self._arrived:
            return
        self._arrived[key] = notification
        for future, read in self._waiting.pop(key, ()):
            if not future.done():
                end_future(future, notification, read)

    def waiting(self) -> Iterator[tuple[SignalKey, CommandFuture[Any]]]:
        """What has not arrived, and the futures that are to have it."""
        for key, waiters in self._waiting.items():
            for future, _read in waiters:
                if not future.done():
                    yield key, future
