"""Finding attempts that are quiet for too long, by a clock so coarse that it costs nothing."""

from asyncio import AbstractEventLoop, TimerHandle
from typing import Final

from .invoker import Invoker

TICKS_PER_TIMEOUT: Final = 8
"""A timeout is found to be over at most an eighth of itself later."""
TICK_NS_MIN: Final = 5_000_000
TICK_NS_MAX: Final = 1_000_000_000


def tick_ns_for(*timeouts_ns: int) -> int:
    """How long a tick is where these are the node's own timeouts."""
    shortest = min((timeout for timeout in timeouts_ns if timeout > 0), default=TICK_NS_MAX)
    return max(TICK_NS_MIN, min(shortest // TICKS_PER_TIMEOUT, TICK_NS_MAX))


class SilenceWatch:
    """Moves the invoker's ticks on and has it look at what has been quiet."""

    def __init__(self, invoker: Invoker, loop: AbstractEventLoop) -> None:
        """Watch nothing before `start`."""
        self._invoker = invoker
        self._loop = loop
        self._interval_seconds = invoker.ticks.tick_ns / 1e9
        self._timer: TimerHandle | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._timer = self._loop.call_later(self._interval_seconds, self._tick)

    def _tick(self) -> None:
        self._invoker.ticks.now += 1
        self._invoker.end_silent()
        self.start()

    def stop(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
