"""Several nodes for tests, each with its own view of one log, that send appends to each other."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from perdure.core.ids import LogId
from perdure.core.net.inproc import InProcNetwork, InProcTransport
from perdure.core.net.peers import Introduction, Peers, introduced
from perdure.core.net.transport import Listener, Transport
from perdure.core.random import SeededRandom
from perdure.core.retry import RetryPolicy
from perdure.log import LogletProvider, Logs, VirtualLog, appender, virtual_log
from perdure.log.chain import Segment, SegmentParams
from perdure.log.loglet import Loglet, SequencerNode
from perdure.log.remote import appends, server
from perdure.log.remote.appends import RemoteAppends
from perdure.log.remote.messages import SERVICE
from perdure.log.remote.search import AppendOptions
from perdure.log.remote.server import AppendServer
from perdure.log.sequencer import SequencerLimits

from .virtual import LOG, House

QUICK = AppendOptions(search=60.0, connect=1.0, retry=(0.0005, 0.01))
HOPELESS = AppendOptions(search=0.05, connect=0.2, retry=(0.0005, 0.01))
"""For who looks for somebody that is not there."""
PATIENT = AppendOptions(search=2.0, connect=0.2, retry=(0.0005, 0.01))
"""For who looks for somebody that is there, and then for somebody that is not."""
RETRY = RetryPolicy(
    initial_interval_ns=1_000_000, factor=2.0, interval_max_ns=10_000_000, attempts_max=None
)


class Named:
    """A node's own view of a provider that all share: the segments that it adds bear its name."""

    def __init__(self, provider: LogletProvider, node: str) -> None:
        self._provider = provider
        self._node = node
        self.kind = provider.kind

    async def meet(self, node: str) -> SequencerNode | None:
        return await self._provider.meet(node)

    def params(
        self,
        log: LogId,
        index: int,
        epoch: int,
        record_time_ns: int,
        sequencer: SequencerNode | None = None,
    ) -> SegmentParams:
        params = self._provider.params(log, index, epoch, record_time_ns)
        return SegmentParams(params.loglet, params.epoch, params.record_time_ns, self._node)

    def open(self, segment: Segment) -> Loglet:
        return self._provider.open(segment)

    async def delete(self, log: LogId, segments: tuple[Segment, ...], first_kept: int) -> None:
        await self._provider.delete(log, segments, first_kept)

    def forget(self, log: LogId, first_kept: int) -> None:
        self._provider.forget(log, first_kept)


class Node:
    """One life of a node."""

    def __init__(self, mesh: "Mesh", name: str, generation: int, **options: Any) -> None:
        house = mesh.house
        self.name = name
        self.peers = Peers(
            transport=mesh.transport(name),
            service=SERVICE,
            cluster="mesh",
            node=name,
            generation=generation,
            address_of=mesh.addresses.get,
            loop=house.loop,
            random=SeededRandom(1),
            retry=RETRY,
        )
        self.appends = RemoteAppends(
            self.peers,
            loop=house.loop,
            random=SeededRandom(2),
            options=options.get("patience", QUICK),
            leader=options.get("leader"),
        )
        self.logs = Logs(
            metadata=house.metadata,
            providers=[Named(provider, name) for provider in house.providers],
            loop=house.loop,
            default_kind=house.default_kind,
            limits=options.get("sequencer"),
            elsewhere=self.appends,
        )
        self.server = AppendServer(
            self.logs.find,
            node=name,
            loop=house.loop,
            limits=options.get("limits"),
            leader=options.get("leader"),
        )
        self.listener: Listener | None = None

    async def listen(self, mesh: "Mesh") -> None:
        me: Introduction = self.peers.me
        self.listener = await mesh.transport(self.name).listen(
            "127.0.0.1:0", {SERVICE: introduced(me, self.server.serve)}
        )
        mesh.addresses[self.name] = self.listener.address

    async def close(self) -> None:
        await self.peers.close()
        await self.server.close()
        if self.listener is not None:
            await self.listener.close(0)


class Mesh:
    """The nodes; each can reach each."""

    def __init__(self, house: House, transport: Callable[[str], Transport] | None = None) -> None:
        self.house = house
        self.network = InProcNetwork()
        self.transport = transport or (lambda name: InProcTransport(self.network, name))
        self.addresses: dict[str, str] = {}
        self.nodes: list[Node] = []

    async def node(self, name: str, generation: int = 1, **options: Any) -> Node:
        """Begin a life of a node."""
        node = Node(self, name, generation, **options)
        self.nodes.append(node)
        await node.listen(self)
        return node

    async def log(self, name: str, **options: Any) -> VirtualLog:
        """The view of a new node of the log."""
        return await (await self.node(name, **options)).logs.open(LOG, create=True)

    async def led(self, name: str = "n1", kind: str | None = None, **options: Any) -> VirtualLog:
        """The view of a new node, which leads."""
        log = await self.log(name, **options)
        await log.lead(kind=kind)
        return log

    def cut(self, name: str) -> None:
        """Lose all connections to a node."""
        self.network.cut(self.addresses[name])

    async def close(self) -> None:
        for node in self.nodes:
            await node.close()


def run_mesh(scenario: Callable[[Mesh], Awaitable[None]], **options: Any) -> None:
    """Run on nodes of its own; what hangs fails."""

    async def whole() -> None:
        house = House(**options)
        mesh = Mesh(house)
        try:
            await scenario(mesh)
        finally:
            await mesh.close()
            house.close()

    asyncio.run(asyncio.wait_for(whole(), 120))


def never_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nobody look at the chain because an answer takes long, as on a machine that pauses."""
    for module in (appender, appends, server, virtual_log):
        monkeypatch.setattr(module, "POLL_SECONDS", 1000.0)


class AwayHouse(House):
    """A house whose log is led by node n1, and appended to on node n2."""

    patience = QUICK

    def __init__(self, *args: Any, limits: SequencerLimits | None = None, **options: Any) -> None:
        super().__init__(*args, limits=limits, **options)
        self.mesh = Mesh(self)
        self._doors: dict[VirtualLog, VirtualLog] = {}

    async def log(self, kind: str | None = None) -> VirtualLog:
        log = await self.mesh.led("n1", kind, sequencer=self.limits)
        self.logs = self.mesh.nodes[0].logs
        self._doors[log] = await self.mesh.log("n2", patience=self.patience)
        return log

    def door(self, log: VirtualLog) -> VirtualLog:
        return self._doors[log]

    async def end(self) -> None:
        await self.mesh.close()
        self.close()
