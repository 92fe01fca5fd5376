"""What goes wrong in a world: which faults its seed chose, and when each one strikes."""

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import zip_longest
from typing import Any, Final, Protocol

from ...core.errors import PerdureError
from ...core.tasks import TaskScope
from .chance import Chance
from .disk import PowerLoss, SimulationDisk
from .log_life import RawLog
from .loop import SimulationClock, SimulationLoop
from .network import SimulationNetwork
from .node import NODE, SimulatedNode
from .trace import Trace
from .worker import SimulatedWorker
from .workload import MS

DEPLOYMENTS: Final = ("deployment-1", "deployment-2")
"""What workers run as; each life of one draws."""

LOST_BATCH: Final = "batch lost"
"""The fault that worlds have only when they are told to: nothing can be well after it."""


class Breakable(Protocol):
    """What faults strike in a world."""

    loop: SimulationLoop
    trace: Trace
    scope: TaskScope
    network: SimulationNetwork
    clock: SimulationClock
    node: SimulatedNode | None
    disks: dict[str, SimulationDisk]
    workers: list[SimulatedWorker]
    raw: RawLog

    def crash(self, *, power: bool) -> None:
        """End the node at once, and lose unsynced writes when the power goes with it."""
        ...

    def power_out(self) -> None:
        """The machine loses its power within an operation of one of its disks."""
        ...

    def lose_batch(self, chance: Chance) -> None:
        """Lose a batch of the partition's log that it needs again, if there is one."""
        ...

    def lose_store(self) -> None:
        """Lose the disk of the partition store, and go on with an empty one."""
        ...

    def start_worker(
        self, worker: SimulatedWorker, chance: Chance, deployment: str | None = None
    ) -> None:
        """Begin a life of a worker, of one of the deployments unless told which."""
        ...


class Faults:
    """Strikes at drawn times until its time is up; `heal` mends everything."""

    def __init__(
        self,
        world: Breakable,
        chance: Chance,
        chosen: tuple[str, ...] | None = None,
        *,
        store_may_be_lost: bool = False,
    ) -> None:
        """Draw which kinds of faults this world has unless they are `chosen`, and how many.

        Args:
            store_may_be_lost: whether the partition store is lost for good, now and then.
        """
        self._world = world
        self._chance = chance
        kinds: dict[str, Callable[[], None]] = {
            "kill": self._kill,
            "power": self._power,
            "power within an operation": self._power_within_an_operation,
            "failing disk": self._failing_disk,
            "worker dies": self._worker_dies,
            "worker freezes": self._worker_freezes,
            "connections cut": self._connections_cut,
            "clock jumps": self._clock_jumps,
            "segment changes": self._segment_changes,
            "log 1 changes": self._raw_log_changes,
            "segment changes behind a frozen worker": self._change_behind_a_frozen_worker,
        }
        if chosen is None:
            self._kinds = [kind for kind in kinds.values() if chance.happens(0.6)]
        else:
            kinds[LOST_BATCH] = self._batch_lost
            self._kinds = [kinds[name] for name in chosen]
        if store_may_be_lost:
            self._kinds.append(self._store_lost)
        self._count = chance.between(1, 12) if self._kinds else 0
        self._restarts: list[asyncio.Task[Any]] = []
        self._timers: list[asyncio.TimerHandle] = []

    async def run(self, duration_ns: int, clients: "list[asyncio.Task[None]]") -> None:
        """Let faults strike, at most for `duration_ns` and while there are clients at work."""
        world = self._world
        end_ns = world.loop.now_ns + duration_ns
        step_ns_max = self._chance.pick((30, 120, 400)) * MS
        for _ in range(self._count):
            await world.loop.pause(int(self._chance.fraction() * step_ns_max))
            if world.loop.now_ns >= end_ns or all(client.done() for client in clients):
                return
            self._chance.pick(self._kinds)()

    async def heal(self) -> None:
        """Mend everything: nothing fails from now on, every worker is alive."""
        world = self._world
        world.network.heal()
        for task in self._restarts:
            task.cancel()
        for timer in self._timers:
            timer.cancel()
        # An invocation that has begun stays with its deployment: each must be there in the end.
        for worker, deployment in zip_longest(world.workers, DEPLOYMENTS):
            if deployment is not None and worker.deployment != deployment:
                worker.die()
            while worker.dying:
                await world.loop.pause(1 * MS)
            if not worker.alive:
                world.start_worker(worker, self._chance, deployment)
        for disk in world.disks.values():
            disk.heal()
        if any(disk.faulty for disk in world.disks.values()):
            # What failed stays so until it is opened again.
            world.crash(power=False)

    # The node ------------------------------------------------------------------------------------

    def _kill(self) -> None:
        self._world.crash(power=False)

    def _power(self) -> None:
        self._world.crash(power=True)

    def _power_within_an_operation(self) -> None:
        world = self._world
        disk = world.disks[self._chance.pick(("log", "log", "store", "metadata"))]
        where = self._chance.pick((PowerLoss.BEFORE, PowerLoss.AFTER))
        operations = self._chance.between(0, 6)
        world.trace.add(disk.name, f"power will go after {operations} operations")
        disk.lose_power_at(operations, where, world.power_out)

    def _failing_disk(self) -> None:
        disk = self._world.disks[self._chance.pick(("log", "log", "store", "metadata"))]
        if self._chance.happens(0.5):
            self._world.trace.add(disk.name, "the next sync will fail")
            disk.fail_next_sync()
        else:
            self._world.trace.add(disk.name, "the next write will fail")
            disk.fail_next_write()

    def _store_lost(self) -> None:
        self._world.lose_store()

    def _clock_jumps(self) -> None:
        world = self._world
        jump_ns = self._chance.between(-2_000, 2_000) * MS
        world.clock.shift_ns += jump_ns
        world.trace.add(NODE, f"its clock jumps by {jump_ns // MS} ms")

    def _segment_changes(self) -> None:
        world = self._world
        node = world.node
        by_stranger = self._chance.happens(0.5)

        async def change() -> None:
            try:
                if node is not None and node.leading:
                    await node.change_segment(by_stranger=by_stranger)
            except PerdureError as error:
                world.trace.add(NODE, f"no new segment: {error.code}")

        world.trace.add(NODE, "a stranger seals its segment" if by_stranger else "a new segment")
        world.scope.spawn(change(), name="a new segment")

    def _raw_log_changes(self) -> None:
        world = self._world
        raw = world.raw
        change = self._chance.pick(("new segment", "stranger's seal", "closed"))
        if change == "closed":
            work = partial(raw.close_for, self._chance.between(1, 150) * MS)
        else:
            work = partial(raw.change_segment, by_stranger=change == "stranger's seal")
        world.trace.add("log 1", change)
        world.scope.spawn(work(), name="change of log 1")

    def _batch_lost(self) -> None:
        if self._chance.happens(0.5):
            self._world.raw.lose_batch(self._chance)
        else:
            self._world.lose_batch(self._chance)

    # Workers and lines ---------------------------------------------------------------------------

    def _worker_dies(self) -> None:
        world = self._world
        worker = self._chance.pick(world.workers)
        worker.die()
        delay_ns = self._chance.between(1, 200) * MS

        async def come_back() -> None:
            await world.loop.pause(delay_ns)
            if not worker.alive:
                world.start_worker(worker, self._chance)

        self._restarts.append(world.scope.spawn(come_back(), name=f"{worker.name} comes back"))

    def _worker_freezes(self) -> None:
        self._freeze(self._chance.between(1, 300) * MS)

    def _change_behind_a_frozen_worker(self) -> None:
        """What the worker sends when it thaws rests on a time that the new segment never saw."""
        world = self._world
        duration_ns = self._chance.between(150, 600) * MS
        self._freeze(duration_ns)
        change_ns = world.loop.now_ns + int((0.4 + 0.6 * self._chance.fraction()) * duration_ns)
        self._timers.append(world.loop.call_at_ns(change_ns, self._segment_changes))

    def _freeze(self, duration_ns: int) -> None:
        world = self._world
        worker = self._chance.pick(world.workers)
        world.trace.add(worker.name, f"freezes for {duration_ns // MS} ms")
        world.network.freeze(worker.name)

        def thaw() -> None:
            world.trace.add(worker.name, "thaws")
            world.network.thaw(worker.name)

        world.loop.call_at_ns(world.loop.now_ns + duration_ns, thaw)

    def _connections_cut(self) -> None:
        world = self._world
        name = self._chance.pick([worker.name for worker in world.workers])
        count = world.network.cut(name)
        world.trace.add(name, f"{count} connections are cut")
