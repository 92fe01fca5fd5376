"""The store over framed TCP: the contract, shortened, and what happens when processes end."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import pytest

from perdure.core.net.tcp import TcpTransport
from perdure.core.net.transport import Listener
from perdure.core.random import SeededRandom
from perdure.core.storage.memory import MemoryStore
from perdure.metadata import MetadataStore, VersionedValue
from perdure.metadata.quorum import (
    SERVICE,
    Acceptor,
    MetadataServer,
    MetadataServers,
    Proposer,
    QuorumMetadataStore,
)

from ...conformance.metadata_store import MetadataStoreSuite
from ...ports import HOST, free_port
from ..history import Host, record_and_check

COUNT = 3


class TcpServers:
    """Three servers at real sockets, which live as long as one event loop runs."""

    def __init__(self) -> None:
        """Start nothing yet: sockets need a loop."""
        self.transport = TcpTransport()
        self.disks = [MemoryStore() for _ in range(COUNT)]
        self.random = SeededRandom(1)
        self.addresses = [f"{HOST}:{free_port()}" for _ in range(COUNT)]
        self.running: list[tuple[MetadataServer, Listener]] = []
        self.proposers: list[Proposer] = []
        self.starts: list[asyncio.Task[None]] = []
        self.is_due = True

    def open(self) -> MetadataStore:
        """A store that starts what does not run when it is called."""
        return TcpStore(self)

    def break_disk(self) -> bool:
        """A failing disk leaves one server out."""
        return False

    def crash(self, draw: random.Random) -> None:
        """All servers answer nothing any more; the next call starts them on what is left."""
        for server, _ in self.running:
            server.stop()
        self.disks = [disk.crash(draw.randint(0, disk.unsynced_writes)) for disk in self.disks]
        self.is_due = True

    async def ready(self) -> None:
        """Start the servers unless they run; cancelling a caller leaves none half started."""
        if self.is_due:
            self.is_due = False
            self.starts.append(asyncio.ensure_future(self.start(list(self.starts))))
        await asyncio.shield(self.starts[-1])

    async def start(self, before: list[asyncio.Task[None]]) -> None:
        """End what runs, then start every server."""
        if before:
            await asyncio.wait(before)
        await self.stop()
        for index in range(COUNT):
            name = f"n{index + 1}"
            acceptor = Acceptor(self.disks[index], name=name, random=self.random)
            server = MetadataServer(acceptor, name=name)
            listener = await self.transport.listen(self.addresses[index], {SERVICE: server.handle})
            self.running.append((server, listener))

    async def stop(self) -> None:
        """End the servers and their connections."""
        running, self.running = self.running, []
        for server, listener in running:
            server.stop()
            await listener.close(0)

    async def proposer(self) -> Proposer:
        """A proposer of a cluster that was begun."""
        await self.ready()
        proposer = Proposer(self.transport, self.addresses, random=self.random, sender="client:1")
        self.proposers.append(proposer)
        await MetadataServers(proposer).provision(self.addresses, "over TCP")
        return proposer

    async def close(self) -> None:
        """End everything, so that no socket outlives the loop."""
        for proposer in self.proposers:
            await proposer.close()
        self.proposers.clear()
        if self.starts:
            await asyncio.wait(self.starts)
        await self.stop()


class TcpStore:
    """The store of one proposer, made with its first call."""

    def __init__(self, servers: TcpServers) -> None:
        """Take the servers."""
        self.servers = servers
        self.store: QuorumMetadataStore | None = None
        self.opening = asyncio.Lock()

    async def _ready(self) -> QuorumMetadataStore:
        async with self.opening:
            await self.servers.ready()
            if self.store is None:
                self.store = QuorumMetadataStore(await self.servers.proposer())
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


class TestThreeServersOverTcp(MetadataStoreSuite):
    """Three servers at real sockets."""

    @pytest.fixture
    def host(self, monkeypatch: pytest.MonkeyPatch) -> Host:
        """Where it runs; whatever a test runs, its sockets are closed before its loop."""
        servers = TcpServers()
        run = asyncio.run

        def run_and_close(scenario: Coroutine[Any, Any, Any]) -> Any:
            async def whole() -> Any:
                try:
                    return await scenario
                finally:
                    await servers.close()

            return run(whole())

        monkeypatch.setattr(asyncio, "run", run_and_close)
        return servers

    def test_recorded_histories_are_linearizable(self, host: Host) -> None:
        """A few, and uncounted: how calls meet is up to real sockets here."""
        counts = record_and_check(host, range(3))

        assert counts["crash"] >= 3


def test_a_server_that_ends_and_comes_back_is_found_again() -> None:
    async def scenario() -> None:
        servers = TcpServers()
        try:
            store = QuorumMetadataStore(await servers.proposer())
            first = await store.put("key", b"1")
            for round_ in range(3):
                server, listener = servers.running[round_]
                server.stop()
                await listener.close(0)
                assert await store.get("key") == VersionedValue(first, b"1")
                first = await store.put("key", b"1")
                acceptor = Acceptor(servers.disks[round_], name="again", random=servers.random)
                again = MetadataServer(acceptor, name="again")
                listener = await servers.transport.listen(
                    servers.addresses[round_], {SERVICE: again.handle}
                )
                servers.running[round_] = again, listener
        finally:
            await servers.close()

    asyncio.run(scenario())
