"""ConditionTable: decides at one serial point whether a key has changed since an LSN.

The idea is CorfuDB's sequencer (a bounded map from conflict key to last address, whose evictions
only ever cause false refusals), with per-key conditions that may rest on records still in flight:
because the log's final content is a prefix of the sequencer's order, "B after A" admitted means
that A is in the log wherever B is.
"""

from collections.abc import Iterable
from typing import Final

from .answers import Conflict, NotChangedSince, StaleSnapshot

ENTRIES_MAX: Final = 16_384
"""Keys that are remembered beyond those in flight."""


class ConditionTable:
    """The last LSN of each key of one segment, as far back as `floor`.

    Invariants: every key that is not in the table has its last LSN at or below the floor; the
    floor is below the committed tail, so that any reader can catch up with it; entries are in the
    order of their LSNs. Nothing is rebuilt after a failover: a new segment starts with an empty
    table whose floor is everything before the segment.
    """

    __slots__ = ("_entries_max", "_last", "_wildcard", "floor")

    def __init__(self, base_lsn: int, entries_max: int = ENTRIES_MAX) -> None:
        """Start a segment whose first record gets `base_lsn`."""
        self.floor = base_lsn - 1
        self._entries_max = entries_max
        self._last: dict[bytes, int] = {}
        # LSN of the last record that touches every key.
        self._wildcard = 0

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._last)

    def check(self, conditions: Iterable[NotChangedSince]) -> Conflict | StaleSnapshot | None:
        """The first condition's refusal, or None when all of them hold."""
        for condition in conditions:
            snapshot = condition.lsn
            last = self._last.get(condition.key)
            if last is not None and last > snapshot:
                return Conflict(condition.key, last)
            if self._wildcard > snapshot:
                return Conflict(None, self._wildcard)
            if last is None and snapshot < self.floor:
                return StaleSnapshot(self.floor)
        return None

    def note(self, keys: Iterable[bytes] | None, lsn: int) -> None:
        """A record with these keys was given `lsn`, conditional or not; None stands for all."""
        if keys is None:
            self._wildcard = lsn
            return
        last = self._last
        for key in keys:
            # Taken out first, so that the dict stays in the order of LSNs.
            last.pop(key, None)
            last[key] = lsn

    def evict(self, committed_tail: int) -> None:
        """Forget the oldest keys beyond the margin, as long as their records are committed."""
        last = self._last
        excess = len(last) - self._entries_max
        # Many at once: each look at a dict's oldest entry passes over those deleted before it.
        if excess <= self._entries_max // 16:
            return
        gone: list[bytes] = []
        floor = self.floor
        for key, lsn in last.items():
            if lsn >= committed_tail or (len(gone) >= excess and lsn > floor):
                break
            floor = max(floor, lsn)
            gone.append(key)
        for key in gone:
            del last[key]
        self.floor = floor
