"""Zones: nodes that fail together, and records that are in two of them before they count."""

from typing import TYPE_CHECKING, Final

from ....core.ids import LogId
from ....log.chain import Segment
from ....log.replicated.holdings import RANGES_SHOWN, SegmentHoldings
from ....node.engine import NodeEngine
from ..chance import Chance
from ..violation import require
from .member import MS, SimulatedMember

if TYPE_CHECKING:
    from .world import NodesWorld

LAYOUTS: Final = {3: ("abc",), 4: ("aabb", "abcc", "abbc"), 5: ("aabbc", "aabcc", "aaabb")}
"""By the number of nodes: a letter per node."""

SHARE: Final = 0.6
"""Of the worlds that have four nodes or five: a quarter of all."""

LOG_ZONES: Final = 2

FAILURE: Final = "zone fails"


class Zones:
    """Where nodes are, the failure of all that are in one place, and what must hold then.

    Draws from a stream of its own, so that worlds without zones are what they would be without it.

    Attributes:
        of: the zone of each node; empty where this world has none.
    """

    def __init__(
        self, world: "NodesWorld", chance: Chance, names: tuple[str, ...], wanted: bool | None
    ) -> None:
        """Draw whether there are any, unless it is `wanted` or not."""
        self._world = world
        self._chance = chance
        self.of: dict[str, str] = {}
        if wanted is None:
            wanted = len(names) > 3 and chance.happens(SHARE)
        if wanted:
            self.of = dict(zip(names, chance.pick(LAYOUTS[len(names)]), strict=True))
        self._gap_ms = chance.pick(((400, 3_000), (2_000, 8_000)))

    def settings(self, name: str) -> dict[str, str]:
        """The options of a node that have to do with it."""
        if not self.of:
            return {}
        return {"cluster.zone": self.of[name], "cluster.log_zones": str(LOG_ZONES)}

    async def run(self, duration_ns: int) -> None:
        """Have zones fail for a while."""
        world, chance = self._world, self._chance
        until_ns = world.loop.now_ns + duration_ns
        while self.of:
            await world.loop.pause(chance.between(*self._gap_ms) * MS)
            if world.healed or world.loop.now_ns >= until_ns:
                return
            zone = chance.pick(sorted(set(self.of.values())))
            names = [name for name in world.names if self.of[name] == zone]
            power = chance.happens(0.5)
            world.faults.counts[FAILURE] += 1
            world.trace.add(zone, f"fault: {FAILURE}")
            for name in names:
                world.end(name, power=power)
            back_ns = chance.between(100, 6_000) * MS
            for name in names:
                self._come_back(name, back_ns + chance.between(0, 500) * MS)
            world.checks.topology_changed()

    def _come_back(self, name: str, delay_ns: int) -> None:
        world = self._world

        def again() -> None:
            if not world.healed:
                world.start_again(name)

        world.loop.call_at_ns(world.loop.now_ns + delay_ns, again)

    # What must hold ------------------------------------------------------------------------------

    async def check(self) -> None:
        """Every committed record is in two zones, once all is well. Raises InvariantViolation.

        Where a disk was lost for good, others have what it had, maybe all in one zone.
        """
        world = self._world
        if not self.of or world.lost:
            return
        for number in range(world.partitions):
            while (member := self._leader(number)) is None:
                await world.loop.pause(20 * MS)  # A lead that moves for balance.
            engine = member.engine
            assert engine is not None
            found: list[tuple[Segment, SegmentHoldings]] = []
            look = self._look(engine, number, found)
            await member.process.start(world.loop, look, name="look at zones")
            for segment, held in found:
                with world.first_violation():
                    self._check_segment(number, segment, held)

    def _leader(self, number: int) -> SimulatedMember | None:
        return next(
            (
                item
                for item in self._world.members.values()
                if item.up
                and item.engine is not None
                and item.engine.manager.processors[number].leading
            ),
            None,
        )

    @staticmethod
    async def _look(
        engine: NodeEngine, number: int, found: list[tuple[Segment, SegmentHoldings]]
    ) -> None:
        log = await engine.logs.open(LogId(number))
        await log.refresh()
        assert engine.replicated is not None
        tail = (await log.find_tail()).lsn
        segments = log.chain.segments
        ends = [*(segment.base_lsn for segment in segments[1:]), tail]
        for segment, end_lsn in zip(segments, ends, strict=True):
            end_offset = segment.offset_of(end_lsn)
            held = await engine.replicated.provider.holdings(segment, 1, end_offset, end_offset)
            if held is not None:
                found.append((segment, held))

    def _check_segment(self, number: int, segment: Segment, held: SegmentHoldings) -> None:
        what = "Z1: a committed record is in two zones"
        there = [item for item in held.servers if item.status == "ok"]
        if any(len(item.missing) == RANGES_SHOWN for item in there):
            return  # More is missing somewhere than is told.
        for offset in range(held.first_offset, held.end_offset):
            zones = {
                self.of[item.node]
                for item in there
                if not any(first <= offset <= last for first, last in item.missing)
            }
            require(
                len(zones) >= LOG_ZONES,
                what,
                f"partition {number}, LSN {segment.lsn_of(offset)}: {sorted(zones)} of "
                f"{[(item.node, item.status, item.missing) for item in held.servers]}",
            )
