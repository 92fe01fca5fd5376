"""The contract of Clock (`core/clock.py`) as tests.

A test file derives a class from `ClockSuite` and gives it a fixture ``clock``.
"""

from perdure.core.clock import Clock

YEAR_2020_NS = 1_577_836_800 * 10**9
YEAR_2100_NS = 4_102_444_800 * 10**9


class ClockSuite:
    """Every sentence of the contract that can be tested without waiting."""

    def test_wall_clock_is_in_nanoseconds_since_1970(self, clock: Clock) -> None:
        assert YEAR_2020_NS < clock.time_ns() < YEAR_2100_NS

    def test_monotonic_clock_never_goes_back(self, clock: Clock) -> None:
        readings = [clock.monotonic_ns() for _ in range(10_000)]

        assert readings == sorted(readings)

    def test_readings_are_whole_numbers(self, clock: Clock) -> None:
        assert type(clock.time_ns()) is int
        assert type(clock.monotonic_ns()) is int
