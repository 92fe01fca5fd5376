"""The Random port: the only source of chance."""

import random
from typing import Protocol


class Random(Protocol):
    """Draws bits and fractions. Ids and jitter come from here, so a seed repeats a whole run."""

    def bits(self, count: int) -> int:
        """A uniform integer of `count` bits, 1 <= count."""
        ...

    def fraction(self) -> float:
        """A uniform number in [0, 1)."""
        ...


class SystemRandom:
    """Chance from the operating system: ids that nobody can guess and no two nodes share.

    The operating system is asked once for a seed; drawing from a seeded generator afterwards costs
    a tenth of a system call, and ids need to be unique, not secret.
    """

    def __init__(self) -> None:
        """Seed from the operating system."""
        self._generator = random.Random(random.SystemRandom().getrandbits(256))

    def bits(self, count: int) -> int:
        """A uniform integer of `count` bits."""
        return self._generator.getrandbits(count)

    def fraction(self) -> float:
        """A uniform number in [0, 1)."""
        return self._generator.random()


class SeededRandom:
    """Chance that repeats: the same seed gives the same draws on every machine."""

    def __init__(self, seed: int) -> None:
        """Take the seed."""
        self._generator = random.Random(seed)

    def bits(self, count: int) -> int:
        """A uniform integer of `count` bits."""
        return self._generator.getrandbits(count)

    def fraction(self) -> float:
        """A uniform number in [0, 1)."""
        return self._generator.random()
