"""A few log-servers and nodes that use them, on the running loop."""

import asyncio
from collections.abc import Callable

from perdure.core.clock import Clock
from perdure.core.net.inproc import InProcNetwork, InProcTransport
from perdure.core.net.peers import VERSION, Introduction, Peers, introduced
from perdure.core.net.transport import Listener, Transport
from perdure.core.random import SeededRandom
from perdure.core.retry import RetryPolicy
from perdure.core.storage.kv import KvStore
from perdure.core.storage.memory import MemoryStore
from perdure.log.local.sync_runner import SyncRunner
from perdure.log.local.writer import LogWriter, SyncMode, SyncPolicy
from perdure.log.placement import LogServer as LogServerEntry
from perdure.log.replicated.messages import SERVICE
from perdure.log.replicated.provider import ReplicatedProvider, Replication
from perdure.log.replicated.remote_sequencer.messages import SERVICE as SEQUENCER_SERVICE
from perdure.log.replicated.remote_sequencer.server import SequencerServer
from perdure.log.replicated.server import LogServer, LogServerLimits
from perdure.log.replicated.server_store import ServerStore
from perdure.log.replicated.view import LogletOptions

from ...ports import HOST, free_port
from ..support import LaterSyncs, Measured, SetClock

CLUSTER = "test cluster"
QUICK = LogletOptions(
    unavailable_after=15.0,
    answer=5.0,
    retry=(0.001, 0.02),
    wait=0.2,
    abandoned_after=0.05,
    silent_after=10.0,
)
RETRY = RetryPolicy(
    initial_interval_ns=1_000_000, factor=2.0, interval_max_ns=20_000_000, attempts_max=None
)


def open_server(
    store: KvStore,
    node: str,
    *,
    mode: SyncMode = "always",
    sync_runner: SyncRunner | None = None,
    limits: LogServerLimits | None = None,
) -> tuple[LogServer, LogWriter]:
    """A log-server over a store, on the running loop."""
    loop = asyncio.get_running_loop()
    writer = LogWriter(
        kv_store=store,
        loop=loop,
        clock=SetClock(),
        policy=SyncPolicy(mode),
        metrics=Measured(),
        on_turn=lambda: None,
        on_failure=lambda error: None,
        sync_runner=sync_runner or LaterSyncs(2),
    )
    rows = ServerStore(store, cluster=CLUSTER, node=node, random=SeededRandom(hash_of(node, store)))
    return LogServer(rows, writer, loop=loop, limits=limits), writer


def hash_of(node: str, store: KvStore) -> int:
    """A seed that differs from disk to disk."""
    return int.from_bytes(node.encode(), "big") ^ id(store)


class Cluster:
    """Log-servers by name, each on its store, and the nodes that use them.

    Attributes:
        stores: what each server's disk holds, from one life to the next.
        providers: by node.
    """

    def __init__(
        self,
        names: list[str],
        *,
        stores: dict[str, KvStore] | None = None,
        transport: Callable[[], Transport] | None = None,
        mode: SyncMode = "always",
        replication: Replication | None = None,
        clock: Clock | None = None,
        options: LogletOptions = QUICK,
    ) -> None:
        network = InProcNetwork()
        self.names = names
        self.stores: dict[str, KvStore] = stores or {name: MemoryStore() for name in names}
        self.clock = clock or SetClock()
        self.servers: dict[str, LogServer] = {}
        self.writers: dict[str, LogWriter] = {}
        self.listeners: dict[str, Listener] = {}
        self.addresses: dict[str, str] = {}
        self.sequencers: dict[str, str] = {}
        self.entries: dict[str, LogServerEntry] = {}
        self.providers: dict[str, ReplicatedProvider] = {}
        self.peers: list[Peers] = []
        self.replication = replication or Replication(min(2, len(names)))
        self._network = network
        self._transport = transport or (lambda: InProcTransport(network))
        self._mode = mode
        self._options = options
        self._starting: list[asyncio.Task[None]] = []
        for name in names:
            self.start_soon(name)

    def start_soon(self, name: str) -> None:
        """Open a server's disk and have it listen."""
        server, writer = open_server(self.stores[name], name, mode=self._mode)
        self.servers[name], self.writers[name] = server, writer
        self.entries[name] = LogServerEntry(name, server.storage)
        self._starting.append(asyncio.create_task(self._listen(name, server)))

    async def _listen(self, name: str, server: LogServer) -> None:
        me = Introduction(VERSION, CLUSTER, name, 1)
        listener = await self._transport().listen(
            f"{HOST}:{free_port()}", {SERVICE: introduced(me, server.serve)}
        )
        self.listeners[name] = listener
        self.addresses[name] = listener.address

    async def started(self) -> None:
        """Wait until every server listens."""
        await asyncio.gather(*self._starting)

    def provider(self, node: str, generation: int = 1) -> ReplicatedProvider:
        """The provider of a node, which need not be one of the servers."""
        if node in self.providers:
            return self.providers[node]
        loop = asyncio.get_running_loop()
        peers = Peers(
            transport=self._transport(),
            service=SERVICE,
            cluster=CLUSTER,
            node=node,
            generation=generation,
            address_of=self.addresses.get,
            loop=loop,
            random=SeededRandom(generation),
            retry=RETRY,
        )
        sequencers = Peers(
            transport=self._transport(),
            service=SEQUENCER_SERVICE,
            cluster=CLUSTER,
            node=node,
            generation=generation,
            address_of=self.sequencers.get,
            loop=loop,
            random=SeededRandom(generation),
            retry=RETRY,
        )
        provider = ReplicatedProvider(
            peers=peers,
            sequencers=sequencers,
            servers=lambda: self.entries.values(),
            replication=lambda: self.replication,
            loop=loop,
            clock=self.clock,
            random=SeededRandom(generation * 1000 + len(self.providers)),
            options=self._options,
        )
        self.providers[node] = provider
        self.peers += [peers, sequencers]
        return provider

    async def order_at(self, node: str) -> ReplicatedProvider:
        """Have a node order for others what they ask of it."""
        provider = self.provider(node)
        me = Introduction(VERSION, CLUSTER, node, 1)
        server = SequencerServer(provider, loop=asyncio.get_running_loop())
        serve = introduced(me, server.serve)
        listener = await self._transport().listen("127.0.0.1:0", {SEQUENCER_SERVICE: serve})
        self.listeners[f"sequencer {node}"] = listener
        self.sequencers[node] = listener.address
        return provider

    async def stop_server(self, name: str) -> None:
        """End a server's process; its disk stays as it is."""
        self.addresses.pop(name, None)
        listener = self.listeners.pop(name)
        await listener.close(0)
        self.writers[name].close()
        store = self.stores[name]
        if isinstance(store, MemoryStore):
            self.stores[name] = store.reopen()

    async def restart_server(self, name: str) -> None:
        """Begin a new life of a server that was stopped."""
        self.start_soon(name)
        await self.started()

    async def close(self) -> None:
        """End everything in order."""
        await self.started()
        for provider in self.providers.values():
            await provider.close()
        for peers in self.peers:
            await peers.close()
        for listener in self.listeners.values():
            await listener.close(0)
        for writer in self.writers.values():
            writer.close()
