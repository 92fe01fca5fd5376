"""What happens to whole nodes, beside what happens to every simulated cluster."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from ....core.errors import PerdureError
from ..chance import Chance
from ..cluster.faults import Faults
from ..disk import PowerLoss
from ..faults import DEPLOYMENTS
from .member import MS

if TYPE_CHECKING:
    from .world import NodesWorld

KINDS: Final = (
    "kill",
    "power",
    "power everywhere",
    "power within an operation",
    "pause",
    "cut one way",
    "cut both ways",
    "cut off",
    "cut off one way",
    "split",
    "reset",
    "leave",
    "drain",
    "move",
    "failing disk",
    "clock jumps",
    "new segment",
    "stranger's seal",
    "worker dies",
    "worker freezes",
)
"""Each world has some of them."""

DISK_LOST: Final = "disk lost"
"""Happens once in a world at most: with two copies, only one of them may be lost for good."""


class NodeFaults(Faults):
    """Does things to a world of whole nodes."""

    def __init__(self, world: "NodesWorld", chance: Chance, kinds: tuple[str, ...]) -> None:
        """Take what may happen."""
        # The faults of clusters need of a world what both kinds of worlds have.
        super().__init__(cast(Any, world), chance, kinds)
        self._nodes = world
        more: dict[str, Callable[[str], None]] = {
            "power everywhere": self._power_everywhere,
            "power within an operation": self._power_within_an_operation,
            "failing disk": self._failing_disk,
            "clock jumps": self._clock_jumps,
            "new segment": lambda name: self._change_segment(name, by_stranger=False),
            "stranger's seal": lambda name: self._change_segment(name, by_stranger=True),
            "worker dies": self._worker_dies,
            "worker freezes": self._worker_freezes,
            "move": self._move_lead,
            DISK_LOST: self._disk_lost,
        }
        self._do |= more

    def _power_everywhere(self, _name: str) -> None:
        world = self._nodes
        names = [name for name in world.names if world.members[name].up]
        for name in names:
            world.end(name, power=True)
        for name in names:
            self._later(lambda name=name: world.start_again(name), 100, 2_000)  # type: ignore[misc]

    def _disk_of(self, name: str) -> Any:
        kind = self._chance.pick(("log", "log", "store", "metadata-server"))
        return self._nodes.members[name].disks[kind]

    def _power_within_an_operation(self, name: str) -> None:
        world = self._nodes
        member = world.members[name]
        if not member.up:
            return
        where = self._chance.pick((PowerLoss.BEFORE, PowerLoss.AFTER))

        def out() -> None:
            for disk in member.disks.values():
                disk.cut_power()
            world.end(name, power=True)
            self._later(lambda: world.start_again(name), 20, 3_000)

        def lost() -> None:
            # Within an operation of a disk: the process gets no further than its error.
            member.process.pause()
            world.soon(out)

        self._disk_of(name).lose_power_at(self._chance.between(0, 6), where, lost)

    def _failing_disk(self, name: str) -> None:
        disk = self._disk_of(name)
        if self._chance.happens(0.5):
            disk.fail_next_sync()
        else:
            disk.fail_next_write()

    def _disk_lost(self, name: str) -> None:
        world = self._nodes
        if world.lost or not world.members[name].up or not world.metadata_survives:
            return
        world.lose_disks(name)
        self._later(lambda: world.start_again(name), 200, 3_000)

    def _clock_jumps(self, name: str) -> None:
        self._nodes.clocks[name].shift_ns = self._chance.between(-2_000, 2_000) * MS

    def _change_segment(self, name: str, *, by_stranger: bool) -> None:
        world = self._nodes
        member = world.members[name]
        if member.engine is None or not member.up:
            return
        processor = self._chance.pick(member.engine.manager.processors)
        log = processor.log

        async def change() -> None:
            try:
                if log is None:
                    return
                if by_stranger:
                    await log._loglet(log.chain.tail).seal()
                elif processor.role == "leader":
                    await log.reconfigure()
            except PerdureError as error:
                world.trace.add(name, f"no new segment: {error.code}")

        member.process.start(world.loop, change(), name="change of segment")

    def _move_lead(self, name: str) -> None:
        world = self._nodes
        member = world.members[name]
        if member.server.cluster is None or not member.server.cluster.joined or not member.up:
            return
        cluster = member.server.cluster
        target = self._chance.pick(cluster.membership.nodes.nodes)
        partition = self._chance.between(0, world.partitions - 1)

        async def move() -> None:
            try:
                await cluster.controller.move(partition, target.id)
            except PerdureError as refusal:
                world.trace.add(name, f"does not move a lead: {refusal.code}")

        member.process.start(world.loop, move(), name="move")

    def _worker_dies(self, _name: str) -> None:
        world = self._nodes
        worker = self._chance.pick(world.workers)
        worker.die()
        deployment = self._chance.pick(DEPLOYMENTS)
        self._later(lambda: world.start_worker(worker, deployment), 20, 500)

    def _worker_freezes(self, _name: str) -> None:
        world = self._nodes
        worker = self._chance.pick(world.workers)
        world.network.freeze(worker.name)
        self._later(lambda: world.network.thaw(worker.name), 10, 800)
