"""The contract of Random (`core/random.py`) as tests.

A test file derives a class from `RandomSuite` and gives it a fixture ``source``.
"""

import pytest

from perdure.core.random import Random


class RandomSuite:
    """Every sentence of the contract, with odds of a false alarm below one in 10**15."""

    @pytest.mark.parametrize("count", [1, 8, 64, 80, 128])
    def test_bits_fill_their_range_and_no_more(self, source: Random, count: int) -> None:
        drawn = [source.bits(count) for _ in range(200)]

        assert all(0 <= number < 1 << count for number in drawn)
        # Each bit is 0 in some draw and 1 in another.
        seen, unseen = 0, 0
        for number in drawn:
            seen |= number
            unseen |= ~number
        assert seen == (1 << count) - 1
        assert unseen & ((1 << count) - 1) == (1 << count) - 1

    def test_fractions_are_below_one_and_spread(self, source: Random) -> None:
        drawn = [source.fraction() for _ in range(200)]

        assert all(0 <= number < 1 for number in drawn)
        assert min(drawn) < 0.25
        assert max(drawn) > 0.75

    def test_long_draws_do_not_repeat(self, source: Random) -> None:
        assert len({source.bits(128) for _ in range(1000)}) == 1000
