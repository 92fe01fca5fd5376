"""A retry policy as a value: how long to wait before each next attempt, and when to stop."""

import msgspec

from .random import Random


class RetryPolicy(msgspec.Struct, frozen=True):
    """Exponential back-off with jitter.

    Attributes:
        initial_interval_ns: wait after the first failure.
        factor: by which each wait is longer than the one before.
        interval_max_ns: no wait is longer, jitter aside.
        attempts_max: attempts in all, the first included; None never stops.
        jitter: up to this fraction is added to each wait, so that failures spread.
    """

    initial_interval_ns: int = 500_000_000
    factor: float = 2.0
    interval_max_ns: int = 60_000_000_000
    attempts_max: int | None = 70
    jitter: float = 0.3

    def delay_ns(self, failures: int, random: Random) -> int | None:
        """The wait after `failures` failed attempts (at least 1); None when none is left."""
        assert failures >= 1, failures
        if self.attempts_max is not None and failures >= self.attempts_max:
            return None
        # The power is cut off before it overflows; by then the maximum rules anyway.
        interval = self.initial_interval_ns * self.factor ** min(failures - 1, 64)
        interval = min(interval, self.interval_max_ns)
        return int(interval * (1 + self.jitter * random.fraction()))

    def wait_seconds(self, failures: int, random: Random) -> float:
        """`delay_ns` in seconds, of a policy that never stops."""
        delay_ns = self.delay_ns(failures, random)
        assert delay_ns is not None, "nobody thought of giving up"
        return delay_ns / 1e9
