"""A node as a server: the engine behind its listeners, from start to stop."""

import asyncio
from pathlib import Path
from typing import Final

import structlog

from ..admin.http import AdminServer, peer_routes
from ..admin.peers import ADMIN_SERVICE, PeerAnswers, PeerAsker
from ..core.clock import Clock, SystemClock
from ..core.errors import AddressInUseError, PerdureError
from ..core.loop_lag import LoopLag
from ..core.metrics import Metrics
from ..core.net.choice import make_node_transport
from ..core.net.peers import Peers, introduced
from ..core.net.transport import ConnectionHandler, Listener
from ..core.protocol.session import SESSION_SERVICE
from ..core.random import Random, SystemRandom
from ..core.storage.kv import KvStore
from ..core.storage.rocks import Profile, RocksStore
from ..core.tasks import TaskScope
from ..ingress.errors import NotLeaderError
from ..ingress.forwarding.frames import FORWARDING_SERVICE
from ..ingress.grpc import FrontDoors, GrpcIngress
from ..ingress.http import HttpIngress
from .admin_view import NodeView
from .cluster.parts import ClusterParts
from .cluster_runtime import ClusterRuntime
from .cluster_view import JoinedClusterView
from .engine import NodeEngine
from .front_doors import front_doors
from .identity import check_base_dir
from .log_appends import APPEND_SERVICE
from .options import NodeOptions, metadata_servers
from .ports import NodePorts
from .replicated_logs import LOG_SERVICE, ORDERING_SERVICE, replication_of

CLUSTER_SERVICES: Final = (
    SESSION_SERVICE,
    LOG_SERVICE,
    ORDERING_SERVICE,
    APPEND_SERVICE,
    FORWARDING_SERVICE,
    ADMIN_SERVICE,
)
"""What a node of a cluster serves other nodes and workers, beside what the cluster itself needs."""

LAST_WORDS_SECONDS: Final = 0.05
"""How long what is queued to workers and other nodes may take to leave at the end.

Their connections would never end by themselves."""

METADATA_SERVER: Final = "metadata-server"
"""Where a node of a cluster keeps its share of the cluster's metadata."""

_log = structlog.get_logger("node")


class NodeServer:
    """A node from start to stop. `run` is all of it.

    Start goes from the ground up: whoever may ask something can be answered by then. Stop goes the
    other way round.

    Attributes:
        ready: set once everything listens.
        addresses: where each door listens, by its name: ``node``, ``ingress_http``,
            ``ingress_grpc``, ``admin``.
        cluster: what the node belongs to, None for one that is alone.
    """

    def __init__(
        self,
        options: NodeOptions,
        *,
        clock: Clock | None = None,
        random: Random | None = None,
        ports: NodePorts | None = None,
    ) -> None:
        """Take the options; nothing is opened before `run`."""
        self._options = options
        self._ports = ports or NodePorts()
        transport = options.listen.node_transport
        self._transport = self._ports.transport or make_node_transport(transport)
        self._clock = clock or SystemClock()
        self._random = random or SystemRandom()
        self._stop = asyncio.Event()
        self.ready = asyncio.Event()
        self._engine: NodeEngine | None = None
        self._failure: PerdureError | None = None
        self._stores: dict[str, KvStore] = {}
        self._peers: Peers | None = None
        self._admin_peers: Peers | None = None
        self.cluster: ClusterRuntime | None = None
        self._view: NodeView | None = None
        self._doors: list[HttpIngress | GrpcIngress | AdminServer] = []
        self._node_listener: Listener | None = None
        self.metrics = Metrics()
        self.addresses: dict[str, str] = {}

    # Life ------------------------------------------------------------------------------

    def request_stop(self) -> None:
        """Have `run` stop in good order; on the loop's thread."""
        self._stop.set()

    async def run(self) -> None:
        """Start, serve until `request_stop` or a failure, stop. Cancelling stops without grace.

        Raises the PerdureError that kept the node from starting or made it stop.
        """
        lag = LoopLag(asyncio.get_running_loop(), self.metrics.event_loop_lagged)
        engine: NodeEngine | None = None
        try:
            parts = await self._join_cluster()
            engine = self._engine = self._make_engine(parts)
            await engine.start()
            if engine.failure is not None:
                raise engine.failure
            if self.cluster is not None:
                self._provide(engine, self.cluster)
                self.cluster.start(engine.manager, engine.reception.look_at_nodes)
            self._set_metrics(engine)
            if self._ports.doors:
                await self._open_doors(engine)
            lag.start()
            self.ready.set()
            _log.info(
                "node ready",
                name=self._options.node.name,
                cluster=self._options.node.cluster,
                **{f"listen_{door}": address for door, address in self.addresses.items()},
            )
            await self._stop.wait()
            if engine.failure is None:
                _log.info("node stopping", name=self._options.node.name)
                if self.cluster is not None:
                    await self.cluster.hand_over(self._options.limits.stop_grace / 1e9)
                await engine.finish_requests()
        finally:
            lag.stop()
            await self._shut_down()
        failure = engine.failure or self._failure
        if failure is not None:
            raise failure

    def _set_metrics(self, engine: NodeEngine) -> None:
        """Have scrapes be told how everything is."""
        metrics = self.metrics
        metrics.set_partition_source(engine.manager.partitions)
        metrics.set_log_source(engine.logs.opened)
        metrics.set_snapshot_source(engine.snapshots.figures, lambda: engine.snapshots.failures)
        if engine.replicated is not None and engine.replicated.server is not None:
            metrics.set_log_server_source(engine.replicated.server.figures)
        if self.cluster is not None and self.cluster.metadata_server is not None:
            metrics.set_metadata_server_source(self.cluster.metadata_server.acceptor.figures)

    def _make_engine(self, parts: ClusterParts | None) -> NodeEngine:
        leaders = peers = None
        if self.cluster is not None and parts is not None:
            leaders = self.cluster.leaders
            peers = self._peers = self._peers_for(FORWARDING_SERVICE, parts)
            self._admin_peers = self._peers_for(ADMIN_SERVICE, parts)
        return NodeEngine(
            self._options,
            open_store=self._open_store,
            clock=self._clock,
            random=self._random,
            metrics=self.metrics,
            on_failure=self._fail,
            make_sync_runner=self._ports.make_sync_runner,
            files=self._ports.files,
            leaders=leaders,
            peers=peers,
            cluster=parts,
        )

    def _peers_for(self, service: str, parts: ClusterParts) -> Peers:
        return Peers(
            transport=parts.transport,
            service=service,
            cluster=parts.fingerprint,
            node=parts.me.name,
            generation=parts.life,
            address_of=parts.address_of,
            loop=asyncio.get_running_loop(),
            random=self._random,
        )

    async def _join_cluster(self) -> ClusterParts | None:
        """Listen, and become a node of the cluster; None for a node that is alone.

        A stop that is asked for meanwhile ends the start with NotLeaderError.
        """
        options = self._options
        base_dir = Path(options.node.base_dir)
        alone = not metadata_servers(options.cluster)
        if (base_dir / ("log" if alone else "metadata")).exists():
            check_base_dir(base_dir, alone=alone)
        if alone:
            return None
        cluster = self.cluster = ClusterRuntime(
            options,
            transport=self._transport,
            metadata_disk=lambda: self._open_store(METADATA_SERVER),
            loop=asyncio.get_running_loop(),
            clock=self._clock,
            random=self._random,
            on_failure=self._fail,
        )
        await self._listen(cluster.handlers(CLUSTER_SERVICES))
        if self._ports.doors:
            await self._open_admin(None)
        async with TaskScope("start") as scope:
            joining = scope.spawn(cluster.join(self._open_store("log")), name="join")
            stopping = scope.spawn(self._stop.wait(), name="stop")
            await asyncio.wait((joining, stopping), return_when=asyncio.FIRST_COMPLETED)
            stopped = not joining.done()
            scope.cancel()
        if stopped:
            raise NotLeaderError("this node was stopped before it had joined its cluster")
        return joining.result()

    def _provide(self, engine: NodeEngine, cluster: ClusterRuntime) -> None:
        """Serve other nodes and workers."""
        cluster.provide(SESSION_SERVICE, engine.reception.serve)
        assert engine.replicated is not None
        cluster.provide(LOG_SERVICE, engine.replicated.serve)
        cluster.provide(ORDERING_SERVICE, engine.replicated.serve_sequencers)
        cluster.provide(APPEND_SERVICE, engine.replicated.appends.serve(engine.logs))
        assert engine.forwarding is not None
        assert self._peers is not None
        cluster.provide(FORWARDING_SERVICE, introduced(self._peers.me, engine.forwarding.serve))
        if self._view is not None:
            answers = PeerAnswers(peer_routes(self._view))
            cluster.provide(ADMIN_SERVICE, introduced(self._peers.me, answers.serve))

    def _open_store(self, name: str) -> KvStore:
        """Open a store; a node that joins has opened its log's before its engine does."""
        store = self._stores.get(name)
        if store is None:
            open_store = self._ports.open_store or self._open_rocks_store
            store = self._stores[name] = open_store(name)
        return store

    def _open_rocks_store(self, name: str) -> KvStore:
        profile: Profile = "log" if name == "log" else "state"
        return RocksStore.open(Path(self._options.node.base_dir) / name, profile=profile)

    def _fail(self, error: PerdureError) -> None:
        self._failure = self._failure or error
        _log.error("node stops", code=error.code, reason=str(error))
        self._stop.set()

    async def _listen(self, services: dict[str, ConnectionHandler]) -> None:
        listen = self._options.listen
        try:
            self._node_listener = await self._transport.listen(listen.node, services)
        except AddressInUseError as error:
            # A transport does not know the option that its address came from.
            raise AddressInUseError(
                f"{error.message} with --set listen.node=HOST:PORT (port 0 takes any free one)"
            ) from None
        self.addresses["node"] = self._node_listener.address

    async def _open_doors(self, engine: NodeEngine) -> None:
        listen = self._options.listen
        body_bytes_max = self._options.limits.body_bytes_max
        if self._node_listener is None:
            await self._listen({SESSION_SERVICE: engine.reception.serve})
        http = HttpIngress(engine.dispatcher, body_bytes_max=body_bytes_max)
        grpc = GrpcIngress(
            engine.dispatcher, body_bytes_max=body_bytes_max, front_doors=self._front_doors
        )
        if self.cluster is not None:
            self.cluster.membership.on_change(lambda _view: grpc.tell_front_doors())
        for name, door, address in (
            ("ingress_http", http, listen.ingress_http),
            ("ingress_grpc", grpc, listen.ingress_grpc),
        ):
            self._doors.append(door)
            self.addresses[name] = await door.start(address)
        if self._view is None:
            await self._open_admin(engine)
        else:
            self._view.attach(engine, self._other_nodes())

    def _front_doors(self) -> FrontDoors | None:
        if self.cluster is None:
            return None
        membership = self.cluster.membership
        return front_doors(membership.nodes, membership.view.steady())

    def _other_nodes(self) -> PeerAsker:
        assert self.cluster is not None
        assert self._admin_peers is not None
        return PeerAsker(
            self._admin_peers,
            me=self._options.node.name,
            leader=self.cluster.leaders.leader,
            alive=self.cluster.others_alive,
            loop=asyncio.get_running_loop(),
        )

    async def _open_admin(self, engine: NodeEngine | None) -> None:
        """Let operators look; before there is an engine, at what keeps the node from joining."""
        node = self._options.node
        self._view = NodeView(
            engine,
            clock=self._clock,
            node_name=node.name,
            cluster=node.cluster,
            cluster_view=self._cluster_view(),
            addresses=self.addresses,
        )
        admin = AdminServer(self._view, self.metrics)
        self._doors.append(admin)
        self.addresses["admin"] = await admin.start(self._options.listen.admin)

    def _log_warnings(self) -> list[str]:
        engine = self._engine
        if engine is None or engine.replicated is None or engine.keeper is None:
            return []
        return [*engine.replicated.warnings(), *engine.keeper.warnings()]

    def _cluster_view(self) -> JoinedClusterView | None:
        cluster = self.cluster
        if cluster is None:
            return None
        return JoinedClusterView(
            lambda: cluster if cluster.joined else None,
            lambda: [] if self._engine is None else self._engine.manager.partitions(),
            log_warnings=self._log_warnings,
            replication=replication_of(self._options.cluster),
            name=self._options.node.name,
            waits_for=lambda: cluster.waits_for,
        )

    async def _shut_down(self) -> None:
        engine = self._engine
        loop = asyncio.get_running_loop()
        began = loop.time()
        if engine is not None:
            engine.stop(NotLeaderError("this node is shutting down: try another one"))
        for door in reversed(self._doors):
            await door.stop()
        if self.cluster is not None:
            self.cluster.stop()
            for peers in (self._admin_peers, self._peers):
                if peers is not None:
                    await peers.close()
            if engine is not None and engine.replicated is not None:
                await engine.replicated.close()
        if self._node_listener is not None:
            await self._node_listener.close(LAST_WORDS_SECONDS)
        if self.cluster is not None:
            await self.cluster.close()
        if engine is not None:
            engine.close()
        for store in self._stores.values():
            store.close()
        if self.ready.is_set():
            seconds = round(loop.time() - began, 3)
            _log.info("node stopped", name=self._options.node.name, closed_in_seconds=seconds)
