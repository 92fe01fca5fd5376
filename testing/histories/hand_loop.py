"""An event loop moved by hand: callbacks run when a history says so, timers by a virtual clock."""

import heapq
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

from ...core.clock import ManualClock

T = TypeVar("T")


class HandTimer:
    """What `HandLoop.call_later` gives."""

    __slots__ = ("arguments", "callback", "cancelled")

    def __init__(self, callback: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        """Wait to be due."""
        self.callback = callback
        self.arguments = arguments
        self.cancelled = False

    def cancel(self) -> None:
        """Never call."""
        self.cancelled = True


class HandLoop:
    """The two calls of an event loop that the processor and what surrounds it make."""

    def __init__(self, clock: ManualClock) -> None:
        """Measure time by `clock`, which somebody else moves."""
        self._clock = clock
        self._ready: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._timers: list[tuple[int, int, HandTimer]] = []
        self._number = 0

    def as_event_loop(self) -> AbstractEventLoop:
        """Itself, for those who ask for a whole one and use those two calls of it."""
        return cast("AbstractEventLoop", self)

    def call_soon(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Call in the next turn."""
        self._ready.append((callback, arguments))

    def call_later(self, seconds: float, callback: Callable[..., object], *arguments: Any) -> Any:
        """Call after `seconds`; gives a handle with `cancel`."""
        timer = HandTimer(callback, arguments)
        self._number += 1
        due_ns = self._clock.monotonic_ns() + max(0, round(seconds * 1e9))
        heapq.heappush(self._timers, (due_ns, self._number, timer))
        return timer

    @property
    def ready(self) -> bool:
        """Whether a turn would do something, timers apart."""
        return bool(self._ready)

    def turn(self) -> None:
        """Run what is ready now."""
        for _ in range(len(self._ready)):
            callback, arguments = self._ready.popleft()
            callback(*arguments)

    def next_due_ns(self) -> int | None:
        """When the first timer is due, None without any."""
        timers = self._timers
        while timers and timers[0][2].cancelled:
            heapq.heappop(timers)
        return timers[0][0] if timers else None

    def fire_due(self) -> None:
        """Run the timers whose time has come."""
        now_ns = self._clock.monotonic_ns()
        while (due_ns := self.next_due_ns()) is not None and due_ns <= now_ns:
            _, _, timer = heapq.heappop(self._timers)
            timer.callback(*timer.arguments)


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as ending:
        return cast("T", ending.value)
    raise AssertionError("a coroutine waits for something in a world without an event loop")
