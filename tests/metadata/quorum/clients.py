"""Who acts in a world: clients that call the store, and an operator that changes the list."""

import asyncio
from typing import TYPE_CHECKING, Any

from perdure.core.errors import PerdureError, TransportError
from perdure.metadata import DoesNotExist, MatchesVersion, Precondition, Version
from perdure.metadata.quorum import MetadataServers, QuorumMetadataStore
from perdure.testing.simulation.chance import Chance

from ...linearizability import Operation
from ..register import Call, Delete, Found, Get, Look, Put, Result, Stored, answers_of
from .lossy import MS

if TYPE_CHECKING:
    from .world import Machine, World

KEYS = ("a", "b")


class Client:
    """Calls the store, cancels some calls, and writes down what it called and got."""

    def __init__(self, world: "World", name: str) -> None:
        """Draw its calls from the world's seed."""
        self.world = world
        self.name = name
        self.draw = Chance(world.seed, name)
        self.store: QuorumMetadataStore | None = None
        self.task: asyncio.Task[Any] | None = None
        self.versions: dict[str, list[Version]] = {key: [] for key in KEYS}

    def die(self) -> None:
        """Lose the call that is under way and everything that the process knew."""
        self.world.trace.add(self.name, "dies")
        self.store = None
        if self.task is not None:
            self.task.cancel()

    async def run(self) -> None:
        """Make all calls."""
        for number in range(self.world.plan.calls):
            await self.world.loop.pause(int(self.draw.fraction() * 30 * MS))
            key = self.draw.pick(KEYS[: self.world.plan.keys])
            await self.perform(key, self.call(key, f"{self.name} {number}"))

    def call(self, key: str, text: str) -> Call:
        """The next call."""
        value = b"same" if self.draw.happens(0.4) else text.encode()
        kind = self.draw.fraction()
        if kind < 0.4:
            return Get()
        if kind < 0.45:
            return Look()
        if kind < 0.85:
            return Put(value, self.precondition(key))
        return Delete(self.precondition(key))

    def precondition(self, key: str) -> Precondition:
        """What a change expects."""
        seen = self.versions[key]
        kind = self.draw.fraction()
        if kind < 0.3:
            return None
        if kind < 0.5 or not seen:
            return DoesNotExist()
        return MatchesVersion(seen[-1] if self.draw.happens(0.9) else self.draw.pick(seen))

    async def perform(self, key: str, call: Call, *, must_answer: bool = False) -> None:
        """Make one call, perhaps cancel it, and write it down."""
        world = self.world
        called_at = next(world.ticks)
        world.trace.add(self.name, f"{called_at}: {call} of {key}")
        self.task = world.scope.spawn(self.answers(key, call), name=self.name)
        if not must_answer and self.draw.happens(0.15):
            await world.loop.pause(int(self.draw.fraction() * 20 * MS))
            self.task.cancel()
        await asyncio.wait({self.task})
        task, self.task = self.task, None
        returned_at = next(world.ticks)
        answers = {} if task.cancelled() else task.result()
        world.trace.add(self.name, f"{returned_at}: {answers or 'unknown'}")
        assert answers or not must_answer, "a world that is well answers"
        for answered, result in answers.items():
            world.history[answered].append(
                Operation(self.name, call, result, called_at, returned_at)
            )
            world.counts[f"{type(call).__name__} {type(result).__name__}"] += 1
            if isinstance(result, Found | Stored):
                self.versions[answered].append(Version(result.version))
        if not answers and isinstance(call, Put | Delete):
            # Made by now, or never: so says the contract.
            world.history[key].append(Operation(self.name, call, None, called_at, returned_at))
            world.counts[f"{type(call).__name__} unknown"] += 1

    async def answers(self, key: str, call: Call) -> dict[str, Result]:
        """What the call tells of which keys; nothing when it leaves it open."""
        if self.store is None:
            self.store = QuorumMetadataStore(self.world.proposer(self.name))
        try:
            return await answers_of(self.store, key, call, keys=KEYS)
        except TransportError as error:
            self.world.trace.add(self.name, f"{error.code}")
            self.world.counts[error.code] += 1
            return {}


class Operator:
    """Changes the list of servers under load, and starts again where it was interrupted."""

    def __init__(self, world: "World") -> None:
        """Draw from the world's seed."""
        self.world = world
        self.draw = Chance(world.seed, "operator")

    async def run(self) -> None:
        """Make the changes."""
        world = self.world
        for _ in range(world.plan.changes):
            await world.loop.pause(int(self.draw.fraction() * 60 * MS))
            world.stable = None
            task = world.scope.spawn(self.change(), name="operator")
            if self.draw.happens(0.2):
                await world.loop.pause(int(self.draw.fraction() * 100 * MS))
                task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.result()

    async def change(self) -> None:
        """Replace a server that lost its storage, or grow or shrink the list."""
        world = self.world
        proposer = world.proposer("operator")
        servers = MetadataServers(proposer)
        try:
            report = await servers.report()
            names = [member.name for member in report.members]
            lost = sorted(world.wiped & set(names))
            world.wiped &= set(names)  # what left the list lost nothing that counts
            spare = [name for name in world.machines if name not in names]
            if lost:
                await servers.remove(lost[0])
                world.wiped.discard(lost[0])
                world.counts["lost server removed"] += 1
            elif spare and (len(names) < world.plan.servers or self.draw.happens(0.5)):
                await self.add(servers, world.machines[self.draw.pick(spare)])
            elif len(names) > 2:
                name = self.draw.pick(names)
                await servers.remove(name)
                world.counts["removed"] += 1
            report = await servers.report()
            if report.settled:
                world.stable = tuple(member.name for member in report.members)
        except PerdureError as error:
            world.trace.add("operator", f"{error.code}: {error.message}")
        finally:
            await proposer.close()

    async def add(self, servers: MetadataServers, machine: "Machine") -> None:
        """Add a machine, as a new server."""
        world = self.world
        if machine.server is None:
            return
        if machine.server.acceptor.configuration is not None:
            # It was a member once: only without its storage may it come back.
            world.stop(machine)
            machine.disk = world.new_disk(machine.name)
            await world.start(machine)
        await servers.add(machine.address)
        world.counts["added"] += 1
