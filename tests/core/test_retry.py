"""The retry policy: waits that grow, their limit, their end."""

from perdure.core.random import SeededRandom
from perdure.core.retry import RetryPolicy

SECOND_NS = 10**9


def test_waits_grow_to_their_limit_and_end() -> None:
    policy = RetryPolicy(SECOND_NS, 2.0, 5 * SECOND_NS, attempts_max=6, jitter=0.0)
    waits = [policy.delay_ns(failures, SeededRandom(1)) for failures in range(1, 7)]

    assert waits == [SECOND_NS, 2 * SECOND_NS, 4 * SECOND_NS, 5 * SECOND_NS, 5 * SECOND_NS, None]


def test_jitter_only_adds_and_stays_within_its_share() -> None:
    policy = RetryPolicy(SECOND_NS, jitter=0.3)
    random = SeededRandom(1)
    waits = [policy.delay_ns(1, random) or 0 for _ in range(200)]

    assert min(waits) >= SECOND_NS
    assert max(waits) < 1.3 * SECOND_NS
    assert max(waits) - min(waits) > 0.2 * SECOND_NS


def test_no_number_of_failures_overflows() -> None:
    policy = RetryPolicy(attempts_max=None, jitter=0.0)

    assert policy.delay_ns(10**9, SeededRandom(1)) == policy.interval_max_ns
