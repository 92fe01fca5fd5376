"""Servers on a virtual clock and fair lines, for tests of what they do step by step."""

from collections.abc import Callable, Coroutine
from typing import Any

from perdure.metadata.quorum import (
    SERVICE,
    Acceptor,
    MetadataServer,
    MetadataServers,
    Proposer,
    QuorumMetadataStore,
    QuorumOptions,
)
from perdure.testing.simulation.chance import Chance
from perdure.testing.simulation.disk import SimulationDisk
from perdure.testing.simulation.loop import SimulationLoop, run_simulated
from perdure.testing.simulation.trace import Trace

from .lossy import LossyListener, LossyNetwork

FINGERPRINT = "a simulated cluster"


class Servers:
    """Servers n1, n2, …; the first `count` of them begin the cluster."""

    def __init__(self, loop: SimulationLoop, count: int, spare: int = 0) -> None:
        """Make the machines."""
        self.loop = loop
        self.trace = Trace(loop)
        self.network = LossyNetwork(loop, self.trace, Chance(1, "network"))
        self.random = Chance(1, "ids")
        self.names = [f"n{number}" for number in range(1, count + spare + 1)]
        self.addresses = {name: f"{name}:5122" for name in self.names}
        self.beginners = [self.addresses[name] for name in self.names[:count]]
        self.disks = {name: self.new_disk(name) for name in self.names}
        self.running: dict[str, tuple[MetadataServer, LossyListener]] = {}

    def new_disk(self, name: str) -> SimulationDisk:
        """An empty disk."""
        return SimulationDisk(name, trace=self.trace, chance=Chance(1, name))

    async def start(self, *names: str) -> None:
        """Start servers, all unless named."""
        for name in names or self.names:
            acceptor = Acceptor(self.disks[name], name=name, random=self.random)
            server = MetadataServer(acceptor, name=name)
            listener = await self.network.transport(name).listen(
                self.addresses[name], {SERVICE: server.handle}
            )
            self.running[name] = server, listener

    def stop(self, *names: str) -> None:
        """End servers at once."""
        for name in names:
            server, listener = self.running.pop(name)
            server.stop()
            listener.release()
            self.network.crash(name)

    async def wipe(self, name: str) -> None:
        """A server loses its storage and starts again."""
        if name in self.running:
            self.stop(name)
        self.disks[name] = self.new_disk(name)
        await self.start(name)

    def acceptor(self, name: str) -> Acceptor:
        """The acceptor of a running server."""
        return self.running[name][0].acceptor

    def proposer(self, name: str, **more: Any) -> Proposer:
        """A proposer that knows all addresses."""
        return Proposer(
            self.network.transport(name),
            list(self.addresses.values()),
            random=Chance(1, f"proposer {name}"),
            sender=name,
            options=QuorumOptions(operation_seconds=3.0, round_seconds=0.5),
            **more,
        )

    def store(self, name: str = "client") -> QuorumMetadataStore:
        """A store of its own."""
        return QuorumMetadataStore(self.proposer(name))

    def operator(self, name: str = "operator") -> MetadataServers:
        """An operator of its own."""
        return MetadataServers(self.proposer(name))

    async def begin(self) -> None:
        """Start all and provision."""
        await self.start()
        assert await self.operator("first operator").provision(self.beginners, FINGERPRINT)


def simulate(
    scenario: Callable[[Servers], Coroutine[Any, Any, None]], count: int = 3, spare: int = 0
) -> None:
    """Run a scenario on servers."""
    loop = SimulationLoop()
    run_simulated(scenario(Servers(loop, count, spare)), loop, until_ns=600 * 10**9)
