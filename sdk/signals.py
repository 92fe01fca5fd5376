"""Signals of one attempt: those that have arrived and those that its handler waits for."""

from collections import deque
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
    """Each wait takes the next signal of its name or number, in the order of the journal.

    An awakeable's number comes once: the node drops the second one.

    Attributes:
        next_index: of the next awakeable.
    """

    __slots__ = ("_arrived", "_waiting", "next_index")

    def __init__(self) -> None:
        """None have arrived."""
        # Of each key at most one of the two has anything: those that nobody waits for, or waits.
        self._arrived: dict[SignalKey, deque[pb.Notification]] = {}
        self._waiting: dict[SignalKey, deque[_Waiter]] = {}
        self.next_index = SIGNAL_FIRST_AWAKEABLE

    def expect(
        self,
        key: SignalKey,
        future: CommandFuture[Any],
        read: Callable[[bytes], Any],
    ) -> None:
        """End `future` with the next signal's value, at once when it is there."""
        arrived = self._arrived.get(key)
        if arrived:
            end_future(future, arrived.popleft(), read)
        else:
            self._waiting.setdefault(key, deque()).append((future, read))

    def take(self, notification: pb.Notification) -> None:
        """A signal that is no cancellation has arrived."""
        key: SignalKey = notification.signal_name or notification.signal_index
        waiting = self._waiting.get(key)
        while waiting:
            future, read = waiting.popleft()
            # A wait that was given up takes none.
            if not future.done():
                end_future(future, notification, read)
                return
        self._arrived.setdefault(key, deque()).append(notification)

    def waiting(self) -> Iterator[tuple[SignalKey, CommandFuture[Any]]]:
        """What has not arrived, and the futures that are to have it."""
        for key, waiters in self._waiting.items():
            for future, _read in waiters:
                if not future.done():
                    yield key, future
