"""ClusterRuntime: a node's life in its cluster, from finding the metadata to handing over.

It joins before the engine exists and ends after it: first the metadata, then the nodes
configuration, then who lives and where partitions are. The engine gets what it needs as parts.
"""

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable, Collection
from typing import Final, TypeVar, cast

import structlog

from ..core.clock import Clock
from ..core.errors import PerdureError, TransportError
from ..core.ids import PartitionId
from ..core.net.transport import Connection, ConnectionHandler, Transport
from ..core.pauses import pause
from ..core.random import Random
from ..core.retry import RetryPolicy
from ..core.storage.kv import KvStore
from ..core.tasks import TaskScope
from ..core.waiters import Waiters
from ..ingress.forwarding.leaders import LeaderTable
from ..metadata.api import VersionedValue
from ..metadata.nodes import Addresses, NodeConfiguration, Role
from ..metadata.placement import Placement
from ..metadata.quorum import (
    SERVICE,
    Acceptor,
    MetadataServer,
    MetadataServers,
    Proposer,
    QuorumMetadataStore,
)
from ..partition_processor.describing import IN_ORDER, UNFIT, standing
from ..partition_processor.manager import PartitionManager
from .cluster.chains import check_readable
from .cluster.errors import AlreadyProvisionedError
from .cluster.parts import ClusterParts
from .cluster.registry import Joined, NodeRegistry
from .controller.controller import Controller
from .controller.watch import ClusterWatch
from .membership.membership import Membership, answers_as
from .membership.messages import MEMBERSHIP_SERVICE
from .options import NodeOptions, advertised, metadata_servers, roles_of

RETRY: Final = RetryPolicy(100_000_000, interval_max_ns=1_000_000_000, attempts_max=None)
"""Between tries to reach a metadata store that is not there yet."""

PATIENCE_SECONDS: Final = 5.0
"""After so long of trying, say what is waited for; and again after as long."""

TAKEN_OVER_SECONDS: Final = 2.0
"""How long a node that stops waits for others to lead what was placed there."""

TAKEN_OVER_LOOK_SECONDS: Final = 0.01

LOOK_SECONDS: Final = 1.0
"""How often it is seen to that what is placed here as leader leads."""

FINGERPRINT_BITS: Final = 64

_log = structlog.get_logger("cluster")

T = TypeVar("T")


class ClusterRuntime:
    """One node in its cluster.

    Attributes:
        metadata: the store of the cluster.
        servers: its servers, for operators.
        roles: what this node does.
        metadata_server: this node's own; None where it is none of them.
        registry: the nodes configuration in it.
        leaders: who is to lead which partition.
        waits_for: what keeps it from joining, as it was last seen; empty while nothing does.
        me: this node, once it has joined; so are `membership`, `watch` and `controller`.
    """

    me: NodeConfiguration
    membership: Membership
    watch: ClusterWatch
    controller: Controller

    def __init__(
        self,
        options: NodeOptions,
        *,
        transport: Transport,
        metadata_disk: Callable[[], KvStore],
        loop: AbstractEventLoop,
        clock: Clock,
        random: Random,
        on_failure: Callable[[PerdureError], None],
    ) -> None:
        """Prepare; `join` follows once the node listens with `handlers`.

        Args:
            metadata_disk: opens the store of this node's metadata server, if it is one.
            on_failure: this process must stop: its node was started again, or removed.
        """
        self._options = options
        self._transport = transport
        self._loop = loop
        self._clock = clock
        self._random = random
        self._on_failure = on_failure
        self._scope = TaskScope("cluster", on_failure=self._task_failed)
        name = options.node.name
        self._addresses = metadata_servers(options.cluster)
        self._services: dict[str, ConnectionHandler] = {}
        self.roles = _roles_of(options, self._addresses)
        if "metadata-server" in self.roles:
            acceptor = Acceptor(metadata_disk(), name=name, random=random)
            self.metadata_server: MetadataServer | None = MetadataServer(acceptor, name=name)
            self._services[SERVICE] = self.metadata_server.handle
        else:
            self.metadata_server = None
        self._proposer = Proposer(transport, self._addresses, random=random, sender=name)
        self.servers = MetadataServers(self._proposer)
        self.metadata = QuorumMetadataStore(self._proposer)
        self.registry = NodeRegistry(self.metadata, random)
        self.leaders = LeaderTable()
        self.joined = False
        self._joined_at = 0.0
        self.waits_for = ""
        self._manager: PartitionManager | None = None
        self._on_look: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._idle_leads: set[int] = set()
        self._placed = Waiters()

    # Doors ---------------------------------------------------------------------------------------

    def handlers(self, names: tuple[str, ...]) -> dict[str, ConnectionHandler]:
        """What the node's listener serves: these services and the cluster's own.

        Those that are not provided yet end each connection; whoever dials tries again.
        """

        def handler(name: str) -> ConnectionHandler:
            async def serve(connection: Connection) -> None:
                ready = self._services.get(name)
                if ready is not None:
                    await ready(connection)

            return serve

        return {name: handler(name) for name in (*names, SERVICE, MEMBERSHIP_SERVICE)}

    def provide(self, name: str, handler: ConnectionHandler | None) -> None:
        """Serve a service from now on; nothing where there is no handler."""
        if handler is not None:
            self._services[name] = handler

    # Joining -------------------------------------------------------------------------------------

    async def join(self, disk: KvStore) -> ClusterParts:
        """Become a node of the cluster; waits for as long as there is none to be reached.

        Raises a ClusterRefusedError, StorageError. Cancelling leaves open whether it has joined.
        """
        if self._options.cluster.provision:
            await self._patiently("the metadata servers to set the cluster up", self._provision)
        joined = await self._patiently("the cluster's metadata", lambda: self._join(disk))
        self.me = joined.me
        self.watch = ClusterWatch(
            metadata=self.metadata,
            membership=lambda: self.membership,
            loop=self._loop,
            scope=self._scope,
            on_placement=self._use_placement,
            on_schema=self._use_schema,
        )
        self.membership = Membership(
            joined.me,
            nodes_version=joined.current.version,
            nodes=joined.current.nodes,
            transport=self._transport,
            loop=self._loop,
            clock=self._clock,
            random=self._random,
            scope=self._scope,
            on_newer=self.watch.newer,
            on_ended=self._on_failure,
        )
        self.controller = Controller(
            metadata=self.metadata,
            membership=self.membership,
            loop=self._loop,
            clock=self._clock,
            scope=self._scope,
            on_placement=self.watch.use,
            applied=self._applied,
            unfit=self.unfit,
        )
        self.joined = True
        self._joined_at = self._loop.time()
        self.provide(MEMBERSHIP_SERVICE, self.membership.serve)
        membership = self.membership
        return ClusterParts(
            me=joined.me,
            metadata=self.metadata,
            nodes=lambda: membership.nodes,
            nodes_version=lambda: membership.nodes_version,
            alive=membership.alive,
            leaders=self.leaders,
            transport=self._transport,
        )

    @property
    def joined_seconds(self) -> float:
        """How long ago this node has joined."""
        return self._loop.time() - self._joined_at

    async def _patiently(self, what: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do it again until it succeeds or somebody has to change something."""
        failures = 0
        said = self._loop.time()
        while True:
            try:
                return await work()
            except PerdureError as error:
                if not (error.retryable or isinstance(error, TransportError)):
                    raise
                self.waits_for = f"{what} ({error.code}: {error.message})"
                if self._loop.time() - said >= PATIENCE_SECONDS:
                    said = self._loop.time()
                    _log.warning(f"waiting for {what}", code=error.code, reason=str(error))
            failures += 1
            await pause(self._loop, RETRY.wait_seconds(failures, self._random))

    async def _provision(self) -> None:
        options = self._options
        fingerprint = f"{self._random.bits(FINGERPRINT_BITS):016x}"
        if await self.servers.provision(self._addresses, fingerprint):
            _log.info("metadata servers set up", servers=len(self._addresses))
        try:
            await self.registry.provision(
                options.node.cluster,
                partition_count=options.partitions.count,
                replicas=options.cluster.replicas,
            )
        except AlreadyProvisionedError:
            return
        _log.info("cluster set up", cluster=options.node.cluster)

    async def _join(self, disk: KvStore) -> Joined:
        options = self._options
        listen = options.listen
        if (await self.registry.read()).nodes.named(options.node.name) is None:
            await check_readable(self.metadata)
        return await self.registry.join(
            disk,
            cluster=options.node.cluster,
            name=options.node.name,
            addresses=Addresses(
                node=advertised(listen, "node"),
                ingress_http=advertised(listen, "ingress_http"),
                ingress_grpc=advertised(listen, "ingress_grpc"),
                admin=advertised(listen, "admin"),
            ),
            roles=self.roles,
            zone=options.cluster.zone,
            accept_loss=options.cluster.accept_storage_loss,
            ask_holder=self._answers,
        )

    async def _answers(self, holder: NodeConfiguration) -> bool:
        current = await self.registry.read()
        return await answers_as(
            holder, fingerprint=current.nodes.fingerprint, transport=self._transport
        )

    # Placement -----------------------------------------------------------------------------------

    def start(self, manager: PartitionManager, on_look: Callable[[], None] | None = None) -> None:
        """Take part, and have the partitions be what they are placed as.

        `on_look` is called every second, for what follows from the nodes configuration.
        """
        self._manager = manager
        self._on_look = on_look
        if self.watch.placement is not None:
            self._use_placement(self.watch.placement)
        membership = self.membership
        membership.schema_version = lambda: manager.schema_version
        self.membership.own_applied = self._own_applied
        self.membership.own_stopped = self._own_stopped
        self.membership.own_latest_ns = manager.latest_record_ns
        manager.latest_elsewhere_ns = lambda: membership.latest_ns
        self.membership.start()
        self.watch.start()
        if "admin" in self.me.roles:
            self.controller.start()
        self._look()

    def _applied(self) -> dict[tuple[int, int], int]:
        found = self.membership.applied()
        for partition, lsn in self._own_applied():
            found[partition, self.me.id] = lsn
        return found

    def unfit(self) -> frozenset[tuple[int, int]]:
        """The (partition, node) of copies that must not lead, or have stopped for good."""
        return frozenset(place for place, (_, why) in self.stopped().items() if why == UNFIT)

    def stopped(self) -> dict[tuple[int, int], tuple[int, int]]:
        """The copies that have stopped anywhere, as `Membership.stopped` has those of others."""
        found = self.membership.stopped()
        for partition, lsn, why in self._own_stopped():
            found[partition, self.me.id] = lsn, why
        return found

    def _own_stopped(self) -> tuple[tuple[int, int, int], ...]:
        if self._manager is None:
            return ()
        return tuple(
            (processor.partition, processor.written_lsn, why)
            for processor in self._manager.processors
            if (why := standing(processor)) != IN_ORDER
        )

    def _own_applied(self) -> tuple[tuple[int, int], ...]:
        """How far the partitions are that this node keeps."""
        if self._manager is None:
            return ()
        return tuple(
            (processor.partition, processor.written_lsn)
            for processor in self._manager.processors
            if processor.role not in ("absent", "stopped")
        )

    def _use_schema(self, stored: VersionedValue) -> None:
        assert self._manager is not None, "it is fetched after the start"
        self._manager.use_schema(stored)

    def _use_placement(self, placement: Placement) -> None:
        if self._manager is None:
            return  # An operator has moved something before the start, which looks itself.
        me = self.me.id
        self._idle_leads.clear()
        _log.debug(
            "partitions placed",
            version=self.watch.placement_version,
            leaders=[item.leader for item in placement.partitions],
        )
        self._manager.apply_placement(
            {
                partition: "leader"
                if item.leader == me
                else "follower"
                if me in item.replicas
                else "absent"
                for partition, item in enumerate(placement.partitions)
            }
        )
        self._tell_leaders(placement)
        self._placed.wake()

    def _tell_leaders(self, placement: Placement) -> None:
        for partition, item in enumerate(placement.partitions):
            leader = self.membership.nodes.node(item.leader)
            self.leaders.set(partition, None if leader is None else leader.name)

    def others_alive(self) -> list[str]:
        """The names of the other nodes that are not dead, by number; once it has joined."""
        membership = self.membership
        alive = set(membership.alive())
        return [
            node.name
            for node in membership.nodes.nodes
            if node.id in alive and node.id != self.me.id
        ]

    def _look(self) -> None:
        """See to it that partitions placed here lead, also after another node has led meanwhile."""
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)
        placement, manager = self.watch.placement, self._manager
        if placement is None or manager is None:
            return
        # The nodes configuration may have come after the placement that names one of them.
        self._tell_leaders(placement)
        if self._on_look is not None:
            self._on_look()
        idle = {
            partition
            for partition in placement.led_by(self.me.id)
            if manager.processors[partition].role == "follower"
        }
        # Twice in a row: whoever is on its way to the lead follows for a moment as well.
        again = idle & self._idle_leads
        self._idle_leads = idle - again
        if again:
            manager.apply_placement(dict.fromkeys(again, "leader"))

    # The end -------------------------------------------------------------------------------------

    async def hand_over(self, grace_seconds: float) -> None:
        """Tell the others that this node stops, and wait until they lead what it has led.

        At most for the grace, and not at all where nobody else could lead. Safe to cancel.
        """
        if not self.joined or self._manager is None:
            return
        led = [item for item in self._manager.processors if item.role == "leader"]
        epochs = {item.partition: item.epoch for item in led}
        self.membership.leave()
        if led:
            _log.info("waiting for other nodes to lead", partitions=sorted(epochs))
        deadline = self._loop.time() + grace_seconds
        while (left := deadline - self._loop.time()) > 0:
            others = [node for node in self.membership.view.steady() if node != self.me.id]
            placement = self.watch.placement
            if not others or placement is None:
                return
            if not placement.led_by(self.me.id):
                await self._wait_for_leaders(epochs, min(left, TAKEN_OVER_SECONDS))
                return
            await self._placed.wait(min(left, LOOK_SECONDS))
        _log.warning("leads are given up without a new leader", waited_seconds=grace_seconds)

    async def _wait_for_leaders(self, epochs: dict[PartitionId, int], seconds: float) -> None:
        """Go on serving until others have announced in the logs that they lead.

        They have yet to hear of it, and need this node's answers to come to know of it soon.
        """
        assert self._manager is not None
        processors = self._manager.processors
        deadline = self._loop.time() + seconds
        while waiting := [
            partition
            for partition, epoch in epochs.items()
            if processors[partition].role == "follower"
            and processors[partition].status().leader_epoch <= epoch
        ]:
            if self._loop.time() >= deadline:
                _log.warning("no other node was seen to lead", partitions=sorted(waiting))
                return
            await pause(self._loop, TAKEN_OVER_LOOK_SECONDS)

    def stop(self) -> None:
        """Take part no more; `close` follows."""
        if self._timer is not None:
            self._timer.cancel()
        if self.joined:
            self.controller.stop()
            self.watch.stop()
            self.membership.stop()
        if self.metadata_server is not None:
            self.metadata_server.stop()

    async def close(self) -> None:
        """End all connections. Cancelling is safe."""
        await self.metadata.close()
        await self._scope.close()

    def _task_failed(self, failure: BaseException) -> None:
        if not isinstance(failure, PerdureError):
            failure = PerdureError(
                f"a task of the cluster failed: {failure!r}; restart the node and report this"
            )
        self._on_failure(failure)


def _roles_of(options: NodeOptions, metadata_addresses: Collection[str]) -> tuple[Role, ...]:
    """What this node does: it keeps metadata only where others would look for it."""
    serves = advertised(options.listen, "node") in metadata_addresses
    return tuple(
        cast("Role", role)
        for role in roles_of(options.cluster)
        if serves or role != "metadata-server"
    )
