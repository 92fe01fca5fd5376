"""Some worlds have their logs ordered at other nodes than those that lead the partitions."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ....core.errors import PerdureError
from ....log.virtual_log import VirtualLog
from ..chance import Chance
from .member import MS

if TYPE_CHECKING:
    from .world import NodesWorld

SHARE: Final = 0.1
"""So many of the worlds."""


class Apart:
    """Moves the order of logs away from their leaders, again after each change that brings it back.

    Attributes:
        base_lsns: of each partition the base LSNs of the segments that began so.
    """

    def __init__(self, world: "NodesWorld", chance: Chance) -> None:
        """Draw whether this is such a world."""
        self._world = world
        self._chance = chance
        self.chosen = chance.happens(SHARE)
        self._pause_ms_max = chance.pick((100, 600, 2_000))
        self.base_lsns: list[set[int]] = [set() for _ in range(world.partitions)]

    @property
    def records(self) -> int:
        """How many records were ordered at another node than the leader's."""
        return sum(
            partition.batches[first_lsn] - first_lsn + 1
            for partition, base_lsns in zip(
                self._world.checks.partitions, self.base_lsns, strict=True
            )
            for first_lsn, base_lsn in partition.base_lsns.items()
            if base_lsn in base_lsns
        )

    async def run(self, until: Callable[[], bool]) -> None:
        """Keep the order away from the leaders until it is over, in a world that was chosen."""
        while self.chosen and not until():
            await self._world.loop.pause(self._chance.between(10, self._pause_ms_max) * MS)
            self._part(self._chance.between(0, self._world.partitions - 1))

    def _part(self, partition: int) -> None:
        world = self._world
        sequencer = self._chance.pick(world.names)
        for name, member in world.members.items():
            if member.engine is None or not member.up or name == sequencer:
                continue
            processor = member.engine.manager.processors[partition]
            log = processor.log
            if processor.role != "leader" or log is None:
                continue
            if log.chain.tail.params.sequencer not in ("", name):
                continue  # It is elsewhere.

            part = self._order_at(sequencer, partition, log, name)
            member.process.start(world.loop, part, name="part")
            return

    async def _order_at(self, sequencer: str, partition: int, log: VirtualLog, leader: str) -> None:
        try:
            segment = await log.reconfigure(sequencer=sequencer)
        except PerdureError as error:
            self._world.trace.add(leader, f"keeps the order: {error.code}")
        else:
            self.base_lsns[partition].add(segment.base_lsn)
