"""Copies of partitions that come to other rows than the others, as by a flipped bit.

Each is found at the next comparison, is set aside, and stays so over whatever befalls its node
until an operator has it filled anew. Meanwhile it leads nothing.
"""

from typing import TYPE_CHECKING, Final

from ....core.errors import PerdureError
from ....log.types import LogBatch
from ....partition_processor.processor import PartitionProcessor
from ....partition_processor.records import ANNOUNCE_LEADER, AnnounceLeader
from ..chance import Chance
from ..observer import LogRecord
from ..violation import require
from .member import MS, S, SimulatedMember

if TYPE_CHECKING:
    from .world import NodesWorld

SHARE: Final = 0.2
"""Of all worlds."""

FAULT: Final = "rows differ"

_FILLED_NS: Final = 30 * S
"""So long after the last fault every copy counts again."""


class Differing:
    """Has copies differ, and knows which of them are set aside.

    Draws from a stream of its own, so that worlds without are what they would be without it.

    Attributes:
        wanted: whether any are to differ.
    """

    def __init__(self, world: "NodesWorld", chance: Chance, wanted: bool | None) -> None:
        """Draw whether any are to, unless it is `wanted` or not."""
        self._world = world
        self._chance = chance
        self.wanted = chance.happens(SHARE) if wanted is None else wanted
        self._odds = chance.pick((0.1, 0.5))
        # Node and partition: of these it is certain that the disk has it.
        self._aside: set[tuple[str, int]] = set()

    # While the world lives -----------------------------------------------------------------------

    def seen(self, partition: int, record: LogRecord) -> None:
        """Somebody reads a record, as the first one. Raises InvariantViolation."""
        if self._aside and record.record.kind == ANNOUNCE_LEADER:
            command = record.command()
            assert isinstance(command, AnnounceLeader)
            require(
                (command.node, partition) not in self._aside,
                "who is set aside does not lead",
                f"partition {partition}: {command.node}, LSN {record.lsn}",
            )

    def opened(self, name: str, processor: PartitionProcessor) -> None:
        """A node takes a partition up from its disk. Raises InvariantViolation."""
        place = name, processor.partition
        if name in self._world.lost:
            self._aside.discard(place)
        require(
            place not in self._aside or processor.aside is not None,
            "who is set aside stays so",
            f"partition {processor.partition} of {name}",
        )

    def spoils(self, name: str, processor: PartitionProcessor, item: LogBatch) -> bool:
        """Maybe have a copy differ that is about to compare itself with another one."""
        world, partition = self._world, processor.partition
        if not self.wanted or world.healed:
            return False
        context = processor._machine.context
        record = item.batch.records[0]
        if record.kind != ANNOUNCE_LEADER or item.first_lsn != context.lsn + 1:
            return False
        command = LogRecord(item.first_lsn, 0, 0, record).command()
        assert isinstance(command, AnnounceLeader)
        compares = command.digest and command.lsn == context.lsn and command.node != name
        # One copy at a time: another one has to be right.
        if not compares or any(number == partition for _, number in self._aside):
            return False
        if not context.counts_once(record) or not self._chance.happens(self._odds):
            return False
        processor._machine._digest = b"something else.."
        return True

    def spoilt(self, member: SimulatedMember, processor: PartitionProcessor) -> None:
        """It has compared itself. Raises InvariantViolation where it has found nothing."""
        world, name, partition = self._world, member.name, processor.partition
        require(
            processor.role == "stopped" and processor.aside is not None,
            "who differs stops",
            f"partition {partition} of {name} is {processor.role}",
        )
        world.faults.counts[FAULT] += 1
        world.trace.add(name, f"fault: {FAULT} of partition {partition}")
        self._aside.add((name, partition))
        if self._chance.happens(0.5):
            at_ns = world.loop.now_ns + self._chance.between(100, 8_000) * MS
            world.loop.call_at_ns(at_ns, self._operator, name, partition)

    def _operator(self, name: str, partition: int) -> None:
        member = self._world.members[name]
        if member.engine is not None and member.up and not self._world.healed:
            self._refill(member, partition)

    def _refill(self, member: SimulatedMember, partition: int) -> None:
        def work() -> None:
            assert member.engine is not None
            manager = member.engine.manager
            aside = manager.processors[partition].aside
            if aside is None or aside.refill:
                return
            self._aside.discard((member.name, partition))
            self._world.trace.add(member.name, f"fills partition {partition} anew")
            try:
                manager.refill(partition)
            except PerdureError as refusal:
                self._world.trace.add(member.name, f"does not: {refusal.code}")

        member.process.call(self._world.loop, work)

    # In the end ----------------------------------------------------------------------------------

    async def mend(self) -> None:
        """Have all of them filled anew, once others lead their partitions.

        Raises InvariantViolation when that does not come to an end.
        """
        world = self._world
        by_ns = world.loop.now_ns + _FILLED_NS
        while found := self._found():
            require(
                world.loop.now_ns < by_ns,
                "another copy leads, and who is set aside is filled anew",
                str([(member.name, number) for member, number in found]),
            )
            for member, number in found:
                if self._is_led(number):
                    self._refill(member, number)
            await world.loop.pause(100 * MS)

    def _found(self) -> list[tuple[SimulatedMember, int]]:
        return [
            (member, processor.partition)
            for member in self._world.members.values()
            if member.engine is not None
            for processor in member.engine.manager.processors
            if (aside := processor.aside) is not None
            # One that is not placed here is filled when it is.
            and not (aside.refill and processor.role == "absent")
        ]

    def _is_led(self, partition: int) -> bool:
        return any(
            member.engine is not None and member.engine.manager.processors[partition].leading
            for member in self._world.members.values()
        )
