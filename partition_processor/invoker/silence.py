"""Finding attempts whose workers have fallen silent, by a clock so coarse that it costs nothing."""

from asyncio import AbstractEventLoop, TimerHandle
from typing import Final

from .invoker import Invoker

TICKS_PER_TIMEOUT: Final = 8
"""An attempt ends between one timeout and an eighth more after its worker's last word."""


class SilenceWatch:
    """Moves the invoker's ticks on and has it end what has been silent for too long."""

    def __init__(self, invoker: Invoker, loop: AbstractEventLoop, timeout_ns: int) -> None:
        """Watch nothing before `start`; `timeout_ns` is how long a worker may be silent."""
        self._invoker = invoker
        self._loop = loop
        self._interval_seconds = timeout_ns / 1e9 / TICKS_PER_TIMEOUT
        self._timer: TimerHandle | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._timer = self._loop.call_later(self._interval_seconds, self._tick)

    def _tick(self) -> None:
        self._invoker.ticks.now += 1
        self._invoker.end_silent(TICKS_PER_TIMEOUT)
        self.start()

    def stop(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
