"""How far the clocks of nodes are apart, from the time that their heartbeats bring along.

Nothing is decided by it: who lives is told by counts, and records are in order by their epoch. But
expiries, delays and whoever reads times rely on clocks that are about right: operators are told.
"""

from collections import deque
from collections.abc import Mapping
from typing import Final

import msgspec

from ...core.quantities import format_duration

SAMPLES: Final = 32
"""So many messages of a node are remembered; some seconds' worth."""
SAMPLES_MIN: Final = 3
"""Fewer say nothing: each may have been late."""
SKEW_NS_MAX: Final = 2_000_000_000
"""Clocks that are further off are told of."""
SECOND_NS: Final = 1_000_000_000


class _Heard(msgspec.Struct):
    """What one life of a node has told: by how much its clock was ahead when it was heard."""

    generation: int
    ahead_ns: deque[int]


class ClockOffsets:
    """By how much the clocks of other nodes are ahead of this one's.

    A message is late and never early, so the largest of some differences is the nearest to the
    truth; a node that was held up seems to be behind until it has been heard again.
    """

    def __init__(self) -> None:
        """Know of nobody."""
        self._heard: dict[int, _Heard] = {}

    def heard(self, node_id: int, generation: int, time_ns: int, own_time_ns: int) -> None:
        """A message came that says what time it was when it was sent; 0 when it does not."""
        if not time_ns:
            return
        heard = self._heard.get(node_id)
        if heard is None or heard.generation < generation:
            heard = self._heard[node_id] = _Heard(generation, deque(maxlen=SAMPLES))
        elif heard.generation > generation:
            return
        heard.ahead_ns.append(time_ns - own_time_ns)

    def ahead_ns(self, generations: Mapping[int, int]) -> dict[int, int]:
        """Of each node that has been heard often enough in its present life, nanoseconds.

        Args:
            generations: of the nodes that there are; others are forgotten.
        """
        for node_id in [node_id for node_id in self._heard if node_id not in generations]:
            del self._heard[node_id]
        return {
            node_id: max(heard.ahead_ns)
            for node_id, heard in self._heard.items()
            if heard.generation == generations[node_id] and len(heard.ahead_ns) >= SAMPLES_MIN
        }


def clock_warnings(ahead_ns: Mapping[str, int]) -> list[str]:
    """What an operator should know of clocks that are off.

    Every node that hears the same nodes says the same: each clock is held against the middle one.

    Args:
        ahead_ns: by node, how far ahead its clock is of any one clock; this node's own is among
            them.
    """
    if not ahead_ns:
        return []
    middle = sorted(ahead_ns.values())[(len(ahead_ns) - 1) // 2]
    found: list[str] = []
    for name, ahead in sorted(ahead_ns.items()):
        off_ns = ahead - middle
        if abs(off_ns) <= SKEW_NS_MAX:
            continue
        text = format_duration(round(abs(off_ns) / SECOND_NS) * SECOND_NS)
        side = "ahead of" if off_ns > 0 else "behind"
        found.append(
            f"the clock of {name} is {text} {side} the others': times, delays and expiries are "
            "wrong by as much where it leads; set it, and keep all clocks in step (NTP)"
        )
    return found
