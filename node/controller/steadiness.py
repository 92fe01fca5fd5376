"""Steadiness: how long each node has been well or dead, so that who flaps moves nothing twice."""

from dataclasses import dataclass

from ..membership.view import MembershipView

SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class SteadinessOptions:
    """How calm placement is; durations in ns.

    Attributes:
        settle_ns: how long a node must be well before work is moved to it for balance; doubles
            with each death that is not forgiven yet.
        settle_ns_max: the longest that becomes.
        forgive_ns: how long a node must be well for its deaths to be forgotten.
        replace_ns: how long a node must be dead before its copies are made elsewhere: a restart
            is quicker than that.
    """

    settle_ns: int = 10 * SECOND_NS
    settle_ns_max: int = 300 * SECOND_NS
    forgive_ns: int = 600 * SECOND_NS
    replace_ns: int = 30 * SECOND_NS


@dataclass(slots=True)
class _Record:
    well: bool
    dead: bool
    since_ns: int
    deaths: int = 0


class Steadiness:
    """Watches views. Times are of one monotonic clock; a plain machine."""

    def __init__(self, options: SteadinessOptions | None = None) -> None:
        """Know nobody."""
        self._options = options or SteadinessOptions()
        self._records: dict[int, _Record] = {}

    def observe(self, now_ns: int, view: MembershipView) -> None:
        """Take in who lives now."""
        steady, alive = set(view.steady()), set(view.alive())
        for status in view.nodes:
            node_id = status.node_id
            well, dead = node_id in steady, node_id not in alive
            record = self._records.get(node_id)
            if record is None:
                self._records[node_id] = _Record(well, dead, now_ns)
                continue
            if record.well and now_ns - record.since_ns >= self._options.forgive_ns:
                record.deaths = 0
            if (well, dead) != (record.well, record.dead):
                record.deaths += dead and not record.dead
                record.well, record.dead, record.since_ns = well, dead, now_ns
        known = {status.node_id for status in view.nodes}
        for node_id in [node_id for node_id in self._records if node_id not in known]:
            del self._records[node_id]

    def settled(self, now_ns: int) -> frozenset[int]:
        """Who has been well for long enough."""
        return frozenset(
            node_id
            for node_id, record in self._records.items()
            if record.well and now_ns - record.since_ns >= self._wait_ns(record)
        )

    def lost(self, now_ns: int) -> frozenset[int]:
        """Who has been dead for long enough."""
        return frozenset(
            node_id
            for node_id, record in self._records.items()
            if record.dead and now_ns - record.since_ns >= self._options.replace_ns
        )

    def _wait_ns(self, record: _Record) -> int:
        # A power of two: deaths beyond thirty change nothing any more.
        wait_ns = self._options.settle_ns << min(record.deaths, 30)
        return min(wait_ns, self._options.settle_ns_max)
