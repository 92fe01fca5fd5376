"""Ticks: a clock so coarse that reading it for every message costs nothing."""


class Ticks:
    """A counter that everybody may read; `silence.SilenceWatch` moves it on."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        """Start at 0."""
        self.now = 0
