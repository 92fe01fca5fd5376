"""A world of whole nodes, workers and clients: what it is like, what befalls it, how it ends."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

from ....core.errors import PerdureError
from ....core.tasks import TaskScope
from ....ingress.requests import Accepted, Completed
from ....metadata.nodes import NodesConfiguration
from ....node.cluster.changes import set_drained
from ....node.cluster.registry import NodeRegistry
from ..chance import Chance
from ..clients import Client
from ..cluster.network import ClusterNetwork
from ..disk import SimulationDisk
from ..faults import DEPLOYMENTS
from ..files import SimulationFiles
from ..loop import SimulationLoop
from ..processes import outside
from ..trace import Trace
from ..violation import InvariantViolation, require
from ..worker import SimulatedWorker
from ..workload import History, Operation, OperationMaker, make_app
from .apart import Apart
from .asking import Asking
from .character import draw_character
from .checks import Checks
from .differing import Differing
from .faults import NodeFaults
from .member import DISKS, MS, NodeClock, S, SimulatedMember, address_of, member_options
from .operators import Operators
from .producing import Producing
from .zones import Zones

LIVES_NS: Final = 30 * S
"""No world is over before that."""

READY_NS: Final = 20 * S
"""A cluster takes requests by then."""

HEALED_NS: Final = 30 * S
"""So long after the last fault everything that was asked is answered, and replicas are alike."""


@dataclass(frozen=True, slots=True)
class NodesOptions:
    """What a world is like, where its seed does not decide.

    Attributes:
        count: how many nodes, 0 for 3 to 5.
        kinds: names of faults, see `faults.KINDS`; None has each seed choose.
        faults_ns: how long faults go on.
        gap_ns: how long it is quiet between two, least and most; None has each seed choose.
        operations: of each client, least and most.
        readers: how many see results again that were given, as long as the world lives.
        zones: whether nodes are in zones that fail; None has each seed choose, where it chooses
            the kinds.
        differing: whether copies come to differ; None as with zones.
        producing: whether programs on all nodes append to a log; None as with zones.
        alter: called with each node before it starts; tests break the product with it.
    """

    count: int = 0
    kinds: tuple[str, ...] | None = None
    faults_ns: int = 15 * S
    gap_ns: tuple[int, int] | None = None
    operations: tuple[int, int] = (8, 30)
    readers: int = 1
    zones: bool | None = None
    differing: bool | None = None
    producing: bool | None = None
    alter: Callable[[SimulatedMember], None] | None = None


class NodesWorld:
    """Everything that runs in one seed.

    Attributes:
        character: what it is like.
        members: each node's present or last life, by name.
        clocks: of each machine.
        history: what clients asked and were told.
        lost: the nodes whose disks were lost for good.
        metadata_survives: the loss of one disk for good.
        lives: how often a node was started.
        apart: what orders logs elsewhere than where they are led, in some worlds.
        producing: programs on nodes that append to a log of their own, in some worlds.
        zones: which nodes fail together.
        differing: the copies that have come to differ.
        healed: all faults are over.
    """

    def __init__(self, seed: int, options: NodesOptions, loop: SimulationLoop) -> None:
        """Draw the world's character from the seed."""
        self.seed = seed
        self.options = options
        self.loop = loop
        self.trace = Trace(loop)
        self.scope = TaskScope("world", on_failure=self.task_failed)
        self.character = character = draw_character(
            self.chance("character"),
            count=options.count,
            kinds=options.kinds,
            gap_ns=options.gap_ns,
            operations=options.operations,
        )
        self.network = ClusterNetwork(
            loop,
            trace=self.trace,
            chance=self.chance("network"),
            delay_ns=(50_000, character.delay_ns_max),
            cut_heard_ns_max=character.cut_heard_ns_max,
            loss=0.0,
        )
        self.network.on_failure = self.task_failed
        self.names = list(character.names)
        # Who names the kinds of faults wants no others.
        chosen = None if options.kinds is None else False
        zones = chosen if options.zones is None else options.zones
        self.zones = Zones(self, self.chance("zones"), character.names, zones)
        differing = chosen if options.differing is None else options.differing
        self.differing = Differing(self, self.chance("differing"), differing)
        self.partitions = character.partitions
        self.metadata_survives = character.metadata_servers > 1
        self.files = SimulationFiles()
        self.disks = {name: self._new_disks(name) for name in self.names}
        self.clocks = {name: NodeClock(self, self.chance(f"clock {name}")) for name in self.names}
        self.members: dict[str, SimulatedMember] = {}
        # All of them: what a killed process had begun must not end by being forgotten.
        self._lived: list[SimulatedMember] = []
        self.lives = 0
        self.lost: set[str] = set()
        self.history = History()
        self.checks = Checks(self, self.partitions)
        self.asking = Asking(self, self.chance("asking"))
        self.operators = Operators(self, self.chance("operators"))
        self.faults = NodeFaults(self, self.chance("faults"), character.kinds)
        self.apart = Apart(self, self.chance("apart"))
        producing = chosen if options.producing is None else options.producing
        self.producing = Producing(self, self.chance("producing"), producing)
        self.healed = False
        self.without_metadata: dict[str, None] = {}
        self.without_metadata_at = 0
        self._restarts = self.chance("restarts")
        self._workers = self.chance("workers")
        self.workers = self._new_workers()
        self.maker = OperationMaker(loop, self.chance("operations"))
        self.clients = [
            Client(f"client-{number}", self, operations, self.chance(f"client-{number}"))
            for number, operations in enumerate(character.clients, 1)
        ]

    def _new_disks(self, name: str) -> dict[str, SimulationDisk]:
        return {
            disk: SimulationDisk(
                f"{name}/{disk}",
                trace=self.trace,
                chance=self.chance(f"disk {name} {disk}"),
                sync_delay_ns_max=self.character.sync_delay_ns_max,
            )
            for disk in DISKS
        }

    def _new_workers(self) -> list[SimulatedWorker]:
        app = make_app(self.loop, self.chance("steps"), self.trace)
        return [
            SimulatedWorker(
                f"worker-{number}",
                app,
                network=self.network,
                seed=self.seed,
                addresses=self._given_to(number),
            )
            for number in range(1, self.character.workers + 1)
        ]

    def _given_to(self, number: int) -> tuple[str, ...]:
        """What a worker is given at its start: all nodes, or one, which tells it of the others."""
        chance = self.chance(f"nodes of worker-{number}")
        given = [chance.pick(self.names)] if chance.happens(0.5) else self.names
        return tuple(map(address_of, given))

    def chance(self, concern: str) -> Chance:
        """The generator of one concern."""
        return Chance(self.seed, concern)

    def task_failed(self, failure: BaseException) -> None:
        """A task failed that should not."""
        self.loop.call_exception_handler({"message": "a task failed", "exception": failure})

    @contextmanager
    def first_violation(self) -> Iterator[None]:
        """Within calls from the product, which may turn what is raised into something else."""
        try:
            yield
        except InvariantViolation as violation:
            self.task_failed(violation)
            raise

    def soon(self, callback: Callable[[], None]) -> None:
        """Do something in the next turn, whoever is stopped or gone."""
        self.loop.call_soon(callback, context=outside())

    # Nodes ---------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Begin a life of a node."""
        self.lives += 1
        settings = self.character.settings | self.zones.settings(name)
        settings["cluster.provision"] = str(name == self.names[0]).lower()
        settings["cluster.accept_storage_loss"] = str(name in self.lost).lower()
        member = SimulatedMember(self, name, member_options(name, settings), self.disks[name])
        self.members[name] = member
        self._lived.append(member)
        self.trace.add(name, f"starts, life {self.lives}")
        if self.options.alter is not None:
            self.options.alter(member)
        member.start()

    def start_again(self, name: str) -> None:
        """Start a node that is down."""
        if not self.members[name].up:
            self.network.dark.pop(name, None)
            self.network.pump()
            self.start(name)

    def end(self, name: str, *, power: bool) -> None:
        """Kill a node's process, or switch its machine off."""
        member = self.members[name]
        if not member.up:
            return
        self.trace.add(name, "loses its power" if power else "is killed")
        member.kill()
        self._gone(member, power=power)

    def _gone(self, member: SimulatedMember, *, power: bool) -> None:
        name = member.name
        if self.network.is_frozen(name):
            self.network.thaw(name)
        if power:
            self.network.dark[name] = None
        self.network.process_gone(name, late=self._restarts.happens(0.5))
        self.asking.lose(member)
        self.disks[name] = {
            kind: disk.after_power_loss() if power else disk.after_restart()
            for kind, disk in self.disks[name].items()
        }

    def ended(self, member: SimulatedMember, error: PerdureError | None) -> None:
        """A node's process has ended by itself."""
        name = member.name
        self.trace.add(name, f"ends: {'in good order' if error is None else error}")
        if error is not None:
            require(
                any(disk.faulty for disk in member.disks.values()),
                "a node fails only with its disk",
                f"{name}: {error.code} {error}",
            )
        else:
            require(member.leaving, "a node ends only when it is asked to", name)
        member.kill()
        self._gone(member, power=False)
        delay_ns = self._restarts.between(10, 3_000) * MS

        def again() -> None:
            self.start_again(name)

        self.loop.call_at_ns(self.loop.now_ns + delay_ns, again, context=outside())

    def lose_disks(self, name: str) -> None:
        """A machine burns down, and another one takes its name."""
        self.lost.add(name)
        self.end(name, power=True)
        self.disks[name] = {kind: disk.replaced() for kind, disk in self.disks[name].items()}

    def pause(self, name: str) -> None:
        """Hold a node up."""
        self.network.freeze(name)
        self.members[name].process.pause()

    def resume(self, name: str, *, timers_first: bool) -> None:
        """Let a node go on: with its own timers, or with what has arrived meanwhile."""
        if not self.network.is_frozen(name):
            return
        self.trace.add(name, "goes on")
        if timers_first:
            self.members[name].process.resume(self.loop)
        self.network.thaw(name)
        self.members[name].process.resume(self.loop)

    def start_worker(self, worker: SimulatedWorker, deployment: str) -> None:
        """Begin a life of a worker that is not there."""
        if not worker.alive:
            worker.start(self.scope, deployment, self._workers.pick((0, 0, -900 * MS, 900 * MS)))

    # Operators -----------------------------------------------------------------------------------

    async def change_nodes(
        self, change: Callable[[NodesConfiguration], NodesConfiguration]
    ) -> None:
        """An operator changes the nodes, by way of one that is up."""
        for member in self.members.values():
            cluster = member.server.cluster
            if member.up and cluster is not None and cluster.joined:
                registry = NodeRegistry(cluster.metadata, self.chance(f"operator {self.lives}"))

                async def work(registry: NodeRegistry = registry) -> None:
                    try:
                        await registry.change(change)
                    except PerdureError as error:
                        self.trace.add("operator", f"is refused: {error.code}")

                member.process.start(self.loop, work(), name="operator")
                return

    # The whole -----------------------------------------------------------------------------------

    async def ask(
        self, operation: Operation, patience_ns: int
    ) -> Completed | Accepted | PerdureError | None:
        """See `Asking.ask`."""
        return await self.asking.ask(operation, patience_ns)

    async def run(self) -> None:
        """Live: start, work under faults, heal, finish. Raises InvariantViolation."""
        for name in self.names:
            self.start(name)
        for worker, deployment in zip_longest(self.workers, DEPLOYMENTS, fillvalue=DEPLOYMENTS[0]):
            assert isinstance(worker, SimulatedWorker)
            self.start_worker(worker, deployment)
        await self._until(self._ready, READY_NS, "a cluster that starts takes requests")
        clients = [self.scope.spawn(client.run(), name=client.name) for client in self.clients]
        over = [False]
        readers = [
            self.scope.spawn(self.asking.keep_looking(lambda: over[0]), name=f"reader {number}")
            for number in range(1, self.options.readers + 1)
        ]
        operators = self.scope.spawn(self.operators.run(lambda: self.healed), name="operators")
        apart = self.scope.spawn(self.apart.run(lambda: self.healed), name="apart")
        producing = self.scope.spawn(self.producing.run(lambda: self.healed), name="producing")
        failing = self.scope.spawn(self.zones.run(self.options.faults_ns), name="zones")
        await self.faults.run(self.options.faults_ns, self.character.gap_ns)
        await self._heal()
        await failing
        await self.differing.mend()
        await self._until(
            lambda: all(item.done() for item in (*clients, operators)),
            HEALED_NS,
            "what was asked is answered once all is well",
        )
        over[0] = True
        for client in clients:
            client.result()
        operators.result()
        await apart
        await producing
        for reader in readers:
            await reader
        await self._ask_again()
        if self.loop.now_ns < LIVES_NS:
            await self.loop.pause(LIVES_NS - self.loop.now_ns)
        await self._until(self.checks.idle, HEALED_NS, "what was started ends once all is well")
        await self._until(self.checks.agree, HEALED_NS, "replicas become alike once all is well")
        await self.zones.check()
        self.checks.check_end()
        for worker in self.workers:
            worker.die()
        for member in self.members.values():
            member.kill()
        await self.scope.close()

    async def _until(self, done: Callable[[], bool], bound_ns: int, invariant: str) -> None:
        by_ns = self.loop.now_ns + bound_ns
        while not done():
            require(self.loop.now_ns < by_ns, invariant, self._describe())
            await self.loop.pause(20 * MS)

    def _describe(self) -> str:
        """Where every partition stands at every node, and who waits for what."""
        lines = []
        for name, member in self.members.items():
            engine = member.engine
            states = "down" if not member.up else "joining"
            if engine is not None and member.up:
                states = ", ".join(
                    f"{item.role} {item.epoch} at {item.status().applied_lsn}"
                    for item in engine.manager.processors
                )
            lines.append(f"{name}: {states}")
        waiting = [item.name for item in self.history.operations if item.accepted_ns is None]
        return "; ".join(lines) + f"; not answered: {waiting}"

    def _ready(self) -> bool:
        return self._agree_on_leads() and all(
            member.engine is not None and member.engine.dispatcher.service_names()
            for member in self.members.values()
        )

    def _agree_on_leads(self) -> bool:
        for number in range(self.partitions):
            roles = [
                member.engine.manager.processors[number].role
                for member in self.members.values()
                if member.engine is not None and member.up
            ]
            if roles.count("leader") != 1:
                return False
        return True

    async def _heal(self) -> None:
        self.healed = True
        self.trace.add("world", "heals")
        self.network.cut_links.clear()
        for name in self.names:
            self.resume(name, timers_first=True)
        self.network.heal()
        self.network.pump()
        for name in self.names:
            member = self.members[name]
            if member.leaving or any(disk.faulty for disk in member.disks.values()):
                # A disk that failed stays so until it is opened again.
                self.end(name, power=False)
            for disk in self.disks[name].values():
                disk.heal()
            self.start_again(name)
        await self.loop.pause(2 * S)
        await self.change_nodes(_drain_nobody)
        for worker, deployment in zip(self.workers, DEPLOYMENTS, strict=False):
            # An invocation that has begun stays with its deployment: each must be there.
            if worker.deployment != deployment:
                worker.die()
            while worker.dying:
                await self.loop.pause(1 * MS)
            self.start_worker(worker, deployment)
        for worker in self.workers[len(DEPLOYMENTS) :]:
            self.start_worker(worker, DEPLOYMENTS[0])

    async def _ask_again(self) -> None:
        """Ask for every result once more; what was answered must come out the same."""
        for errand in self.operators.errands:
            await self.operators.see(errand)
        for operation in self.history.operations:
            operation.wait = True
            tries = 0
            while not isinstance(reply := await self.ask(operation, 5 * S), Completed):
                if isinstance(reply, PerdureError):
                    require(reply.retryable, "a healthy node answers", f"{operation.name}: {reply}")
                tries += 1
                require(tries < 50, "a healthy node answers", f"{operation.name}: {reply}")
                await self.loop.pause(10 * MS)


def _drain_nobody(nodes: NodesConfiguration) -> NodesConfiguration:
    for node in nodes.nodes:
        if node.drained:
            nodes = set_drained(nodes, node.name, False)
    return nodes
