"""Being asked to end is no excuse for leaving processes behind."""

import signal
from collections.abc import Iterator
from typing import NoReturn

import pytest


def _leave(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


@pytest.fixture(scope="package", autouse=True)
def _terminated_in_order() -> Iterator[None]:
    """SIGTERM interrupts the tests as Ctrl-C does, so that each one takes its processes along."""
    previous = signal.signal(signal.SIGTERM, _leave)
    yield
    signal.signal(signal.SIGTERM, previous)
