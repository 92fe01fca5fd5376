"""A node without its doors: stores, log, partitions, workers' reception, dispatcher.

Everything it needs of the world comes in as a port, so the same engine runs behind a server's
listeners, inside a test and on simulated disks.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from ..core.clock import Clock
from ..core.errors import PerdureError
from ..core.metrics import Metrics
from ..core.net.peers import Peers
from ..core.pauses import pause
from ..core.random import Random
from ..core.retry import RetryPolicy
from ..core.storage.files import Files, SystemFiles
from ..core.storage.kv import KvStore
from ..core.tasks import TaskScope
from ..ingress.dispatcher import Dispatcher
from ..ingress.forwarding.forwarding import Forwarding
from ..ingress.forwarding.leaders import LeaderLookup
from ..log.local.provider import LocalProvider
from ..log.local.sync_runner import SyncRunner, ThreadSyncRunner
from ..log.local.writer import LogWriter, SyncPolicy
from ..log.log_store import KvLogStore
from ..log.loglet import LogletProvider
from ..log.logs import Logs
from ..log.memory.provider import MemoryProvider
from ..log.placement import Replica
from ..metadata.api import MetadataStore
from ..metadata.local import LocalMetadataStore
from ..partition_processor.handling import HandlingDefaults
from ..partition_processor.invoker.reception import WorkerReception
from ..partition_processor.invoker.silence import SilenceWatch
from ..partition_processor.log_trimmer import LogTrimmer
from ..partition_processor.machine import RecordFailedError
from ..partition_processor.manager import PartitionManager
from ..partition_processor.processor import PartitionProcessor
from ..partition_processor.snapshots.directory import DirectoryRepository
from ..partition_processor.snapshots.manifest import ClusterName
from ..partition_processor.snapshots.service import Snapshots, SnapshotSettings
from .bundle import write_bundle
from .cluster.parts import ClusterParts, disk_name
from .identity import confirm_identity
from .log_keeper import LogKeeper
from .log_reviewer import LogReviewer
from .options import NodeOptions
from .replicated_logs import ReplicatedLogs, replication_of

_log = structlog.get_logger("node")


class NodeEngine:
    """What a node does, apart from listening.

    Attributes:
        manager: the partitions.
        reception: serves each connection of a worker.
        dispatcher: takes requests from front doors.
        forwarding: reaches the partitions that other nodes lead; None where there are none.
        logs: the partitions' logs.
        writer: the log's writer.
        snapshots: of the partitions.
        reviewer: judges how well logs are kept; None where this node is alone, as is `keeper`.
        keeper: looks after where logs are kept.
        failure: why the engine stopped by itself, None while it works.
    """

    def __init__(
        self,
        options: NodeOptions,
        *,
        open_store: Callable[[str], KvStore],
        clock: Clock,
        random: Random,
        metrics: Metrics,
        on_failure: Callable[[PerdureError], None],
        make_sync_runner: Callable[[str], SyncRunner] | None = None,
        files: Files | None = None,
        leaders: LeaderLookup | None = None,
        peers: Peers | None = None,
        cluster: ClusterParts | None = None,
    ) -> None:
        """Build everything; must be called on the event loop's thread, with the loop running.

        Args:
            open_store: opens the store of a name: ``metadata``, ``store`` or ``log``.
            on_failure: called once when the engine cannot go on; nothing is acknowledged any more.
            make_sync_runner: gives what syncs the store of a name beside the loop; a thread each
                unless given.
            files: where snapshots are kept; the system's unless given.
            leaders: who leads which partition in a cluster; None where this node leads them all.
            peers: how the other nodes are reached, for `FORWARDING_SERVICE`; goes with `leaders`.
            cluster: what this node belongs to; None where it is alone.
        """
        self._options = options
        self._cluster = cluster
        self._clock = clock
        self._random = random
        self._on_failure = on_failure
        self.failure: PerdureError | None = None
        self._scope = TaskScope("node", on_failure=self._task_failed)
        self._stores: list[KvStore] = []
        loop = asyncio.get_running_loop()
        if make_sync_runner is None:

            def make_sync_runner(_store: str) -> SyncRunner:
                return ThreadSyncRunner(loop)

        def opened(name: str) -> KvStore:
            store = open_store(name)
            self._stores.append(store)
            return store

        try:
            self._metadata: MetadataStore = (
                LocalMetadataStore(opened("metadata")) if cluster is None else cluster.metadata
            )
            self._partition_store = opened("store")
            self.manager = self._make_manager(cluster, loop)
            self._log_store = opened("log")
            self.writer = LogWriter(
                kv_store=self._log_store,
                loop=loop,
                clock=clock,
                policy=SyncPolicy(options.log.sync_inline),
                metrics=metrics,
                on_turn=self.manager.finish_turn,
                on_failure=self._fail,
                sync_runner=make_sync_runner("log"),
            )
            self.replicated = self._make_replicated(cluster, loop)
        except BaseException:
            self._close_stores()
            raise
        self.reviewer = self._make_reviewer()
        self.logs = self._make_logs(loop)
        self.snapshots = self._make_snapshots(
            loop, make_sync_runner("store"), SystemFiles() if files is None else files
        )
        self.snapshots.wanted_lsn = self.renewable_through
        self._trimmer = self._make_trimmer(loop, make_sync_runner("store"))
        self.keeper = self._make_keeper(loop)
        self._silence = SilenceWatch(self.manager.invoker, loop)
        self.reception = WorkerReception(
            invoker=self.manager.invoker,
            register=self.manager.register,
            node_name=options.node.name,
            cluster=options.node.cluster,
            loop=loop,
            clock=clock,
            nodes=None if cluster is None else cluster.worker_nodes,
        )
        self.forwarding = self._make_forwarding(leaders, peers, loop)
        self.manager.elsewhere = self.forwarding
        self.dispatcher = Dispatcher(
            self.manager,
            clock=clock,
            random=random,
            body_bytes_max=options.limits.body_bytes_max,
            in_flight_max_per_partition=options.limits.in_flight_max_per_partition,
            active_max_per_partition=options.limits.active_max_per_partition,
        )

    def _make_manager(
        self, cluster: ClusterParts | None, loop: asyncio.AbstractEventLoop
    ) -> PartitionManager:
        options = self._options
        count = options.partitions.count if cluster is None else cluster.nodes().partition_count
        return PartitionManager(
            partition_count=count,
            node=options.node.name,
            store=self._partition_store,
            metadata=self._metadata,
            loop=loop,
            clock=self._clock,
            random=self._random,
            defaults=handling_defaults(options),
            scope=self._scope,
            on_failure=self._fail,
            on_parked=self._keep_bundle,
        )

    def _make_forwarding(
        self, leaders: LeaderLookup | None, peers: Peers | None, loop: asyncio.AbstractEventLoop
    ) -> Forwarding | None:
        if leaders is None:
            return None
        assert peers is not None, "whoever knows other nodes must be able to reach them"
        options = self._options
        return Forwarding(
            self.manager,
            node=options.node.name,
            cluster=options.node.cluster,
            leaders=leaders,
            peers=peers,
            loop=loop,
            clock=self._clock,
            random=self._random,
            leader_wait=options.forwarding.leader_wait / 1e9,
            waiting_max=options.forwarding.waiting_max,
            in_flight_max_per_peer=options.forwarding.in_flight_max_per_peer,
            in_flight_max_per_partition=options.limits.in_flight_max_per_partition,
            active_max_per_partition=options.limits.active_max_per_partition,
        )

    def _make_logs(self, loop: asyncio.AbstractEventLoop) -> Logs:
        providers: list[LogletProvider]
        if self.replicated is not None:
            default_kind = self.replicated.provider.kind
            providers = [self.replicated.provider, self._local_provider()]
        else:
            default_kind = self._options.log.provider
            memory = MemoryProvider(
                loop=loop,
                clock=self._clock,
                node=self._options.node.name,
                on_turn=self.manager.finish_turn,
            )
            providers = [self._local_provider(), memory]
        return Logs(
            metadata=self._metadata,
            providers=providers,
            loop=loop,
            default_kind=default_kind,
            on_turn=self.manager.finish_turn,
            elsewhere=None if self.replicated is None else self.replicated.appends.elsewhere,
        )

    def _local_provider(self) -> LocalProvider:
        """What keeps logs on this node's disk, for a cluster in a way that is no other node's."""
        me = None if self._cluster is None else self._cluster.me
        return LocalProvider(
            store=KvLogStore(self._log_store),
            writer=self.writer,
            clock=self._clock,
            node=self._options.node.name,
            disk=None if me is None else Replica(me.name, disk_name(me.id), me.zone),
            generation=0 if self._cluster is None else self._cluster.life,
        )

    def _make_reviewer(self) -> LogReviewer | None:
        if self.replicated is None or self._cluster is None:
            return None
        return LogReviewer(self.replicated.provider, self._cluster)

    def _make_replicated(
        self, cluster: ClusterParts | None, loop: asyncio.AbstractEventLoop
    ) -> ReplicatedLogs | None:
        if cluster is None:
            return None
        return ReplicatedLogs(
            cluster,
            replication=replication_of(self._options.cluster),
            store=self._log_store,
            writer=self.writer,
            loop=loop,
            clock=self._clock,
            random=self._random,
            on_turn=self.manager.finish_turn,
        )

    def _make_keeper(self, loop: asyncio.AbstractEventLoop) -> LogKeeper | None:
        if self.reviewer is None:
            return None
        return LogKeeper(
            self.reviewer,
            opened=self.logs.opened,
            patience_seconds=self._options.cluster.log_repair_after / 1e9,
            loop=loop,
            scope=self._scope,
        )

    def _make_snapshots(
        self, loop: asyncio.AbstractEventLoop, runner: SyncRunner, files: Files
    ) -> Snapshots:
        options = self._options.snapshots
        return Snapshots(
            repository=DirectoryRepository(options.directory, files) if options.directory else None,
            settings=SnapshotSettings(
                interval_records=options.interval_records,
                interval_ns=int(options.interval),
                kept=options.kept,
            ),
            store=self._partition_store,
            node=self._options.node.name,
            loop=loop,
            clock=self._clock,
            random=self._random,
            scope=self._scope,
            runner=runner,
        )

    def _make_trimmer(self, loop: asyncio.AbstractEventLoop, sync_runner: SyncRunner) -> LogTrimmer:
        log_store = self._log_store
        return LogTrimmer(
            self.manager.processors,
            store=self._partition_store,
            sync_runner=sync_runner,
            loop=loop,
            scope=self._scope,
            interval_ns=int(self._options.log.trim_interval),
            keep_records=self._options.log.keep_records,
            archived_lsn=self.archived_lsn,
            wanted_lsn=self.renewable_through,
            on_failure=self._fail,
            reclaim=lambda: log_store.reclaim(b"", b"\xff"),
        )

    def archived_lsn(self, partition: int) -> int | None:
        """The last LSN that snapshots have; None where nothing waits for any."""
        archived_lsn = self.snapshots.archived_lsn(partition)
        if archived_lsn is None and self._cluster is not None:
            # What another node has not applied is nowhere else: without snapshots nothing goes.
            return 0
        return archived_lsn

    def renewable_through(self, processor: PartitionProcessor) -> int:
        """The last LSN that is kept where it should not be, of a log that is led here; else 0."""
        log = processor.log
        if self.replicated is None or log is None or not processor.leading:
            return 0
        return self.replicated.provider.renewable_through(log.log, log.chain)

    async def start(self) -> None:
        """Check whose the stores are, replay, take the lead of every partition.

        Raises PerdureError, before anything was changed if the stores are not this node's.
        """
        options = self._options
        if self._cluster is not None:
            await self.snapshots.open(ClusterName(options.node.cluster, self._cluster.fingerprint))
            await self.manager.start(self.logs, self.snapshots, placement={})
            self._start_drivers()
            return
        identity = await confirm_identity(
            self._metadata,
            base_dir=options.node.base_dir,
            cluster=options.node.cluster,
            node=options.node.name,
            partition_count=options.partitions.count,
            random=self._random,
        )
        await self.snapshots.open(ClusterName(identity.cluster, identity.fingerprint))
        await self.manager.start(self.logs, self.snapshots)
        self._start_drivers()

    def _start_drivers(self) -> None:
        self._silence.start()
        if self.keeper is not None:
            self.keeper.start()
        self._trimmer.start()
        self.snapshots.start(self.manager.processors)

    @property
    def metadata(self) -> MetadataStore:
        """The metadata store of this node or, in a cluster, of all."""
        return self._metadata

    def _fail(self, error: PerdureError) -> None:
        if self.failure is None:
            self.failure = error
            self.logs.fail(error)
            if self.replicated is not None:
                self.replicated.fail(str(error))
            if self.forwarding is not None:
                self.forwarding.close(error)
            self.manager.fail(error)
            self._on_failure(error)

    def _task_failed(self, error: BaseException) -> None:
        if not isinstance(error, PerdureError):
            error = PerdureError(f"a task of the node failed: {error!r}; restart it, report this")
        self._fail(error)

    def _keep_bundle(self, processor: PartitionProcessor, error: RecordFailedError) -> None:
        directory = Path(self._options.node.base_dir) / "bundles"
        try:
            path = write_bundle(directory, processor, error, self._clock)
        except OSError as os_error:
            _log.error("the failed record could not be kept", reason=str(os_error))
        else:
            _log.error("the failed record was kept for inspection", path=str(path))

    async def finish_requests(self) -> None:
        """Take nothing new and wait for what is under way, within the grace. Safe to cancel."""
        self.dispatcher.closing = True
        loop = asyncio.get_running_loop()
        grace_seconds = self._options.limits.stop_grace / 1e9
        deadline = loop.time() + grace_seconds
        if requests := self._in_flight():
            _log.info("waiting for requests under way", requests=requests)
        while (requests := self._in_flight()) and loop.time() < deadline:
            await pause(loop, 0.02)
        if requests:
            # Invocations go on where their partitions are led.
            _log.warning("requests are left", requests=requests, waited_seconds=grace_seconds)

    def _in_flight(self) -> int:
        elsewhere = 0 if self.forwarding is None else len(self.forwarding)
        return self.manager.in_flight() + elsewhere

    def stop(self, error: PerdureError) -> None:
        """Do nothing more; whoever still waits is told `error`. `close` follows."""
        self._silence.stop()
        if self.keeper is not None:
            self.keeper.stop()
        self._trimmer.stop()
        self.snapshots.stop()
        if self.forwarding is not None:
            self.forwarding.close(error)
        self.manager.stop(error)
        self._scope.cancel()

    def close(self) -> None:
        """Let go of the stores; everything acknowledged is durable already."""
        self.writer.close()
        self._close_stores()

    def _close_stores(self) -> None:
        for store in reversed(self._stores):
            try:
                store.close()
            except PerdureError as error:
                _log.error("a store did not close", code=error.code, reason=str(error))
        self._stores.clear()


def handling_defaults(options: NodeOptions) -> HandlingDefaults:
    """How invocations are handled whose handlers say nothing, from the options."""
    retry, retention = options.retry, options.retention
    return HandlingDefaults(
        retry=RetryPolicy(
            initial_interval_ns=int(retry.initial_interval),
            factor=retry.factor,
            interval_max_ns=int(retry.max_interval),
            attempts_max=retry.max_attempts,
            jitter=retry.jitter,
        ),
        pause_when_exhausted=retry.on_max_attempts == "pause",
        inactivity_timeout_ns=int(retry.inactivity_timeout),
        abort_timeout_ns=int(retry.abort_timeout),
        plain_retention_ns=int(retention.plain),
        journal_retention_ns=int(retention.journal),
        idempotency_retention_ns=int(retention.idempotency),
        workflow_retention_ns=int(retention.workflow),
    )
