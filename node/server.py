"""A node as a server: the engine behind its listeners, from start to stop."""

import asyncio
from pathlib import Path

import structlog

from ..admin.http import AdminServer
from ..core.clock import Clock, SystemClock
from ..core.errors import AddressInUseError, PerdureError
from ..core.loop_lag import LoopLag
from ..core.metrics import Metrics
from ..core.net.choice import make_transport
from ..core.net.transport import Listener
from ..core.protocol.session import SESSION_SERVICE
from ..core.random import Random, SystemRandom
from ..core.storage.kv import KvStore
from ..core.storage.rocks import Profile, RocksStore
from ..ingress.errors import NotLeaderError
from ..ingress.grpc import GrpcIngress
from ..ingress.http import HttpIngress
from .admin_view import NodeView
from .engine import NodeEngine
from .options import NodeOptions

_log = structlog.get_logger("node")


class NodeServer:
    """A node from start to stop. `run` is all of it.

    Start goes from the ground up: whoever may ask something can be answered by then. Stop goes the
    other way round.

    Attributes:
        ready: set once everything listens.
        addresses: where each door listens, by its name: ``node``, ``ingress_http``,
            ``ingress_grpc``, ``admin``.
    """

    def __init__(
        self,
        options: NodeOptions,
        *,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        """Take the options; nothing is opened before `run`."""
        self._options = options
        self._clock = clock or SystemClock()
        self._random = random or SystemRandom()
        self._stop = asyncio.Event()
        self.ready = asyncio.Event()
        self._engine: NodeEngine | None = None
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
            engine = self._engine = NodeEngine(
                self._options,
                open_store=self._open_store,
                clock=self._clock,
                random=self._random,
                metrics=self.metrics,
                on_failure=self._fail,
            )
            await engine.start()
            if engine.failure is not None:
                raise engine.failure
            self.metrics.set_partition_source(engine.manager.partitions)
            self.metrics.set_log_source(engine.logs.opened)
            self.metrics.set_snapshot_source(
                engine.snapshots.figures, lambda: engine.snapshots.failures
            )
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
                await engine.finish_requests()
        finally:
            lag.stop()
            await self._shut_down()
        if engine.failure is not None:
            raise engine.failure

    def _open_store(self, name: str) -> KvStore:
        profile: Profile = "log" if name == "log" else "state"
        return RocksStore.open(Path(self._options.node.base_dir) / name, profile=profile)

    def _fail(self, error: PerdureError) -> None:
        _log.error("node stops", code=error.code, reason=str(error))
        self._stop.set()

    async def _open_doors(self, engine: NodeEngine) -> None:
        listen = self._options.listen
        body_bytes_max = self._options.limits.body_bytes_max
        try:
            self._node_listener = await make_transport(listen.node_transport).listen(
                listen.node, {SESSION_SERVICE: engine.reception.serve}
            )
        except AddressInUseError as error:
            # A transport does not know the option that its address came from.
            raise AddressInUseError(
                f"{error.message} with --set listen.node=HOST:PORT (port 0 takes any free one)"
            ) from None
        self.addresses["node"] = self._node_listener.address
        http = HttpIngress(engine.dispatcher, body_bytes_max=body_bytes_max)
        grpc = GrpcIngress(engine.dispatcher, body_bytes_max=body_bytes_max)
        node = self._options.node
        view = NodeView(engine, clock=self._clock, node_name=node.name, cluster=node.cluster)
        admin = AdminServer(view, self.metrics)
        for name, door, address in (
            ("ingress_http", http, listen.ingress_http),
            ("ingress_grpc", grpc, listen.ingress_grpc),
            ("admin", admin, listen.admin),
        ):
            self._doors.append(door)
            self.addresses[name] = await door.start(address)

    async def _shut_down(self) -> None:
        engine = self._engine
        if engine is not None:
            engine.stop(NotLeaderError("this node is shutting down: try another one"))
        for door in reversed(self._doors):
            await door.stop()
        if self._node_listener is not None:
            await self._node_listener.close()
        if engine is not None:
            engine.close()
        if self.ready.is_set():
            _log.info("node stopped", name=self._options.node.name)
