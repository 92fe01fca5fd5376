"""Nearness: which replicas are so close behind that a lead may go to them for balance.

Whoever is far behind applies what it lacks first, and its partition waits for that. The bounds are
two, so that who hovers about one of them is not near and far by turns.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ...metadata.placement import Placement


@dataclass(frozen=True, slots=True)
class NearnessOptions:
    """How many records a replica may lack; applied in a fraction of a second.

    Nodes tell how far they are twice a second, so what they tell is not of one moment: at full
    load a replica seems to lack a few thousand that it has.

    Attributes:
        near_lsns: with so many or fewer a replica becomes near.
        far_lsns: with more it is near no longer.
    """

    near_lsns: int = 4_096
    far_lsns: int = 16_384


class Nearness:
    """Watches how far nodes are. A plain machine."""

    def __init__(self, options: NearnessOptions | None = None) -> None:
        """Hold nobody to be near."""
        self._options = options or NearnessOptions()
        self._near: frozenset[tuple[int, int]] = frozenset()

    def observe(
        self, placement: Placement, applied: Mapping[tuple[int, int], int]
    ) -> frozenset[tuple[int, int]]:
        """Who is near now, by (partition, node); nobody where the leader has told nothing.

        Args:
            applied: see `Facts.applied`.
        """
        found: set[tuple[int, int]] = set()
        for number, item in enumerate(placement.partitions):
            if (number, item.leader) not in applied:
                continue
            told = {
                node: applied[number, node] for node in item.replicas if (number, node) in applied
            }
            # Whoever is placed as leader may have only begun to be it.
            furthest = max(told.values(), default=0)
            for node, lsn in told.items():
                was_near = (number, node) in self._near
                bound = self._options.far_lsns if was_near else self._options.near_lsns
                if furthest - lsn <= bound:
                    found.add((number, node))
        self._near = frozenset(found)
        return self._near
