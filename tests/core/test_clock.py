"""Every Clock keeps the contract."""

import time

import pytest

from perdure.core.clock import Clock, ManualClock, SystemClock

from ..conformance.clock import ClockSuite


class TestSystemClock(ClockSuite):
    """The machine's clocks."""

    @pytest.fixture
    def clock(self) -> Clock:
        return SystemClock()

    def test_tells_the_machines_time(self) -> None:
        before = time.time_ns()
        told = SystemClock().time_ns()

        assert before <= told <= time.time_ns()


class TestManualClock(ClockSuite):
    """The clock that is moved by hand."""

    @pytest.fixture
    def clock(self) -> Clock:
        return ManualClock()

    def test_moves_only_when_told(self) -> None:
        clock = ManualClock(5)
        assert (clock.time_ns(), clock.monotonic_ns()) == (5, 5)

        clock.advance(7)
        assert (clock.time_ns(), clock.monotonic_ns()) == (12, 12)

    def test_refuses_to_go_back(self) -> None:
        with pytest.raises(AssertionError):
            ManualClock().advance(-1)
