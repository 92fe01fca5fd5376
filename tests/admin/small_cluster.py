"""Three nodes as one of them sees them: real registry, controller and metadata servers.

Who lives is what a test says; everything else is the product's own.
"""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from perdure.admin.api.answering import answer_error, answer_of
from perdure.admin.api.routes import Request
from perdure.admin.cluster import ClusterView
from perdure.admin.elsewhere import Forwarded, OtherNodes, Question
from perdure.admin.http import peer_routes
from perdure.core.errors import PerdureError, TransportError
from perdure.core.ids import LogId
from perdure.core.random import SeededRandom
from perdure.core.storage.memory import MemoryStore
from perdure.log.chain import Chain, Segment, SegmentParams, chain_key, encode_chain
from perdure.log.placement import Placement as SegmentPlacement
from perdure.log.placement import Replica
from perdure.log.replicated.provider import Replication
from perdure.metadata.memory import MemoryMetadataStore
from perdure.metadata.nodes import NODES_KEY, NodesConfiguration, decode_nodes, encode_nodes
from perdure.metadata.placement import PLACEMENT_KEY, Placement, decode_placement, encode_placement
from perdure.metadata.quorum import MetadataServers
from perdure.node.cluster.registry import NodeRegistry
from perdure.node.cluster_view import JoinedClusterView, RunningCluster
from perdure.partition_processor.describing import UNFIT
from perdure.partition_processor.status import PartitionStatus

from ..metadata.quorum.hosts import FINGERPRINT, InProcessServers
from ..node.controller.facts import nodes_of, view_of
from ..node.controller.test_controller import Seen, controller_of
from .fake_view import FakeView

PARTITIONS = 4


class GrowingServers(InProcessServers):
    """Metadata servers of which there may be more later."""

    def add(self) -> None:
        """Start another new one, which belongs to no list yet."""
        index = len(self.names)
        self.disks.append(MemoryStore())
        self.names.append(f"n{index + 1}")
        self.addresses.append(f"n{index + 1}:5122")
        self.servers.append(None)
        self.listeners.append(None)
        self.start(index)


class SmallCluster:
    """Node 1 of three, each with two of the copies that each partition has."""

    def __init__(self, **nodes: Any) -> None:
        """Take what `nodes_of` takes."""
        made = nodes_of(3, partitions=PARTITIONS, replicas=2, **nodes)
        self.configuration = msgspec.structs.replace(
            made,
            nodes=tuple(msgspec.structs.replace(node, storage="read-write") for node in made.nodes),
        )
        self.seen = Seen(self.configuration, view_of(self.configuration))
        self.metadata = MemoryMetadataStore()
        self.placement: Placement | None = None
        self.joined = True
        self.joined_seconds = 60.0
        self.trouble = ""
        self.hosts = GrowingServers(1)
        self.replication = Replication(nodes=1)

    async def begin(self) -> None:
        """Store the nodes, place the partitions, begin the metadata servers."""
        await self.metadata.put(NODES_KEY, encode_nodes(self.configuration))
        self.registry = NodeRegistry(self.metadata, SeededRandom(1))
        self.controller, _ = controller_of(self.metadata, self.seen)
        self.servers = MetadataServers(self.hosts.proposer())
        await self.servers.provision(self.hosts.addresses, FINGERPRINT)
        await self.decide()

    async def decide(self) -> None:
        """Plan until nothing moves any more."""
        for _ in range(20):
            self.controller._observe(self.seen.view)
            await self.controller.decide()
        stored = await self.metadata.get(PLACEMENT_KEY)
        assert stored is not None
        self.placement = decode_placement(stored.value)

    @property
    def me(self) -> Any:
        """Node 1."""
        return self.seen.nodes.node(1)

    @property
    def membership(self) -> Any:
        """What the test says."""
        return self.seen

    @property
    def watch(self) -> Any:
        """Has the placement of the last decision."""
        return self

    def stopped(self) -> dict[tuple[int, int], tuple[int, int]]:
        """What the test says."""
        return self.seen.stopped_copies

    def unfit(self) -> frozenset[tuple[int, int]]:
        """What the test says."""
        return frozenset(place for place, (_, why) in self.stopped().items() if why == UNFIT)

    def view(self) -> JoinedClusterView:
        """What is tried."""
        return JoinedClusterView(
            lambda: cast(RunningCluster, self) if self.joined else None,
            lambda: [PartitionStatus(0, "node-1", "follower", 3, 7, 10, 2, {})],
            name="node-1",
            replication=self.replication,
            waits_for=lambda: "the metadata servers (PD0602: nobody answers)",
        )

    def die(self, *node_ids: int) -> None:
        """Have nodes be dead."""
        self.seen.change(view_of(self.seen.nodes, dead=node_ids))

    async def stored(self) -> NodesConfiguration:
        """The nodes as the metadata store has them."""
        value = await self.metadata.get(NODES_KEY)
        assert value is not None
        return decode_nodes(value.value)

    async def set_node(self, node_id: int, **fields: Any) -> None:
        """Change a node behind everybody's back."""
        nodes = await self.stored()
        node = nodes.node(node_id)
        assert node is not None
        nodes = nodes.with_node(msgspec.structs.replace(node, **fields))
        version = await self.metadata.put(NODES_KEY, encode_nodes(nodes))
        self.seen.use_nodes(version, nodes)

    async def place(self, *partitions: tuple[int, tuple[int, ...]]) -> None:
        """Have partitions be led and kept by these nodes."""
        assert self.placement is not None
        items = list(self.placement.partitions)
        for number, (leader, replicas) in enumerate(partitions):
            items[number] = msgspec.structs.replace(items[number], leader=leader, replicas=replicas)
        self.placement = msgspec.structs.replace(self.placement, partitions=tuple(items))
        await self.metadata.put(PLACEMENT_KEY, encode_placement(self.placement))

    async def log_on(
        self, log: int, *segments: tuple[int, ...], copies: int = 2, sealed: int | None = None
    ) -> None:
        """Have a log with segments on these nodes."""
        made = [
            Segment(
                index + 1,
                index * 10 + 1,
                "replicated",
                SegmentParams(
                    index + 1,
                    1,
                    0,
                    "node-1",
                    SegmentPlacement(
                        1,
                        copies,
                        1,
                        tuple(Replica(f"node-{node}", f"n{node}") for node in members),
                    ),
                ),
            )
            for index, members in enumerate(segments)
        ]
        chain = Chain(tuple(made), sealed)
        await self.metadata.put(chain_key(LogId(log)), encode_chain(chain))


class Others:
    """The other nodes: node 2 answers as node 1 does, which says so; node 3 does not answer."""

    me = "node-1"

    def __init__(self, view: FakeView) -> None:
        """Take what both answer with."""
        self._routes = peer_routes(view)

    def leader(self, partition: int) -> str | None:
        """Nobody knows."""
        return None

    def alive(self) -> list[str]:
        """Both."""
        return ["node-2", "node-3"]

    async def ask(self, node: str, question: Question) -> Forwarded:
        """Answer, or not."""
        if node != "node-2":
            raise TransportError(f"node {node} cannot be reached")
        route, parts = self._routes.find(question.method, question.path)
        try:
            return answer_of(await route.answer(Request(parts, question.query, question.body)))
        except PerdureError as error:
            return answer_error(error)


class ClusterFakeView(FakeView):
    """A node of which admin REST sees a cluster."""

    def __init__(self, cluster: SmallCluster) -> None:
        """Take the cluster."""
        self._cluster = cluster

    @property
    def cluster_view(self) -> ClusterView:
        """The cluster's."""
        return self._cluster.view()

    @property
    def others(self) -> OtherNodes | None:
        """Two more, of which one answers."""
        return Others(self)

    @property
    def logs(self) -> Any:
        """There are none."""
        return SimpleNamespace(opened=list)

    @property
    def manager(self) -> Any:
        """It has nothing."""
        return SimpleNamespace(processors=[])


def on_cluster(scenario: Callable[[SmallCluster], Awaitable[None]], **nodes: Any) -> None:
    """Run a scenario on a small cluster."""

    async def body() -> None:
        cluster = SmallCluster(**nodes)
        await cluster.begin()
        await scenario(cluster)

    asyncio.run(body())


async def unchanged(cluster: SmallCluster, doing: Awaitable[object]) -> PerdureError:
    """What `doing` was refused with; nothing in the metadata may have changed."""
    before = {key: await cluster.metadata.get(key) for key in await cluster.metadata.keys("")}
    try:
        await doing
    except PerdureError as error:
        refusal = error
    else:
        raise AssertionError("it was not refused")
    after = {key: await cluster.metadata.get(key) for key in await cluster.metadata.keys("")}
    assert after == before
    return refusal
