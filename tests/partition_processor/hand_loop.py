"""A loop's timers and a clock that are moved by hand, for drivers that do nothing but wait."""

from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any, cast

from perdure.core.clock import ManualClock

SECOND_NS = 10**9


class _Handle:
    def __init__(self, due_ns: int, call: Callable[[], None]) -> None:
        self.due_ns = due_ns
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class HandClock(ManualClock):
    """Both clocks; the wall clock may be set, either way."""

    def __init__(self) -> None:
        super().__init__(1_000 * SECOND_NS)
        self.set_ns = 0

    def time_ns(self) -> int:
        return super().time_ns() + self.set_ns


class HandLoop:
    """What the drivers use of an event loop; `advance` lets time pass and calls what is due."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self._handles: list[_Handle] = []

    @property
    def loop(self) -> AbstractEventLoop:
        """As the drivers take it."""
        return cast(AbstractEventLoop, self)

    def call_later(self, seconds: float, call: Callable[..., None], *arguments: Any) -> Any:
        due_ns = self.clock.monotonic_ns() + round(seconds * SECOND_NS)
        handle = _Handle(due_ns, lambda: call(*arguments))
        self._handles.append(handle)
        return handle

    def waiting(self) -> int:
        """How many calls wait."""
        return sum(not handle.cancelled for handle in self._handles)

    def advance(self, duration_ns: int) -> None:
        """Let time pass."""
        until_ns = self.clock.monotonic_ns() + duration_ns
        while True:
            self._handles = [handle for handle in self._handles if not handle.cancelled]
            due = [handle for handle in self._handles if handle.due_ns <= until_ns]
            if not due:
                break
            handle = min(due, key=lambda item: item.due_ns)
            self._handles.remove(handle)
            self.clock.advance(max(0, handle.due_ns - self.clock.monotonic_ns()))
            handle.call()
        self.clock.advance(until_ns - self.clock.monotonic_ns())
