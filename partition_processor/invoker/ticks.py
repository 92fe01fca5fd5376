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

    def have_passed(self, since: int, duration_ns: int) -> bool:
        """Whether the duration is over for sure since that tick, which may just have begun."""
        return (self.now - since - 1) * self.tick_ns >= duration_ns
