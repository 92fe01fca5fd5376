"""The Clock port: the only place that knows what time it is."""

import time
from typing import Protocol


class Clock(Protocol):
    """Tells time. Waiting is done by the event loop that the program runs on, not here.

    Contract (`tests/conformance/clock.py`): `monotonic_ns` never goes back; `time_ns` is the wall
    clock, in nanoseconds since 1970, and may jump either way.
    """

    def time_ns(self) -> int:
        """Wall clock, nanoseconds since 1970-01-01 UTC."""
        ...

    def monotonic_ns(self) -> int:
        """A clock that only goes forward, nanoseconds since some fixed instant."""
        ...


class SystemClock:
    """The machine's clocks."""

    def time_ns(self) -> int:
        """Wall clock, nanoseconds since 1970-01-01 UTC."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """A clock that only goes forward, nanoseconds since the machine's start."""
        return time.monotonic_ns()


class ManualClock:
    """A clock that moves only when it is told to; for tests and simulation."""

    def __init__(self, start_ns: int = 1_700_000_000_000_000_000) -> None:
        """Start both clocks at `start_ns`."""
        self._now_ns = start_ns

    def time_ns(self) -> int:
        """The time that was set last, in nanoseconds."""
        return self._now_ns

    def monotonic_ns(self) -> int:
        """The same instant as `time_ns`."""
        return self._now_ns

    def advance(self, duration_ns: int) -> None:
        """Move forward by `duration_ns`, which must not be negative."""
        assert duration_ns >= 0, duration_ns
        self._now_ns += duration_ns
