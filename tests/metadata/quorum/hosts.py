"""Machines with metadata servers on one event loop, as hosts of the conformance suite."""

import random
from collections.abc import Coroutine
from typing import Any

from perdure.core.net.inproc import InProcNetwork, InProcTransport
from perdure.core.random import SeededRandom
from perdure.core.storage.memory import MemoryStore
from perdure.metadata import MetadataStore
from perdure.metadata.quorum import (
    SERVICE,
    Acceptor,
    MetadataServer,
    MetadataServers,
    Proposer,
    QuorumMetadataStore,
)

FINGERPRINT = "test cluster"


def at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


class InProcessServers:
    """Servers in one process, each with a disk that can lose what was not synced."""

    def __init__(self, count: int) -> None:
        """Start `count` new servers."""
        self.network = InProcNetwork()
        self.transport = InProcTransport(self.network)
        self.disks = [MemoryStore() for _ in range(count)]
        self.names = [f"n{number}" for number in range(1, count + 1)]
        self.addresses = [f"{name}:5122" for name in self.names]
        self.servers: list[MetadataServer | None] = [None] * count
        self.random = SeededRandom(1)
        self.opened = 0
        self.listeners: list[Any] = [None] * count
        for index in range(count):
            self.start(index)

    def start(self, index: int) -> None:
        """Start a server on what its disk holds."""
        name = self.names[index]
        acceptor = Acceptor(self.disks[index], name=name, random=self.random)
        server = MetadataServer(acceptor, name=name)
        self.servers[index] = server
        self.listeners[index] = at_once(
            self.transport.listen(self.addresses[index], {SERVICE: server.handle})
        )

    def stop(self, index: int) -> None:
        """End a server and its connections at once."""
        server = self.servers[index]
        assert server is not None
        server.stop()
        self.servers[index] = None
        self.network.cut(self.addresses[index])
        self.network._bindings.release(self.addresses[index], self.listeners[index])

    def proposer(self, **options: Any) -> Proposer:
        """A proposer that knows where the servers are."""
        self.opened += 1
        return Proposer(
            self.transport,
            self.addresses,
            random=SeededRandom(self.opened),
            sender=f"client:{self.opened}",
            **options,
        )


class ProvisioningStore:
    """A store that provisions its servers before its first call; any further one finds it done."""

    def __init__(self, servers: InProcessServers) -> None:
        """Take the servers."""
        self.proposer = servers.proposer()
        self.addresses = servers.addresses
        self.store = QuorumMetadataStore(self.proposer)

    async def _ready(self) -> QuorumMetadataStore:
        if self.proposer.configuration is None:
            await MetadataServers(self.proposer).provision(self.addresses, FINGERPRINT)
        return self.store

    async def get(self, key: str) -> Any:
        """See `MetadataStore`."""
        return await (await self._ready()).get(key)

    async def put(self, *arguments: Any) -> Any:
        """See `MetadataStore`."""
        return await (await self._ready()).put(*arguments)

    async def delete(self, *arguments: Any) -> None:
        """See `MetadataStore`."""
        await (await self._ready()).delete(*arguments)

    async def keys(self, prefix: str) -> list[str]:
        """See `MetadataStore`."""
        return await (await self._ready()).keys(prefix)


class ServersHost(InProcessServers):
    """A host of the conformance suite: a crash takes every server and what it had not synced."""

    def open(self) -> MetadataStore:
        """A new proposer's store."""
        return ProvisioningStore(self)

    def break_disk(self) -> bool:
        """A failing disk leaves its server out: callers see it as too few servers, if at all."""
        return False

    def crash(self, draw: random.Random) -> None:
        """Lose the power of all machines."""
        for index, disk in enumerate(self.disks):
            self.stop(index)
            self.disks[index] = disk.crash(draw.randint(0, disk.unsynced_writes))
            self.start(index)
