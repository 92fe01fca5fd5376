"""One node, put together: the only place that builds everything and knows the order."""

import asyncio
from pathlib import Path

import structlog

from ..admin.http import AdminServer
from ..core.clock import Clock, SystemClock
from ..core.errors import PerdureError
from ..core.ids import LogletId
from ..core.loop_lag import LoopLag
from ..core.metrics import Metrics
from ..core.net.grpc import GrpcTransport
from ..core.net.transport import Listener
from ..core.protocol.session import SESSION_SERVICE
from ..core.random import Random, SystemRandom
from ..core.retry import RetryPolicy
from ..core.storage.rocks import RocksStore
from ..ingress.dispatcher import Dispatcher
from ..ingress.errors import NotLeaderError
from ..ingress.grpc import GrpcIngress
from ..ingress.http import HttpIngress
from ..log.local.loglet import LocalLoglet
from ..log.local.writer import LogWriter, SyncPolicy
from ..log.log_store import KvLogStore
from ..log.loglet import CommitListener, Loglet
from ..metadata.local import LocalMetadataStore
from ..partition_processor.invoker.reception import WorkerReception
from ..partition_processor.machine import RecordFailedError
from ..partition_processor.manager import PartitionManager
from ..partition_processor.processor import PartitionProcessor
from ..partition_processor.status import PartitionDetail, PartitionStatus
from .bundle import write_bundle
from .identity import confirm_identity
from .options import NodeOptions

_log = structlog.get_logger("node")


class NodeServer:
    """A node from start to stop. `run` is all of it.

    Start goes from the ground up: stores, identity, log, partitions, workers, front doors; whoever
    may ask something can be answered by then. Stop goes the other way round.
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
        self._base = Path(options.node.base_dir)
        self._stores: list[RocksStore] = []
        self._stop = asyncio.Event()
        self._failure: PerdureError | None = None
        self._writer: LogWriter | None = None
        self._manager: PartitionManager | None = None
        self._dispatcher: Dispatcher | None = None
        self._doors: list[HttpIngress | GrpcIngress | AdminServer] = []
        self._node_listener: Listener | None = None
        self.metrics = Metrics()
        self.addresses: dict[str, str] = {}

    # What the admin part shows ---------------------------------------------------------

    @property
    def node_name(self) -> str:
        """This node's name."""
        return self._options.node.name

    @property
    def cluster(self) -> str:
        """The cluster's name."""
        return self._options.node.cluster

    def partitions(self) -> list[PartitionStatus]:
        """How all partitions are."""
        return [] if self._manager is None else self._manager.partitions()

    def partition(self, partition: int) -> PartitionDetail | None:
        """One partition in full."""
        return None if self._manager is None else self._manager.partition(partition)

    # Life ------------------------------------------------------------------------------

    def request_stop(self) -> None:
        """Have `run` stop in good order; on the loop's thread."""
        self._stop.set()

    async def run(self) -> None:
        """Start, serve until `request_stop` or a failure, stop. Cancelling stops without grace.

        Raises the PerdureError that kept the node from starting or made it stop.
        """
        lag = LoopLag(asyncio.get_running_loop(), self.metrics.event_loop_lagged)
        try:
            await self._start()
            lag.start()
            _log.info("node ready", node=self.node_name, cluster=self.cluster, **self.addresses)
            await self._stop.wait()
            if self._failure is None:
                await self._finish_requests()
        finally:
            lag.stop()
            await self._shut_down()
        if self._failure is not None:
            raise self._failure

    def _fail(self, error: PerdureError) -> None:
        """A failure that the node cannot work with: acknowledge nothing more and stop."""
        if self._failure is None:
            self._failure = error
            _log.error("node stops", code=error.code, reason=str(error))
            if self._manager is not None:
                self._manager.fail(error)
            self._stop.set()

    def _open_store(self, name: str) -> RocksStore:
        store = RocksStore.open(self._base / name)
        self._stores.append(store)
        return store

    async def _start(self) -> None:
        options = self._options
        loop = asyncio.get_running_loop()
        metadata = LocalMetadataStore(self._open_store("metadata"))
        await confirm_identity(
            metadata,
            base_dir=str(self._base),
            cluster=options.node.cluster,
            node=options.node.name,
            partition_count=options.partitions.count,
            random=self._random,
        )
        manager = self._manager = PartitionManager(
            partition_count=options.partitions.count,
            node=options.node.name,
            store=self._open_store("store"),
            metadata=metadata,
            loop=loop,
            clock=self._clock,
            random=self._random,
            policy=retry_policy(options),
            on_failure=self._fail,
            on_parked=self._keep_bundle,
        )
        log_kv = self._open_store("log")
        log_store = KvLogStore(log_kv)
        writer = self._writer = LogWriter(
            kv_store=log_kv,
            log_store=log_store,
            loop=loop,
            clock=self._clock,
            policy=SyncPolicy(options.log.sync_inline),
            metrics=self.metrics,
            on_turn=manager.finish_turn,
            on_failure=self._fail,
        )

        def open_loglet(loglet: LogletId, epoch: int, listener: CommitListener) -> Loglet:
            return LocalLoglet(
                loglet,
                store=log_store,
                writer=writer,
                clock=self._clock,
                epoch=epoch,
                listener=listener,
            )

        await manager.start(open_loglet)
        self.metrics.set_partition_source(manager.partitions)
        await self._open_doors(manager)

    async def _open_doors(self, manager: PartitionManager) -> None:
        options = self._options
        loop = asyncio.get_running_loop()
        reception = WorkerReception(
            invoker=manager.invoker,
            register=manager.register,
            node_name=options.node.name,
            cluster=options.node.cluster,
            loop=loop,
            clock=self._clock,
        )
        self._node_listener = await GrpcTransport().listen(
            options.listen.node, {SESSION_SERVICE: reception.serve}
        )
        self.addresses["node"] = self._node_listener.address
        dispatcher = self._dispatcher = Dispatcher(
            manager,
            clock=self._clock,
            random=self._random,
            body_bytes_max=options.limits.body_bytes_max,
            in_flight_max_per_partition=options.limits.in_flight_max_per_partition,
        )
        http = HttpIngress(dispatcher, body_bytes_max=options.limits.body_bytes_max)
        self._doors.append(http)
        self.addresses["ingress_http"] = await http.start(options.listen.ingress_http)
        grpc = GrpcIngress(dispatcher, body_bytes_max=options.limits.body_bytes_max)
        self._doors.append(grpc)
        self.addresses["ingress_grpc"] = await grpc.start(options.listen.ingress_grpc)
        admin = AdminServer(self, self.metrics)
        self._doors.append(admin)
        self.addresses["admin"] = await admin.start(options.listen.admin)

    def _keep_bundle(self, processor: PartitionProcessor, error: RecordFailedError) -> None:
        try:
            path = write_bundle(self._base / "bundles", processor, error, self._clock)
        except OSError as os_error:
            _log.error("the failed record could not be kept", reason=str(os_error))
        else:
            _log.error("the failed record was kept for inspection", path=str(path))

    async def _finish_requests(self) -> None:
        """Take nothing new and give what is under way the time to be answered."""
        _log.info("node stopping", node=self.node_name)
        assert self._manager is not None
        if self._dispatcher is not None:
            self._dispatcher.closing = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._options.limits.stop_grace / 1e9
        while self._manager.in_flight() and loop.time() < deadline:
            waited = loop.create_future()
            loop.call_later(0.02, waited.set_result, None)
            await waited

    async def _shut_down(self) -> None:
        if self._manager is not None:
            self._manager.stop(NotLeaderError("this node is shutting down: try another one"))
        for door in reversed(self._doors):
            await door.stop()
        if self._node_listener is not None:
            await self._node_listener.close()
        if self._writer is not None:
            self._writer.close()
        for store in reversed(self._stores):
            try:
                store.close()
            except PerdureError as error:
                _log.error("a store did not close", code=error.code, reason=str(error))
        _log.info("node stopped", node=self.node_name)


def retry_policy(options: NodeOptions) -> RetryPolicy:
    """The server's retry policy, from the options."""
    retry = options.retry
    return RetryPolicy(
        initial_interval_ns=int(retry.initial_interval),
        factor=retry.factor,
        interval_max_ns=int(retry.max_interval),
        attempts_max=retry.max_attempts,
        jitter=retry.jitter,
    )
