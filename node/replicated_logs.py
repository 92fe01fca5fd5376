"""The replicated log on one node: its log-server, and the provider that reaches all of them."""

from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable
from typing import Final

from ..core.clock import Clock
from ..core.net.peers import Peers, introduced
from ..core.net.transport import ConnectionHandler
from ..core.random import Random
from ..core.sections import ClusterSection
from ..core.storage.kv import KvStore
from ..log.local.writer import LogWriter
from ..log.placement import LogServer as ServerToPlace
from ..log.replicated.messages import SERVICE
from ..log.replicated.provider import ReplicatedProvider, Replication
from ..log.replicated.remote_sequencer.messages import SERVICE as SEQUENCER_SERVICE
from ..log.replicated.remote_sequencer.server import SequencerServer
from ..log.replicated.server import LogServer
from ..log.replicated.server_store import ServerStore
from .cluster.parts import ClusterParts, disk_name
from .log_appends import LogAppends

LOG_SERVICE: Final = SERVICE
ORDERING_SERVICE: Final = SEQUENCER_SERVICE
_NO_LEADER: Final = "logs cannot begin new segments and partitions get no leader"


class ReplicatedLogs:
    """What one node has of the replicated log.

    Attributes:
        provider: of loglets of the kind ``replicated``.
        server: this node's log-server; None without that role.
        appends: to and from other nodes.
        serve: handles connections of other nodes to this one's log-server; None without that role.
        sequencers: gives out offsets for other nodes.
        serve_sequencers: handles connections of other nodes to it.
    """

    def __init__(
        self,
        parts: ClusterParts,
        *,
        replication: Replication,
        store: KvStore,
        writer: LogWriter,
        loop: AbstractEventLoop,
        clock: Clock,
        random: Random,
        on_turn: Callable[[], None],
    ) -> None:
        """Open the log-server's part of `store`, which `writer` writes.

        Raises ForeignStorageError and StorageCorruptError.
        """
        me = parts.me

        def peers_for(service: str) -> Peers:
            return Peers(
                transport=parts.transport,
                service=service,
                cluster=parts.fingerprint,
                node=me.name,
                generation=parts.life,
                address_of=parts.address_of,
                loop=loop,
                random=random,
            )

        self._peers = peers_for(LOG_SERVICE)
        self._sequencer_peers = peers_for(ORDERING_SERVICE)
        self.provider = ReplicatedProvider(
            peers=self._peers,
            sequencers=self._sequencer_peers,
            servers=parts.log_servers,
            replication=lambda: replication,
            loop=loop,
            clock=clock,
            random=random,
            on_turn=on_turn,
        )
        self.sequencers = SequencerServer(self.provider, loop=loop)
        self.serve_sequencers = introduced(self._peers.me, self.sequencers.serve)
        self.appends = LogAppends(parts, loop=loop, random=random)
        self._parts = parts
        self._replication = replication
        self.serve: ConnectionHandler | None = None
        self.server: LogServer | None = None
        if "log-server" in me.roles:
            server_store = ServerStore(
                store,
                cluster=parts.fingerprint,
                node=me.name,
                random=random,
                storage=disk_name(me.id),
            )
            self.server = LogServer(server_store, writer, loop=loop)
            self.serve = introduced(self._peers.me, self.server.serve)

    def fail(self, reason: str) -> None:
        """Nothing more is taken or acknowledged."""
        self.provider.fail(reason)

    def warnings(self) -> list[str]:
        """What an operator should know of the log-servers as a whole."""
        return copies_warnings(self._parts.log_servers(), self._replication)

    async def close(self) -> None:
        """End all connections. Cancelling is safe."""
        await self.appends.close()
        await self.provider.close()
        await self._sequencer_peers.close()
        await self._peers.close()


def replication_of(cluster: ClusterSection) -> Replication:
    """How many copies of records there are to be, by options."""
    return Replication(nodes=cluster.log_copies, zones=cluster.log_zones)


def copies_warnings(servers: Iterable[ServerToPlace], replication: Replication) -> list[str]:
    """That too few log-servers can take records, where that is so: no log can go on then."""
    usable = [server for server in servers if server.writable and server.alive]
    names = ", ".join(sorted(server.node for server in usable)) or "none"
    wanted = replication.nodes
    if len(usable) < wanted:
        return [
            f"each record is to be on {wanted} log-servers before it counts (cluster.log_copies), "
            f"but only {len(usable)} can take any ({names}), so that {_NO_LEADER}; start more "
            "log-servers, or set cluster.log_copies lower on every node and restart them"
        ]
    zones = sorted({server.zone for server in usable})
    if len(zones) < replication.zones:
        found = ", ".join(repr(zone) for zone in zones)
        return [
            f"each record is to be in {replication.zones} zones before it counts "
            f"(cluster.log_zones), but the log-servers that can take any ({names}) are in "
            f"{len(zones)} ({found}), so that {_NO_LEADER}; start log-servers elsewhere, say where "
            "each is with cluster.zone, or set cluster.log_zones lower on every node and restart "
            "them"
        ]
    return []
