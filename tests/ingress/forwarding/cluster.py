"""Nodes of one cluster in one process, on a virtual clock: the real parts over logs that all see.

Each partition is placed on one node as its leader, and follows on the others, each with a store of
its own. Who leads is told to each node late, in a time of its own.
"""

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any, Final, cast

from perdure.admin.http import peer_routes
from perdure.admin.peers import ADMIN_SERVICE, PeerAnswers, PeerAsker
from perdure.admin.view import AdminView
from perdure.core.clock import Clock
from perdure.core.hashing import keyed_partition_key
from perdure.core.ids import LogId, PartitionKey, partition_of
from perdure.core.net.peers import Peers, introduced
from perdure.core.protocol.session import SESSION_SERVICE
from perdure.core.random import Random
from perdure.core.storage.memory import MemoryStore
from perdure.core.tasks import TaskScope
from perdure.ingress.dispatcher import Dispatcher
from perdure.ingress.errors import NotLeaderError
from perdure.ingress.forwarding.forwarding import Forwarding
from perdure.ingress.forwarding.frames import FORWARDING_SERVICE
from perdure.ingress.forwarding.leaders import LeaderTable
from perdure.ingress.requests import CallReply, InvocationRequest, PendingReply, SendReply
from perdure.log.logs import Logs
from perdure.log.memory.provider import MemoryProvider
from perdure.metadata.local import LocalMetadataStore
from perdure.node.engine import handling_defaults
from perdure.node.options import load_node_options
from perdure.partition_processor.invoker.reception import WorkerReception
from perdure.partition_processor.manager import PartitionManager
from perdure.partition_processor.processor import PartitionProcessor
from perdure.partition_processor.role_changes import Placement
from perdure.sdk.run_worker import run_worker
from perdure.sdk.service import App
from perdure.testing.simulation.chance import Chance
from perdure.testing.simulation.loop import SimulationClock, SimulationLoop, run_simulated
from perdure.testing.simulation.network import SimulationListener, SimulationNetwork
from perdure.testing.simulation.trace import Trace

MS: Final = 1_000_000
CLUSTER: Final = "test"


class SharedProvider(MemoryProvider):
    """Logs that any node may seal, so that no leader is sure of itself."""

    @property
    def kind(self) -> str:
        """``shared``."""
        return "shared"


class Node:
    """One node: its partitions, front door and forwarding.

    Attributes:
        table: who leads, as this node knows.
        leads: the partitions that it leads.
        clock: its own, which may be set.
        alive: whether the others hold it to be alive.
        view: the node as admin REST looks at it, as far as is needed here.
    """

    def __init__(self, cluster: "Cluster", name: str, limits: dict[str, int]) -> None:
        self.cluster = cluster
        self.name = name
        self.address = f"{name}:5122"
        self.table = LeaderTable()
        self.leads: set[int] = set()
        self.scope = TaskScope(name, on_failure=cluster.failures.append)
        loop = cast("asyncio.AbstractEventLoop", cluster.loop)
        clock = self.clock = SimulationClock(cluster.loop)
        random = Chance(cluster.seed, name)
        self.store = MemoryStore()
        self.logs = Logs(
            metadata=cluster.metadata,
            providers=[cluster.provider],
            loop=loop,
            default_kind="shared",
            on_turn=cluster.finish_turn,
        )
        self.manager = PartitionManager(
            partition_count=cluster.partition_count,
            node=name,
            store=self.store,
            metadata=cluster.metadata,
            loop=loop,
            clock=clock,
            random=random,
            defaults=handling_defaults(load_node_options()),
            scope=self.scope,
            on_failure=cluster.failures.append,
            on_parked=lambda _processor, error: cluster.failures.append(error),
        )
        self.peers = self._peers_for(FORWARDING_SERVICE, random)
        self.forwarding = Forwarding(
            self.manager,
            node=name,
            cluster=CLUSTER,
            leaders=self.table,
            peers=self.peers,
            loop=loop,
            clock=clock,
            random=random,
            leader_wait=15.0,
            waiting_max=limits.get("waiting_max", 10_000),
            in_flight_max_per_peer=limits.get("in_flight_max_per_peer", 20_000),
            in_flight_max_per_partition=limits.get("in_flight_max_per_partition", 2000),
            active_max_per_partition=limits.get("active_max_per_partition", 250_000),
        )
        self.manager.elsewhere = self.forwarding
        self.admin_peers = self._peers_for(ADMIN_SERVICE, random)
        self.view = cast("AdminView", self)
        self.node_name = name
        self.others = PeerAsker(
            self.admin_peers,
            me=name,
            leader=self.table.leader,
            alive=lambda: [node.name for node in cluster.nodes if node.alive and node is not self],
            loop=loop,
        )
        self.alive = True
        self.dispatcher = self._make_dispatcher(clock, random, limits)
        self.reception = WorkerReception(
            invoker=self.manager.invoker,
            register=self.manager.register,
            node_name=name,
            cluster=CLUSTER,
            loop=loop,
            clock=clock,
        )
        self._listener: SimulationListener | None = None

    def _peers_for(self, service: str, random: Random) -> Peers:
        return Peers(
            transport=self.cluster.network.transport(self.name),
            service=service,
            cluster=CLUSTER,
            node=self.name,
            generation=1,
            address_of=self.cluster.addresses.get,
            loop=cast("asyncio.AbstractEventLoop", self.cluster.loop),
            random=random,
        )

    def _make_dispatcher(self, clock: Clock, random: Random, limits: dict[str, int]) -> Dispatcher:
        return Dispatcher(
            self.manager,
            clock=clock,
            random=random,
            body_bytes_max=1 << 20,
            in_flight_max_per_partition=limits.get("in_flight_max_per_partition", 2000),
            active_max_per_partition=limits.get("active_max_per_partition", 250_000),
        )

    async def listen(self) -> None:
        """Take workers and nodes, and follow everything."""
        self._listener = await self.cluster.network.transport(self.name).listen(
            self.address,
            {
                SESSION_SERVICE: self.reception.serve,
                FORWARDING_SERVICE: introduced(self.peers.me, self.forwarding.serve),
                ADMIN_SERVICE: introduced(
                    self.admin_peers.me, PeerAnswers(peer_routes(self.view)).serve
                ),
            },
        )
        placement: dict[int, Placement] = dict.fromkeys(
            range(self.cluster.partition_count), "follower"
        )
        await self.manager.start(self.logs, placement=placement)

    async def lead(self, partition: int) -> None:
        """Take the lead, from whoever has it."""
        while not self.manager.processors[partition].leading:
            # Again and again: it may hear only now that it was deposed before.
            self.manager.apply_placement({partition: "leader"})
            assert self.manager.processors[partition].role != "stopped"
            await self.cluster.loop.pause(MS)
        self.leads.add(partition)

    def give_up(self, partition: int) -> None:
        """Lead no more; whoever waits is told."""
        self.leads.discard(partition)
        self.manager.apply_placement({partition: "follower"})

    def time_ns(self) -> int:
        """The node's clock, as admin REST shows it."""
        return self.cluster.loop.now_ns

    def durable_lsn(self, log: LogId) -> int:
        """How far a log may be trimmed, as admin REST asks."""
        return self.processor(log).written_lsn

    def archived_lsn(self, _log: LogId) -> int | None:
        """No snapshots are taken."""
        return None

    def provider_refusal(self, _kind: str) -> str:
        """Any provider may be taken."""
        return ""

    def processor(self, partition: int) -> PartitionProcessor:
        """This node's processor of a partition."""
        return self.manager.processors[partition]

    def crash(self) -> None:
        """Be gone, with everything that its clients wait for."""
        self.forwarding.close(NotLeaderError("the node has crashed"))
        self.dispatcher.closing = True
        self.leads.clear()
        self.manager.stop(NotLeaderError("the node has crashed"))
        self.cluster.network.cut(self.name)
        if self._listener is not None:
            self._listener.abort()

    async def close(self) -> None:
        """End."""
        self.forwarding.close(NotLeaderError("over"))
        self.manager.stop(NotLeaderError("over"))
        await self.peers.close()
        await self.admin_peers.close()
        await self.scope.close()

    # Clients -------------------------------------------------------------------------------------

    def call(self, request: InvocationRequest) -> "tuple[asyncio.Future[CallReply], PendingReply]":
        """A client's call."""
        future: asyncio.Future[CallReply] = self.cluster.loop.create_future()
        return future, self.dispatcher.call(request, partial(_settle, future))

    def send(self, request: InvocationRequest) -> "asyncio.Future[SendReply]":
        """A client's one-way call."""
        future: asyncio.Future[SendReply] = self.cluster.loop.create_future()
        self.dispatcher.send(request, partial(_settle, future))
        return future


def _settle(future: "asyncio.Future[Any]", reply: object) -> None:
    assert not future.done() or future.cancelled(), "a client is answered twice"
    if not future.done():
        future.set_result(reply)


class Cluster:
    """Some nodes, what they share, and workers that all of them have.

    Attributes:
        failures: what went wrong inside; a test's end asserts that there is nothing.
        told_late_ns: the longest time until a node hears who leads.
        worker_clock: of all workers.
        log_clock: tells the time of records.
    """

    def __init__(
        self,
        seed: int = 1,
        *,
        nodes: int = 2,
        partitions: int = 4,
        delay_ns: tuple[int, int] = (0, 2 * MS),
        told_late_ns: int = 20 * MS,
        limits: dict[str, int] | None = None,
    ) -> None:
        self.seed = seed
        self.partition_count = partitions
        self.chance = Chance(seed, "cluster")
        self.loop = SimulationLoop()
        self.failures: list[BaseException] = []
        self.network = SimulationNetwork(
            self.loop,
            trace=Trace(self.loop),
            chance=Chance(seed, "network"),
            delay_ns=delay_ns,
            cut_heard_ns_max=50 * MS,
            on_failure=self.failures.append,
        )
        self.told_late_ns = told_late_ns
        self.worker_clock = SimulationClock(self.loop)
        self.log_clock = SimulationClock(self.loop)
        self.metadata = LocalMetadataStore(MemoryStore())
        self.addresses: dict[str, str] = {}
        self.provider = SharedProvider(
            loop=cast("asyncio.AbstractEventLoop", self.loop),
            clock=self.log_clock,
            node="all",
            on_turn=self.finish_turn,
        )
        self.nodes: list[Node] = []
        self._names = [f"n{number}" for number in range(nodes)]
        self._limits = limits or {}
        self._scope = TaskScope("workers", on_failure=self.failures.append)
        self._moving: set[int] = set()

    def finish_turn(self) -> None:
        """After commits of any node."""
        for node in self.nodes:
            node.manager.finish_turn()

    def run(self, scenario: Coroutine[Any, Any, None], *, seconds: int = 300) -> None:
        """Run a scenario to its end; every wait ends within the virtual time."""
        run_simulated(self._run(scenario), self.loop, until_ns=seconds * 1000 * MS)
        assert self.failures == []

    async def _run(self, scenario: Coroutine[Any, Any, None]) -> None:
        self.nodes = [Node(self, name, self._limits) for name in self._names]
        for node in self.nodes:
            await node.listen()
            self.addresses[node.name] = node.address
        for partition in range(self.partition_count):
            node = self.nodes[partition % len(self.nodes)]
            await node.lead(partition)
            self.tell_all(partition, node.name)
        try:
            await scenario
        finally:
            await self._scope.close()
            for node in self.nodes:
                await node.close()

    async def add_worker(
        self, app: App, name: str = "worker", deployment: str = "d1"
    ) -> asyncio.Event:
        """A worker that serves all nodes until the event; they know its services on return."""
        stop = asyncio.Event()
        self._scope.spawn(
            run_worker(
                app,
                [node.address for node in self.nodes],
                deployment=deployment,
                code_hash=keyed_partition_key(deployment).to_bytes(32, "big").hex(),
                transport=self.network.transport(name),
                clock=self.worker_clock,
                random=Chance(self.seed, name),
                name=name,
                stop=stop,
            ),
            name=name,
        )
        while not all(self._served(node, deployment) for node in self.nodes):
            await self.loop.pause(MS)
        return stop

    @staticmethod
    def _served(node: Node, deployment: str) -> bool:
        sessions = node.manager.invoker.sessions
        known = (item.name for item in node.manager.schema.deployments)
        return deployment in known and any(item.deployment == deployment for item in sessions)

    # Who leads -----------------------------------------------------------------------------------

    def tell_all(self, partition: int, leader: str | None, *, late: bool = False) -> None:
        """Have every node know who leads, at once or each in its time."""
        for node in self.nodes:
            delay_ns = self.chance.between(0, self.told_late_ns) if late else 0
            if delay_ns:
                due_ns = self.loop.now_ns + delay_ns
                self.loop.call_at_ns(due_ns, node.table.set, partition, leader)
            else:
                node.table.set(partition, leader)

    def leader(self, partition: int) -> Node | None:
        """The node that leads, None while none does."""
        for node in self.nodes:
            if partition in node.leads:
                return node
        return None

    def partition_of(self, key: str) -> int:
        """The partition of an object."""
        return partition_of(PartitionKey(keyed_partition_key(key)), self.partition_count)

    def keys_in(self, partition: int, count: int, prefix: str = "k") -> list[str]:
        """Keys of objects of a partition."""
        found: list[str] = []
        number = 0
        while len(found) < count:
            key = f"{prefix}{number}"
            if self.partition_of(key) == partition:
                found.append(key)
            number += 1
        return found

    async def move(
        self, partition: int, to: Node, *, announce_none: bool = True, oblivious: bool = False
    ) -> None:
        """Move a partition's leadership; nobody leads for a moment.

        Args:
            announce_none: have the nodes hear that, each in its time.
            oblivious: the leader before is not told, and has to find out by its log.
        """
        if partition in self._moving:
            return
        self._moving.add(partition)
        old = self.leader(partition)
        if old is not None and (not oblivious or old is to):
            old.give_up(partition)
        elif old is not None:
            old.leads.discard(partition)
        if announce_none:
            self.tell_all(partition, None, late=True)
        await self.loop.pause(self.chance.between(0, 30 * MS))
        await to.lead(partition)
        # After every earlier word.
        await self.loop.pause(self.told_late_ns)
        self.tell_all(partition, to.name, late=True)
        await self.loop.pause(self.told_late_ns)
        self._moving.discard(partition)

    async def see_to_leads(self) -> None:
        """Have partitions be led that nobody leads any more, as the runtime of a node does.

        Whoever was told to lead and found another one's claim follows, until it is asked again.
        """
        for partition in range(self.partition_count):
            node = self.leader(partition) or self.nodes[0]
            await node.lead(partition)
            self.tell_all(partition, node.name)
