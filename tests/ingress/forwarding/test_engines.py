"""Two real engines, in process and over TCP: one leads, the other one forwards."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from perdure.core.clock import SystemClock
from perdure.core.errors import PerdureError
from perdure.core.metrics import Metrics
from perdure.core.net.inproc import InProcNetwork, InProcTransport
from perdure.core.net.peers import Peers, introduced
from perdure.core.net.tcp import TcpTransport
from perdure.core.net.transport import Transport
from perdure.core.options import Assignment
from perdure.core.protocol.session import SESSION_SERVICE
from perdure.core.random import SystemRandom
from perdure.core.storage.memory import MemoryStore
from perdure.core.tasks import TaskScope
from perdure.ingress.errors import NotLeaderError
from perdure.ingress.forwarding.frames import FORWARDING_SERVICE
from perdure.ingress.forwarding.leaders import LeaderTable
from perdure.ingress.requests import Completed, InvocationRequest
from perdure.node.engine import NodeEngine
from perdure.node.options import load_node_options
from perdure.sdk.run_worker import run_worker

from .ledgers import APP


class Engines:
    """Both of them, with a worker."""

    def __init__(self, transport: Transport, *, tcp: bool) -> None:
        self.transport = transport
        self.tcp = tcp
        self.addresses: dict[str, str] = {}
        self.failures: list[PerdureError] = []
        self.engines: dict[str, NodeEngine] = {}

    def engine(self, name: str, peers: Peers, table: LeaderTable) -> NodeEngine:
        """An engine on stores of its own."""
        stores: dict[str, MemoryStore] = {}
        options = load_node_options(
            assignments=[Assignment("node.name", name), Assignment("partitions.count", "2")]
        )
        return NodeEngine(
            options,
            open_store=lambda store: stores.setdefault(store, MemoryStore()),
            clock=SystemClock(),
            random=SystemRandom(),
            metrics=Metrics(),
            on_failure=self.failures.append,
            leaders=table,
            peers=peers,
        )

    async def until(self, condition: Any) -> None:
        """Wait until something is so."""
        while not condition():
            waited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(0.001, waited.set_result, None)
            await waited

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Engines"]:
        """From start to stop."""
        table = LeaderTable()
        scope = TaskScope("test")
        listeners = []
        peers = []
        stop = asyncio.Event()
        for name in ("leader", "other"):
            mine = Peers(
                transport=self.transport,
                service=FORWARDING_SERVICE,
                cluster="local",
                node=name,
                generation=1,
                address_of=self.addresses.get,
                loop=asyncio.get_running_loop(),
                random=SystemRandom(),
            )
            peers.append(mine)
            engine = self.engines[name] = self.engine(name, mine, table)
            assert engine.forwarding is not None
            listener = await self.transport.listen(
                "127.0.0.1:0" if self.tcp else f"{name}:0",
                {
                    SESSION_SERVICE: engine.reception.serve,
                    FORWARDING_SERVICE: introduced(mine.me, engine.forwarding.serve),
                },
            )
            listeners.append(listener)
            self.addresses[name] = listener.address
        await self.engines["leader"].start()
        for partition in range(2):
            table.set(partition, "leader")
        scope.spawn(
            run_worker(
                APP,
                list(self.addresses.values()),
                transport=self.transport,
                clock=SystemClock(),
                random=SystemRandom(),
                name="worker",
                stop=stop,
            ),
            name="worker",
        )
        await self.until(
            lambda: all(engine.manager.invoker.sessions for engine in self.engines.values())
        )
        try:
            yield self
        finally:
            stop.set()
            await scope.wait(5)
            for engine in self.engines.values():
                engine.stop(NotLeaderError("over"))
            for item in peers:
                await item.close()
            for listener in listeners:
                await listener.close(0.0)
            for engine in self.engines.values():
                engine.close()


@pytest.mark.parametrize("tcp", [False, True])
def test_an_engine_that_leads_nothing_serves_clients_by_one_that_does(tcp: bool) -> None:
    async def scenario() -> None:
        transport: Transport = TcpTransport() if tcp else InProcTransport(InProcNetwork())
        async with asyncio.timeout(60), Engines(transport, tcp=tcp).running() as both:
            calls: list[asyncio.Future[Any]] = []
            for number in range(40):
                engine = both.engines["other" if number % 2 else "leader"]
                call: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
                request = InvocationRequest(
                    "Relay", "pass_on", None, json.dumps([f"k{number % 4}", str(number)]).encode()
                )
                engine.dispatcher.call(request, call.set_result)
                calls.append(call)
            counts = []
            for call in calls:
                reply = await call
                assert isinstance(reply, Completed), reply
                assert reply.failure is None
                counts.append(json.loads(reply.value))
            assert sorted(counts) == sorted(list(range(1, 11)) * 4)
            assert both.failures == []
            assert await both.engines["other"].finish_requests() is None

    asyncio.run(scenario())
