"""Measures how late the event loop runs: a timer that notes by how much it was missed."""

import asyncio
from collections.abc import Callable
from typing import Final

INTERVAL_SECONDS: Final = 0.5


class LoopLag:
    """Fires every half second and tells `observe` the seconds that it was late."""

    def __init__(self, loop: asyncio.AbstractEventLoop, observe: Callable[[float], None]) -> None:
        """Measure `loop`, whose own clock decides what late means."""
        self._loop = loop
        self._observe = observe
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin; must be called on the loop's thread."""
        assert self._timer is None, "already started"
        self._arm()

    def stop(self) -> None:
        """End; nothing is observed afterwards. Stopping twice does nothing."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._due = self._loop.time() + INTERVAL_SECONDS
        self._timer = self._loop.call_at(self._due, self._fire)

    def _fire(self) -> None:
        # A loop may run a timer up to its clock's resolution early: that is not negative lag.
        self._observe(max(0.0, self._loop.time() - self._due))
        self._arm()
