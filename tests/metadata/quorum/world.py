"""A world of metadata servers, clients and an operator on a virtual clock, drawn from a seed."""

import asyncio
import itertools
from collections import Counter
from dataclasses import dataclass, field

from perdure.core.errors import StorageError, TransportError
from perdure.core.tasks import TaskScope
from perdure.metadata.quorum import (
    SERVICE,
    Acceptor,
    MetadataServer,
    MetadataServers,
    Proposer,
    QuorumOptions,
)
from perdure.testing.simulation.chance import Chance
from perdure.testing.simulation.disk import PowerLoss, SimulationDisk
from perdure.testing.simulation.loop import SimulationLoop, run_simulated
from perdure.testing.simulation.trace import Trace

from ..history import History, check
from ..register import Get, Look
from .clients import KEYS, Client, Operator
from .lossy import MS, LossyListener, LossyNetwork, Weather

FINGERPRINT = "a simulated cluster"
OPTIONS = QuorumOptions(operation_seconds=1.5, round_seconds=0.15)
WORLD_NS_MAX = 600_000 * MS


@dataclass(frozen=True, slots=True)
class Plan:
    """What a world is like.

    Attributes:
        servers: how many the cluster begins with.
        clients: how many call at the same time.
        calls: by each client.
        faults: strikes in all.
        changes: how often the operator changes the list of servers.
        wipes: whether a server may lose its storage.
        keys: how many of the keys are used; fewer are fought for harder.
        kinds: of faults, by name; drawn when there are none here.
        step_ms: the longest time between two faults; drawn when it is 0.
    """

    servers: int
    clients: int = 4
    calls: int = 10
    faults: int = 12
    changes: int = 0
    wipes: bool = False
    keys: int = len(KEYS)
    kinds: tuple[str, ...] = ()
    step_ms: int = 0


@dataclass(slots=True)
class Machine:
    """A server's machine."""

    name: str
    disk: SimulationDisk
    server: MetadataServer | None = None
    listener: LossyListener | None = None
    lives: int = 0

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"{self.name}:5122"


@dataclass(slots=True)
class Outcome:
    """What came out of a world."""

    digest: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    history: History = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


class World:
    """Machines, clients, an operator and what strikes them."""

    def __init__(self, seed: int, plan: Plan) -> None:
        """Draw everything from the seed."""
        self.seed = seed
        self.plan = plan
        self.loop = SimulationLoop()
        self.trace = Trace(self.loop)
        self.chance = Chance(seed, "faults")
        self.network = LossyNetwork(self.loop, self.trace, Chance(seed, "network"))
        self.random = Chance(seed, "ids")
        self.counts: Counter[str] = Counter()
        self.scope = TaskScope("world", on_failure=self.fail)
        names = [f"n{number}" for number in range(1, plan.servers + (2 if plan.changes else 1))]
        self.machines = {name: Machine(name, self.new_disk(name)) for name in names}
        self.beginners = names[: plan.servers]
        # Who is in the list, while nobody changes it and no change was left half done.
        self.stable: tuple[str, ...] | None = tuple(self.beginners)
        self.wiped: set[str] = set()
        self.is_well = False
        self.clients = [Client(self, f"client {number}") for number in range(plan.clients)]
        self.history: History = {key: [] for key in KEYS}
        self.ticks = itertools.count()

    def fail(self, failure: BaseException) -> None:
        """End the run with what a task of it raised."""
        self.loop.failure = self.loop.failure or failure

    # Machines ------------------------------------------------------------------------------------

    def new_disk(self, name: str) -> SimulationDisk:
        """An empty disk."""
        return SimulationDisk(name, trace=self.trace, chance=Chance(self.seed, f"disk {name}"))

    async def start(self, machine: Machine) -> None:
        """Begin a life of a server on what its disk holds."""
        machine.lives += 1
        try:
            acceptor = Acceptor(machine.disk, name=machine.name, random=self.random)
        except StorageError as error:
            # The power went while it started; it comes back as after any loss of power.
            self.trace.add(machine.name, f"does not start: {error.message}")
            return
        machine.server = MetadataServer(acceptor, name=machine.name)
        machine.listener = await self.network.transport(machine.name).listen(
            machine.address, {SERVICE: machine.server.handle}
        )
        self.trace.add(machine.name, f"life {machine.lives} of {acceptor.server_id.hex()[:6]}")

    def stop(self, machine: Machine) -> None:
        """The process is gone."""
        if machine.server is None or machine.listener is None:
            return
        self.trace.add(machine.name, "is gone")
        machine.server.stop()
        machine.listener.release()
        self.network.crash(machine.name)
        machine.server = machine.listener = None

    def come_back(self, machine: Machine, disk: SimulationDisk, after_ms: int) -> None:
        """Start again on a disk, later."""

        async def later() -> None:
            await self.loop.pause(after_ms * MS)
            machine.disk = disk
            await self.start(machine)

        self.scope.spawn(later(), name=f"{machine.name} comes back")

    def proposer(self, name: str) -> Proposer:
        """A new proposer."""
        return Proposer(
            self.network.transport(name),
            [machine.address for machine in self.machines.values()],
            random=self.random,
            sender=name,
            fingerprint=FINGERPRINT,
            options=OPTIONS,
        )

    # The run -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """From new machines to a history that is complete."""
        for machine in self.machines.values():
            await self.start(machine)
        await self.provision()
        clients = [self.scope.spawn(each.run(), name=each.name) for each in self.clients]
        others = [self.scope.spawn(self.strike(), name="faults")]
        if self.plan.changes:
            others.append(self.scope.spawn(Operator(self).run(), name="operator"))
        await asyncio.gather(*clients, *others)
        self.is_well = True
        self.network.heal()
        for machine in self.machines.values():
            machine.disk.heal()
        self.trace.add("world", "is well again")
        while not all(machine.server for machine in self.machines.values()):
            await self.loop.pause(10 * MS)
        await self.settle()
        reader = Client(self, "reader")
        for key in KEYS:
            await reader.perform(key, Get(), must_answer=True)
        await reader.perform(KEYS[0], Look(), must_answer=True)
        await self.scope.close()

    async def provision(self) -> None:
        """Two operators begin the cluster at the same time."""
        addresses = [self.machines[name].address for name in self.beginners]

        async def begin(name: str) -> bool:
            while True:
                proposer = self.proposer(name)
                try:
                    return await MetadataServers(proposer).provision(addresses, FINGERPRINT)
                except TransportError as error:
                    self.trace.add(name, f"{error.code}")
                finally:
                    await proposer.close()

        self.network.weather = Weather(0.05, 0.05, 5 * MS)
        winners = await asyncio.gather(begin("operator 1"), begin("operator 2"))
        assert winners.count(True) <= 1, f"{winners}: a cluster began twice"

    async def settle(self) -> None:
        """Whatever list is there: it can be finished, and a server that lost its storage goes."""
        servers = MetadataServers(self.proposer("operator"))
        await servers.settle()
        report = await servers.report()
        for name in sorted(self.wiped & {member.name for member in report.members}):
            await servers.remove(name)
        report = await servers.report()
        assert report.settled, report

    async def strike(self) -> None:
        """Faults, as the seed says."""
        chance = self.chance
        kinds = [self.crash, self.power, self.cut, self.freeze, self.storm, self.lag]
        kinds += [self.client_dies]
        if self.plan.wipes:
            kinds += [self.wipe]
        kinds = [kind for kind in kinds if chance.happens(0.7)] or [self.crash]
        if self.plan.kinds:
            kinds = [getattr(self, name) for name in self.plan.kinds]
        self.network.weather = Weather(
            chance.pick((0.0, 0.02, 0.1)), chance.pick((0.0, 0.1)), chance.pick((1, 5, 30)) * MS
        )
        step_ms = self.plan.step_ms or chance.pick((10, 40, 150))
        least = self.plan.faults if self.plan.kinds else 0
        for _ in range(chance.between(least, self.plan.faults)):
            await self.loop.pause(int(chance.fraction() * step_ms * MS))
            chance.pick(kinds)()

    def some_machine(self) -> Machine:
        """Any of them."""
        return self.chance.pick(list(self.machines.values()))

    def crash(self) -> None:
        """A process or a machine stops, with what it had not synced in the second case."""
        machine = self.some_machine()
        if machine.server is None:
            return
        self.stop(machine)
        power = self.chance.happens(0.7)
        disk = machine.disk.after_power_loss() if power else machine.disk.after_restart()
        disk.heal()
        self.come_back(machine, disk, self.chance.pick((1, 5, 30, 300)))
        self.counts["crash"] += 1

    def power(self) -> None:
        """The power goes before or after one of the next writes and syncs."""
        machine = self.some_machine()
        where = self.chance.pick((PowerLoss.BEFORE, PowerLoss.AFTER))

        def gone() -> None:
            self.counts["power lost in an operation"] += 1
            self.stop(machine)
            disk = machine.disk

            def back() -> None:
                if machine.disk is disk and machine.server is None:
                    self.come_back(machine, disk.after_power_loss(), 0)

            self.loop.call_at_ns(self.loop.now_ns + 100 * MS, back)

        machine.disk.lose_power_at(self.chance.between(0, 5), where, gone)

    def cut(self) -> None:
        """One way between two parties is cut for a while, or both ways."""
        servers = list(self.machines)
        one = self.chance.pick(servers)
        other = self.chance.pick([client.name for client in self.clients])
        ways = [(one, other), (other, one)]
        if self.chance.happens(0.6):
            ways = [self.chance.pick(ways)]
        for way in ways:
            self.trace.add(way[0], f"does not reach {way[1]}")
            self.network.cuts[way] = None

        def mend() -> None:
            for way in ways:
                self.network.cuts.pop(way, None)

        self.loop.call_at_ns(self.loop.now_ns + self.chance.between(10, 800) * MS, mend)
        self.counts["cut"] += 1

    def freeze(self) -> None:
        """A party is paused: what it sends and gets comes later."""
        name = self.chance.pick([*self.machines, *(client.name for client in self.clients)])
        self.trace.add(name, "freezes")
        self.network.frozen[name] = None
        due_ns = self.loop.now_ns + self.chance.between(5, 600) * MS
        self.loop.call_at_ns(due_ns, self.network.thaw, name)
        self.counts["freeze"] += 1

    def lag(self) -> None:
        """One way between two parties is slow for a while, and no other one."""
        one = self.chance.pick(list(self.machines))
        other = self.chance.pick([client.name for client in self.clients])
        way = self.chance.pick(((one, other), (other, one)))
        self.network.lags[way] = self.chance.between(5, 80) * MS
        self.trace.add(way[0], f"is slow to reach {way[1]}")

        def mend() -> None:
            self.network.lags.pop(way, None)

        self.loop.call_at_ns(self.loop.now_ns + self.chance.between(10, 300) * MS, mend)

    def storm(self) -> None:
        """The lines are bad for a while."""
        before = self.network.weather
        self.network.weather = Weather(0.3, 0.2, 60 * MS)

        def calm() -> None:
            # A storm within a storm would bring back the outer one when all was well already.
            if not self.is_well:
                self.network.weather = before

        self.loop.call_at_ns(self.loop.now_ns + self.chance.between(10, 200) * MS, calm)

    def client_dies(self) -> None:
        """A client's process is gone in the middle of what it does, and starts anew."""
        self.chance.pick(self.clients).die()

    def wipe(self) -> None:
        """A server loses its storage and comes back; one at a time, as more would lose data."""
        if self.wiped or self.stable is None or len(self.stable) < 3:
            return
        machine = self.machines[self.chance.pick(self.stable)]
        if machine.server is None:
            return
        self.stop(machine)
        self.wiped.add(machine.name)
        self.trace.add(machine.name, "has lost its storage")
        machine.disk = self.emptied(machine)
        self.come_back(machine, machine.disk, self.chance.between(1, 50))
        self.counts["wipe"] += 1

    def emptied(self, machine: Machine) -> SimulationDisk:
        """What is left of a disk that is replaced."""
        return self.new_disk(machine.name)


def run_world(seed: int, plan: Plan, world_type: type[World] = World) -> Outcome:
    """Run a world and check its history. Raises AssertionError when a promise is broken."""
    world = world_type(seed, plan)
    try:
        run_simulated(world.run(), world.loop, until_ns=WORLD_NS_MAX)
        check(world.history, f"seed {seed}")
    except BaseException as error:
        error.add_note(f"seed {seed}, {plan}")
        error.add_note("\n".join(world.trace.lines[-200:]))
        raise
    rows = [
        part
        for machine in world.machines.values()
        for row in sorted(machine.disk.rows().items())
        for part in row
    ]
    return Outcome(world.trace.digest(*rows), world.counts, world.history, world.trace.lines)
