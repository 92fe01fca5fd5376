"""What goes wrong in a loglet's world: which faults its seed chose, and when each one strikes."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from ....core.tasks import TaskScope
from ..chance import Chance
from ..disk import PowerLoss
from ..loop import SimulationLoop
from ..network import SimulationNetwork
from .machines import MS, SEQUENCER, NodeMachine, ServerMachine


class Breakable(Protocol):
    """What faults strike in a world."""

    loop: SimulationLoop
    scope: TaskScope
    network: SimulationNetwork
    servers: dict[str, ServerMachine]
    nodes: dict[str, NodeMachine]

    async def crash_node(self, name: str) -> None:
        """End a life of a node and begin the next one."""
        ...

    def seal_from(self, name: str) -> None:
        """Have a node seal the loglet."""
        ...


class Faults:
    """Strikes at drawn times until its time is up; `heal` mends everything."""

    def __init__(
        self, world: Breakable, chance: Chance, chosen: tuple[str, ...] | None = None
    ) -> None:
        """Draw which kinds of faults this world has unless they are `chosen`, and how many."""
        self._world = world
        self._chance = chance
        kinds: dict[str, Callable[[], None]] = {
            "kill": partial(self._crash, power=False),
            "power": partial(self._crash, power=True),
            "power within an operation": self._power_within_an_operation,
            "failing disk": self._failing_disk,
            "disk lost": self._disk_lost,
            "disk lost beside a laggard": self._disk_lost_beside_a_laggard,
            "sealers apart": self._sealers_apart,
            "freeze": self._freeze,
            "cut": self._cut,
            "one way blocked": self._block,
            "node crashes": self._node_crashes,
            "everything loses power": self._all_lose_power,
        }
        if chosen is None:
            self._kinds = [kind for kind in kinds.values() if chance.happens(0.5)]
        else:
            self._kinds = [kinds[name] for name in chosen]
        self._count = chance.between(1, 14) if self._kinds else 0
        self._stay_ns_max = chance.pick((5, 40, 150)) * MS
        self._healed = False
        self._apart = False

    async def run(self, duration_ns: int, work: "list[asyncio.Task[None]]") -> None:
        """Let faults strike, at most for `duration_ns` and while somebody is at work."""
        loop = self._world.loop
        end_ns = loop.now_ns + duration_ns
        step_ns_max = self._chance.pick((5, 30, 100)) * MS
        for _ in range(self._count):
            await loop.pause(int(self._chance.fraction() * step_ns_max))
            if loop.now_ns >= end_ns or all(task.done() for task in work):
                return
            self._chance.pick(self._kinds)()

    async def heal(self) -> None:
        """Mend everything: nothing fails from now on, and every server is up."""
        self._healed = True
        self._world.network.heal()
        for server in self._world.servers.values():
            server.disk.heal()
            if server.failed:
                self._end(server, power=False)
            if server.server is None:
                server.disk.heal()
                await server.start()

    # Faults --------------------------------------------------------------------------------------

    def _server(self) -> ServerMachine:
        return self._chance.pick(list(self._world.servers.values()))

    def _later(self, work: Callable[[], Any]) -> None:
        """Call it after the fault has lasted for a while, unless everything was mended before."""
        due_ns = self._world.loop.now_ns + int(self._chance.fraction() * self._stay_ns_max)
        self._world.loop.call_at_ns(due_ns, self._unless_healed, work)

    def _unless_healed(self, work: Callable[[], Any]) -> None:
        if not self._healed:
            work()

    def _crash(self, *, power: bool) -> None:
        server = self._server()
        if server.server is not None:
            self._end(server, power=power)
            self._later(partial(self._restart, server))

    def _end(self, server: ServerMachine, *, power: bool) -> None:
        ended = server.crash(power=power)
        if ended is not None:
            self._world.scope.spawn(ended(), name=f"end of {server.name}")

    def _restart(self, server: ServerMachine) -> None:
        self._world.scope.spawn(self._start(server), name=f"start of {server.name}")

    async def _start(self, server: ServerMachine) -> None:
        if server.server is None:
            await server.start()

    def _all_lose_power(self) -> None:
        for server in self._world.servers.values():
            if server.server is not None:
                self._end(server, power=True)
                self._later(partial(self._restart, server))

    def _power_within_an_operation(self) -> None:
        server = self._server()
        if server.server is None:
            return
        loop = self._world.loop

        def power_fails() -> None:
            loop.call_soon(self._power_failed, server)

        where = self._chance.pick((PowerLoss.BEFORE, PowerLoss.AFTER))
        server.disk.lose_power_at(self._chance.between(0, 6), where, power_fails)

    def _power_failed(self, server: ServerMachine) -> None:
        self._end(server, power=True)
        self._later(partial(self._restart, server))
        if self._healed and server.server is None:
            self._restart(server)

    def _failing_disk(self) -> None:
        server = self._server()
        if server.server is None:
            return
        if self._chance.happens(0.5):
            server.disk.fail_next_sync()
        else:
            server.disk.fail_next_write()
        self._later(partial(self._replace_failed, server))

    def _replace_failed(self, server: ServerMachine) -> None:
        if server.failed:
            self._end(server, power=self._chance.happens(0.5))
        if server.server is None:
            self._restart(server)

    def _disk_lost(self) -> None:
        """One server for good: with two copies of everything more would be too much."""
        self._lose_disk(self._server())

    def _lose_disk(self, server: ServerMachine) -> None:
        servers = self._world.servers.values()
        if len(servers) < 3 or any(other.lost for other in servers):
            return
        self.burn(server)
        self._later(partial(self._restart, server))

    def burn(self, server: ServerMachine) -> None:
        """Lose its disk for good, and its process with it."""
        self._end(server, power=False)
        server.lose_disk()

    def _disk_lost_beside_a_laggard(self) -> None:
        """One server hears nothing of the sequencer for a while, then another one loses its disk.

        Of what was committed meanwhile, all the others but one may know nothing then, and the
        sequencer is not there any more to tell them.
        """
        laggard, victim = self._server(), self._server()
        if laggard is victim:
            return
        self._block_for_a_while(SEQUENCER, laggard.name)
        self._later(partial(self._lose_disk_and_sequencer, victim))

    def _lose_disk_and_sequencer(self, victim: ServerMachine) -> None:
        self._lose_disk(victim)
        self._crash_node(SEQUENCER)

    def _party(self) -> str:
        return self._chance.pick([*self._world.servers, *self._world.nodes])

    def _freeze(self) -> None:
        name = self._party()
        self._world.network.freeze(name)
        self._later(partial(self._world.network.thaw, name))

    def _cut(self) -> None:
        self._world.network.cut(self._party(), late=self._chance.happens(0.5))

    def _block(self) -> None:
        server, node = self._server().name, self._chance.pick(list(self._world.nodes))
        ends = (server, node) if self._chance.happens(0.5) else (node, server)
        self._world.network.block(*ends)
        self._later(partial(self._world.network.unblock, *ends))
        if self._chance.happens(0.5):
            # The connection goes, what was under way comes late, and nobody can make another one.
            self._world.network.cut(node, late=True)

    def _sealers_apart(self) -> None:
        """Only one server hears of the sequencer; then all seal, some with it and some without."""
        if self._apart:
            return
        self._apart = True
        lonely = self._server().name
        for server in self._world.servers:
            if server != lonely:
                self._block_for_a_while(SEQUENCER, server)
        self._later(partial(self._seal_apart, lonely))

    def _seal_apart(self, lonely: str) -> None:
        others = [server for server in self._world.servers if server != lonely]
        for name in self._world.nodes:
            if name != SEQUENCER:
                away = lonely if self._chance.happens(0.5) else self._chance.pick(others)
                self._block_for_a_while(name, away)
                self._world.seal_from(name)

    def _block_for_a_while(self, sender: str, receiver: str) -> None:
        network = self._world.network
        network.block(sender, receiver)
        due_ns = self._world.loop.now_ns + 2 * self._stay_ns_max
        self._world.loop.call_at_ns(due_ns, network.unblock, sender, receiver)

    def _node_crashes(self) -> None:
        self._crash_node(self._chance.pick(list(self._world.nodes)))

    def _crash_node(self, name: str) -> None:
        self._world.scope.spawn(self._world.crash_node(name), name=f"crash of {name}")
