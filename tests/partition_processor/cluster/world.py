"""A small cluster by seed: nodes that lead, follow, pause and take over, and clients that go on."""

import traceback
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from perdure.core.errors import PerdureError
from perdure.core.ids import partition_key_of, partition_of
from perdure.core.tasks import TaskScope
from perdure.ingress.errors import NotCompletedError, NotLeaderError
from perdure.ingress.requests import Accepted, CallReply, Completed, Rejected, SendReply
from perdure.metadata.memory import MemoryMetadataStore
from perdure.partition_processor.processor import InvocationNotFoundError
from perdure.partition_processor.role_changes import Placement
from perdure.partition_processor.tables.invocations import STATUS_COMPLETED
from perdure.testing.simulation.chance import Chance
from perdure.testing.simulation.clients import Client
from perdure.testing.simulation.loop import SimulationClock
from perdure.testing.simulation.trace import Trace, logs_in_trace
from perdure.testing.simulation.violation import InvariantViolation, require
from perdure.testing.simulation.workload import COUNTER, MS, History, Operation, OperationMaker

from .loops import Line, Loops, settle
from .node import Node
from .shared_log import NodeMetadata, NodeProvider, Reach, SharedLog

FAULTS_NS: Final = 1_200 * MS
END_NS: Final = 90_000 * MS


@dataclass(frozen=True)
class Options:
    """What a world is like."""

    nodes: int = 3
    partitions: int = 2
    clients: int = 3
    operations: int = 6
    end_ns: int = END_NS


@dataclass
class Report:
    """What a seed came to."""

    seed: int
    violated: str = ""
    digest: str = ""
    operations: int = 0
    epochs: int = 0
    compared: int = 0
    lines: list[str] = field(default_factory=list)


class World:
    """Everything of one seed."""

    def __init__(self, seed: int, options: Options) -> None:
        self.seed = seed
        self.options = options
        self.loops = Loops()
        # Clients and the store of the log live on this one.
        self.loop = self.loops.make(self.chance("world"))
        self.trace = Trace(self.loop)
        self.history = History()
        self.healed = False
        self.failures: list[BaseException] = []
        self.scope = TaskScope("world", on_failure=self.failures.append)
        self.maker = OperationMaker(self.loop, self.chance("operations"))
        self.log = SharedLog()
        character = self.chance("character")
        delay_ns = (0, character.pick((100_000, 2 * MS, 10 * MS)))
        self.chances = self.chance("world's own")
        metadata = MemoryMetadataStore()
        self.nodes: list[Node] = []
        self.lines: dict[str, tuple[Line, Line]] = {}
        for number in range(options.nodes):
            self._add_node(f"node-{number}", metadata, delay_ns)
        for node in self.nodes:
            node.manager.peers = {
                other.name: (
                    Line(node.loop, other.loop, self.chance(f"{node.name} {other.name}"), delay_ns),
                    other.manager,
                )
                for other in self.nodes
                if other is not node
            }
        self.leaders = [0] * options.partitions

    def _add_node(
        self, name: str, metadata: MemoryMetadataStore, delay_ns: tuple[int, int]
    ) -> None:
        loop = self.loops.make(self.chance(f"{name} timers"))

        def reach(what: str) -> Reach:
            return Reach(loop, self.loop, self.chance(f"{name} {what}"), delay_ns)

        clock = SimulationClock(loop)
        node = Node(
            name,
            partitions=self.options.partitions,
            loop=loop,
            provider=NodeProvider(self.log, name, loop, reach("log"), clock.time_ns),
            metadata=NodeMetadata(metadata, reach("metadata")),
            trace=self.trace,
            chance=self.chance,
            on_failure=self.failures.append,
        )
        self.nodes.append(node)
        self.lines[name] = (
            Line(self.loop, loop, self.chance(f"{name} in"), delay_ns),
            Line(loop, self.loop, self.chance(f"{name} out"), delay_ns),
        )

    def chance(self, concern: str) -> Chance:
        return Chance(self.seed, f"cluster {concern}")

    # Placement -----------------------------------------------------------------------------------

    def place(self, node: Node, placement: dict[int, Placement]) -> None:
        """Tell a node; it hears of it in its time."""
        self.trace.add("control", f"{node.name}: {placement}")
        self.lines[node.name][0].post(partial(node.manager.apply_placement, placement))

    def lead(self, partition: int, leader: int) -> None:
        """Tell everybody who leads a partition, in an order that is drawn."""
        self.leaders[partition] = leader
        absent = self.chances.between(0, 4 * len(self.nodes))
        for number, node in enumerate(self.nodes):
            role: Placement = "leader" if number == leader else "follower"
            if number != leader and number == absent:
                role = "absent"
            self.place(node, {partition: role})

    async def _move_leaders(self) -> None:
        chance = self.chance("moves")
        longest = chance.pick((20, 100, 400)) * MS
        while self.loop.now_ns < FAULTS_NS:
            await self.loop.pause(int(chance.fraction() * longest))
            partition = chance.between(0, self.options.partitions - 1)
            event = chance.fraction()
            if event < 0.55:
                self.lead(partition, chance.between(0, len(self.nodes) - 1))
            elif event < 0.75:
                # Two who think that they should lead.
                for node in self.nodes:
                    if chance.happens(0.7):
                        self.place(node, {partition: "leader"})
            elif event < 0.85:
                self._seal_by_stranger(partition)
            else:
                self._pause(partition, chance)

    def _seal_by_stranger(self, partition: int) -> None:
        """Somebody who claims nothing seals the segment: what is under way to it is lost."""
        mine = {
            number: core for number, core in self.log.cores.items() if number >> 32 == partition + 1
        }
        if mine:
            self.trace.add(
                "world", f"segment {max(mine) & 0xFFFFFFFF} of log {partition} is sealed"
            )
            mine[max(mine)].seal()

    def _pause(self, partition: int, chance: Chance) -> None:
        """The leader gets no turn; what it is placed as it hears late, or never."""
        leader = self.leaders[partition]
        node = self.nodes[leader]
        pause_ns = chance.between(10, 600) * MS
        self.trace.add("world", f"{node.name} pauses for {pause_ns // MS} ms")
        node.loop.paused_until_ns = self.loop.now_ns + pause_ns
        if chance.happens(0.8):
            self.leaders[partition] = following = (leader + 1) % len(self.nodes)
            self.place(self.nodes[following], {partition: "leader"})

    async def _heal(self) -> None:
        self.healed = True
        for node in self.nodes:
            node.loop.paused_until_ns = 0
        self.trace.add("world", "heals")
        for partition, leader in enumerate(self.leaders):
            for number, node in enumerate(self.nodes):
                self.place(node, {partition: "leader" if number == leader else "follower"})

    async def _keep_led(self) -> None:
        """As the controller will: whoever was placed as the leader and does not lead is asked."""
        while True:
            await self.loop.pause(400 * MS)
            for partition, leader in enumerate(self.leaders):
                node = self.nodes[leader]
                if node.roles()[partition] == "follower":
                    self.place(node, {partition: "leader"})

    # Clients -------------------------------------------------------------------------------------

    async def on_node(
        self, node: Node, action: Callable[[Callable[[object], None]], None], patience_ns: int
    ) -> object:
        """Have something done on a node that answers once; None when it takes too long."""
        future = self.loop.create_future()
        there, back = self.lines[node.name]

        def answer(outcome: object) -> None:
            back.post(partial(settle, future, (outcome,)))

        there.post(lambda: action(answer))
        impatience = self.loop.call_at_ns(self.loop.now_ns + patience_ns, settle, future, (None,))
        (outcome,) = await future
        impatience.cancel()
        return outcome

    def _node_for(self, operation: Operation) -> Node:
        chance = self.chances
        if operation.invocation_id is not None and chance.happens(0.7):
            key = partition_key_of(operation.invocation_id)
            return self.nodes[self.leaders[partition_of(key, self.options.partitions)]]
        return chance.pick(self.nodes)

    async def ask(
        self, operation: Operation, patience_ns: int
    ) -> Completed | Accepted | PerdureError | None:
        """Send a request to some node and wait; None when no answer comes."""
        node = self._node_for(operation)

        def act(answer: Callable[[object], None]) -> None:
            def reply(outcome: CallReply | SendReply) -> None:
                self._check_reply(operation, outcome)
                answer(outcome)

            dispatcher = node.dispatcher
            try:
                if operation.wait:
                    dispatcher.call(operation.request, reply)
                else:
                    dispatcher.send(operation.request, reply)
            except PerdureError as error:
                answer(error)

        outcome = await self.on_node(node, act, min(patience_ns, 800 * MS))
        if isinstance(outcome, Rejected):
            outcome = outcome.error
        if isinstance(outcome, Completed | Accepted) and operation.accepted_ns is None:
            operation.accepted_ns = self.loop.now_ns
        if isinstance(outcome, Completed) and operation.answered_ns is None:
            operation.answered_ns = self.loop.now_ns
        if outcome is None and self.healed:
            outcome = NotLeaderError("no answer came")
        assert outcome is None or isinstance(outcome, Completed | Accepted | PerdureError)
        if isinstance(outcome, Completed | Accepted):
            self.trace.add(operation.name, f"{node.name} answers {type(outcome).__name__}")
        return outcome

    def _check_reply(self, operation: Operation, outcome: CallReply | SendReply) -> None:
        """A node has spoken; whatever it says of a result must be the only result there ever is."""
        if isinstance(outcome, Completed | Accepted):
            if operation.invocation_id is None:
                operation.invocation_id = outcome.invocation_id
            require(
                operation.invocation_id == outcome.invocation_id,
                "one request has one invocation",
                operation.name,
            )
        if isinstance(outcome, Completed):
            require(outcome.failure is None, "no handler fails", f"{operation.name}: {outcome}")
            if operation.value:
                require(operation.value == outcome.value, "an answer stays", operation.name)
            operation.value = outcome.value

    async def _read_again(self) -> None:
        """What was answered once is never unknown again, wherever it is read."""
        chance = self.chance("reads")
        while not self.healed:
            await self.loop.pause(chance.between(1, 20) * MS)
            answered = self.history.answered()
            if answered:
                await self._read(chance.pick(answered), chance.pick(self.nodes))

    async def _read(self, operation: Operation, node: Node) -> None:
        assert operation.invocation_id is not None
        invocation_id = operation.invocation_id

        def act(answer: Callable[[object], None]) -> None:
            async def look() -> None:
                """As those who look into the rows do."""
                processor = node.processor_of(invocation_id)
                try:
                    await processor.confirm_lead()
                except PerdureError as error:
                    answer(error)
                    return
                known = processor.transaction.invocation(invocation_id)
                if known is None or known.status != STATUS_COMPLETED:
                    answer(NotCompletedError("its row does not say that it has completed"))
                else:
                    answer(None)

            def heard(reply: CallReply) -> None:
                answer(reply.error if isinstance(reply, Rejected) else reply)

            way = self.chances.fraction()
            if way < 0.3:
                node.scope.spawn(look(), name="look")
                return
            try:
                if way < 0.65:
                    node.dispatcher.output(invocation_id, heard)
                else:
                    node.dispatcher.attach(invocation_id, heard)
            except PerdureError as error:
                answer(error)

        outcome = await self.on_node(node, act, 2_000 * MS)
        require(
            not isinstance(outcome, NotCompletedError | InvocationNotFoundError),
            "no read is older than what was answered before",
            f"{operation.name} at {node.name}: {outcome!r}",
        )
        if isinstance(outcome, Completed):
            require(outcome.value == operation.value, "an answer stays", operation.name)

    # The whole -----------------------------------------------------------------------------------

    def spawn_on(self, node: Node, work: Coroutine[Any, Any, Any], name: str) -> None:
        node.loop.call_soon(lambda: node.scope.spawn(work, name=name))

    async def _live(self) -> None:
        for node in self.nodes:
            role: Placement = "leader" if node is self.nodes[0] else "follower"
            first = dict.fromkeys(range(self.options.partitions), role)
            self.spawn_on(node, node.start(first), "start")
        while not all(node.ready for node in self.nodes):
            await self.loop.pause(1 * MS)
        clients = [
            Client(
                f"client-{number}", self, self.options.operations, self.chance(f"client-{number}")
            )
            for number in range(self.options.clients)
        ]
        tasks = [self.scope.spawn(client.run(), name=client.name) for client in clients]
        moves = self.scope.spawn(self._move_leaders(), name="moves")
        reads = self.scope.spawn(self._read_again(), name="reads")
        self.scope.spawn(self._keep_led(), name="controller")
        for task in (moves,):
            await task
        await self._heal()
        for task in (*tasks, reads):
            await task
        self.trace.add("world", "all clients are done")
        for operation in self.history.operations:
            operation.wait = True
            while not isinstance(reply := await self.ask(operation, 10_000 * MS), Completed):
                if isinstance(reply, PerdureError):
                    require(
                        reply.retryable, "a healthy cluster answers", f"{operation.name}: {reply}"
                    )
                await self.loop.pause(10 * MS)
        await self._settle()

    async def _settle(self) -> None:
        """Until every partition is led by one node, and everybody has applied the same."""
        while True:
            await self.loop.pause(50 * MS)
            roles = [node.roles() for node in self.nodes]
            led = all(
                [row[partition] for row in roles].count("leader") == 1
                and all(row[partition] in ("leader", "follower") for row in roles)
                for partition in range(self.options.partitions)
            )
            places = {
                tuple(item.status().applied_lsn for item in node.manager.processors)
                for node in self.nodes
            }
            busy = any(
                sum(
                    item.status().invocations[name]
                    for name in ("running", "suspended", "pending", "backing-off", "scheduled")
                    if name in item.status().invocations
                )
                for item in self.nodes[0].manager.processors
            )
            if led and len(places) == 1 and not busy:
                return

    def run(self) -> None:
        """Live. Raises InvariantViolation, AssertionError and whatever failed."""
        done: list[bool] = []

        async def main() -> None:
            await self._live()
            done.append(True)

        self.loop.call_soon(lambda: self.scope.spawn(main(), name="main"))
        self.loops.run_until(lambda: bool(done or self.failures), self.options.end_ns)
        if self.failures:
            raise self.failures[0]
        self.check_end()

    # At the end ----------------------------------------------------------------------------------

    def check_end(self) -> int:
        """Everybody has the same, and everything happened once; how many digests were compared."""
        compared = 0
        known: dict[tuple[int, int], str] = {}
        for node in self.nodes:
            for place, digest in node.digests.items():
                compared += place in known
                require(
                    known.setdefault(place, digest) == digest,
                    "digests are equal at equal LSN",
                    f"{node.name}, partition and LSN {place}",
                )
        contents = [dict(node.store.scan(b"", b"\xff")) for node in self.nodes]
        for node, content in zip(self.nodes, contents, strict=True):
            require(content == contents[0], "replicas have the same rows", node.name)
        self._check_counters()
        return compared

    def _check_counters(self) -> None:
        """Each add has counted once: in the order of their answers they sum up without a gap."""
        by_key: dict[str, list[tuple[int, int, str]]] = {}
        for item in self.history.operations:
            if item.request.service == COUNTER:
                key = item.request.key or ""
                by_key.setdefault(key, []).append((int(item.value), item.amount, item.name))
        for key, adds in by_key.items():
            count = 0
            for value, amount, name in sorted(adds):
                count += amount
                require(value == count, "each add counts once", f"{key}: {name} says {value}")


def run_seed(seed: int, options: Options | None = None) -> Report:
    """Run a world; what it finds is in the report."""
    world = World(seed, options or Options())
    report = Report(seed)
    with logs_in_trace(world.trace):
        try:
            world.run()
            report.compared = world.check_end()
        except InvariantViolation as violation:
            report.violated = str(violation)
        except Exception as error:
            report.violated = "".join(traceback.format_exception(error))
        finally:
            try:
                world.loops.close()
            except Exception as error:  # What is half done may not let itself be ended.
                report.violated = report.violated or "".join(traceback.format_exception(error))
    report.lines = world.trace.lines
    report.operations = len(world.history.operations)
    report.epochs = sum(item.status().leader_epoch for item in world.nodes[0].manager.processors)
    rows = (
        [
            part
            for node in world.nodes
            for row in sorted(node.store.scan(b"", b"\xff"))
            for part in row
        ]
        if not report.violated
        else []
    )
    report.digest = world.trace.digest(*rows, report.violated.encode())
    return report
