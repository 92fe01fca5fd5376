"""Seeded chance: one generator per concern, so that a draw more in one shifts no other."""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

from ...core.random import SeededRandom

T = TypeVar("T")


class Chance(SeededRandom):
    """The Random port with the draws that a world needs, derived from a seed and a name."""

    def __init__(self, seed: int, name: str) -> None:
        """Draw from what `seed` and `name` give together."""
        digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
        super().__init__(int.from_bytes(digest[:16], "big"))

    def between(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + int(self.fraction() * (high - low + 1))

    def happens(self, probability: float) -> bool:
        """Whether something of this probability happens now."""
        return self.fraction() < probability

    def pick(self, choices: Sequence[T]) -> T:
        """One of `choices`, which must not be empty."""
        return choices[int(self.fraction() * len(choices))]
