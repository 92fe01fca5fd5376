"""The expiry table's driver: what has been kept long enough is purged, some of it at a time."""

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from typing import Final

from ..core.clock import Clock
from .records import PurgeExpired


class ExpiryWatch:
    """Proposes purges for one partition when something is due."""

    COUNT_MAX: Final = 512
    BUSY_SECONDS: Final = 0.1
    """Between two purges while there is more to purge than one takes."""
    IDLE_SECONDS_MIN: Final = 1.0
    """What expires within this time is purged together."""
    LOOK_AGAIN_SECONDS: Final = 60.0

    def __init__(
        self,
        loop: AbstractEventLoop,
        clock: Clock,
        first_due_ns: Callable[[int], int | None],
        purge: Callable[[PurgeExpired], object],
    ) -> None:
        """Do nothing before `start`.

        Args:
            first_due_ns: when the first row that is due at this time or later is due.
            purge: has a record of this appended.
        """
        self._loop = loop
        self._clock = clock
        self._first_due_ns = first_due_ns
        self._purge = purge
        self._handle: TimerHandle | None = None
        self._running = False
        self._from_ns = 0

    def start(self) -> None:
        """Look at what is there."""
        self._running = True
        self._wait(0.0)

    def completed(self, due_ns: int) -> None:
        """Something has completed; the first of its rows is due then."""
        # What was kept for a moment only may be due before what was purged already.
        self._from_ns = min(self._from_ns, due_ns)
        if self._running and self._handle is None:
            self._wait(self.IDLE_SECONDS_MIN)

    def _wait(self, seconds: float) -> None:
        self._handle = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._handle = None
        if not self._running:
            return
        due_ns = self._first_due_ns(self._from_ns)
        if due_ns is None:
            return  # Until something completes.
        now_ns = self._clock.time_ns()
        if due_ns < now_ns:
            # What expired before is gone: the next search need not walk over where it was.
            self._from_ns = due_ns
            self._purge(PurgeExpired(now_ns, self.COUNT_MAX, due_ns))
            self._wait(self.BUSY_SECONDS)
            return
        wait_seconds = max(self.IDLE_SECONDS_MIN, (due_ns - now_ns) / 1e9)
        self._wait(min(wait_seconds, self.LOOK_AGAIN_SECONDS))

    def close(self) -> None:
        """Purge nothing any more."""
        self._running = False
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
