"""Ticks: a clock so coarse that reading it for every message costs nothing."""


class Ticks:
    """A counter that everybody may read; `silence.SilenceWatch` moves it on.

    Attributes:
        now: how often it was moved on.
        tick_ns: time between two moves.
    """

    __slots__ = ("now", "tick_ns")

    def __init__(self, tick_ns: int) -> None:
        """Start at 0."""
        self.now = 0
        self.tick_ns = tick_ns

    def of(self, duration_ns: int) -> int:
        """How many ticks have passed for sure once the duration is over: one more than it has."""
        return -(-duration_ns // self.tick_ns) + 1
