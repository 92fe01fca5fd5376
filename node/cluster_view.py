"""The cluster that a node has joined, as admin REST looks at it and acts on it."""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

import msgspec

from ..admin.cluster import ClusterStatus, NodeRow, PartitionRow
from ..admin.errors import ClusterNotJoinedError
from ..log.replicated.provider import Replication
from ..metadata.api import MetadataStore, VersionedValue
from ..metadata.nodes import NodeConfiguration, NodesConfiguration
from ..metadata.placement import PLACEMENT_KEY, Placement, decode_placement
from ..metadata.quorum import MembersReport, MetadataServers
from ..metadata.quorum.configuration import quorum_of
from ..partition_processor.describing import PARKED
from ..partition_processor.status import PartitionStatus, StoppedCopy
from .cluster.chains import read_chains
from .cluster.changes import named_node, remove, set_drained
from .cluster.errors import NodeChangeError
from .cluster.registry import NodeRegistry
from .cluster.removal import check_dead, check_nodesets, check_removal
from .cluster_rows import node_row, partition_rows, stopped_copies
from .controller.controller import Controller
from .controller.planner import plan
from .controller.sketch import Facts
from .controller.watch import ClusterWatch
from .draining import check_drain
from .membership.clocks import clock_warnings
from .membership.membership import Membership
from .membership.view import MembershipView

SINGLE_COPIES: Final = Replication(nodes=1)
UNPLACED_SECONDS: Final = 10.0
"""A cluster that is new has places for its partitions long before."""

Statuses = Callable[[], list[PartitionStatus]]
"""The partitions of this node, by number."""


class RunningCluster(Protocol):
    """What is needed of a cluster that the node has joined."""

    @property
    def me(self) -> NodeConfiguration:
        """This node."""
        ...

    @property
    def registry(self) -> NodeRegistry:
        """The nodes configuration."""
        ...

    @property
    def membership(self) -> Membership:
        """Who lives."""
        ...

    @property
    def controller(self) -> Controller:
        """Who decides where partitions are."""
        ...

    @property
    def watch(self) -> ClusterWatch:
        """The newest placement."""
        ...

    @property
    def servers(self) -> MetadataServers:
        """The list of metadata servers."""
        ...

    @property
    def metadata(self) -> MetadataStore:
        """The store that all nodes share."""
        ...

    def stopped(self) -> dict[tuple[int, int], tuple[int, int]]:
        """The copies that have stopped: by (partition, node), last applied LSN and why."""
        ...

    def unfit(self) -> frozenset[tuple[int, int]]:
        """Those of them that are not to be gone on from."""
        ...

    @property
    def joined_seconds(self) -> float:
        """How long ago this node has joined."""
        ...


class JoinedClusterView:
    """A `ClusterView` of the cluster that this node belongs to."""

    def __init__(
        self,
        cluster: Callable[[], RunningCluster | None],
        statuses: Statuses,
        *,
        log_warnings: Callable[[], list[str]] = list,
        replication: Replication = SINGLE_COPIES,
        name: str,
        waits_for: Callable[[], str],
    ) -> None:
        """Take where the cluster is found: None while the node has not joined.

        Args:
            log_warnings: what is wrong with how the logs are kept that this node orders.
            replication: how logs are kept, by the options of this node.
            name: of this node.
            waits_for: what keeps it from joining, empty while nothing is known to.
        """
        self._find = cluster
        self._statuses = statuses
        self._log_warnings = log_warnings
        self._replication = replication
        self._name = name
        self._waits_for = waits_for

    async def status(self) -> ClusterStatus:
        """See `ClusterView`."""
        running = self._joined()
        nodes, view = running.membership.nodes, running.membership.view
        placement = running.watch.placement
        ahead_ns = {**running.membership.clocks_ahead_ns(), running.me.id: 0}
        return ClusterStatus(
            cluster=nodes.cluster,
            fingerprint=nodes.fingerprint,
            me=running.me.name,
            replicas=nodes.replicas,
            nodes=[node_row(node, view, ahead_ns.get(node.id)) for node in nodes.nodes],
            partitions=partition_rows(nodes, placement, self._statuses(), running.stopped()),
            warnings=[
                *_warnings(running, nodes, view, placement),
                *clock_warnings(
                    {node.name: ahead_ns[node.id] for node in nodes.nodes if node.id in ahead_ns}
                ),
                *self._log_warnings(),
            ],
        )

    async def set_drained(self, name: str, drained: bool) -> NodeRow:
        """See `ClusterView`. Raises UnknownNodeError and NodeChangeError."""
        running = self._joined()

        def change(current: NodesConfiguration) -> NodesConfiguration:
            if drained:
                check_drain(current, running.membership.view, name, self._replication)
            return set_drained(current, name, drained)

        stored = await running.registry.change(change)
        running.membership.use_nodes(stored.version, stored.nodes)
        return node_row(named_node(stored.nodes, name), running.membership.view)

    async def remove_node(self, name: str, *, lost: bool) -> NodeRow:
        """See `ClusterView`. Raises UnknownNodeError and NodeChangeError.

        Everything is looked at first, the change comes last: it is made only if the node is still
        the one that was looked at, in the same generation, and still dead.
        """
        running = self._joined()
        membership = running.membership
        nodes = (await running.registry.read()).nodes
        found = named_node(nodes, name)
        if found.id == running.me.id:
            raise NodeChangeError(
                "name", f"node {name!r} is the one that answers: stop it, and ask another node"
            )
        if not lost:
            _check_sure(membership.view)
        check_removal(membership.view, await _placement(running), found, lost=lost)
        members = (await running.servers.report()).members
        if any(member.name == name for member in members):
            raise NodeChangeError(
                "name",
                f"node {name!r} is a metadata server: take it out of their list first "
                f"(perdure metadata remove {name})",
            )
        chains = await read_chains(running.metadata)

        def change(current: NodesConfiguration) -> NodesConfiguration:
            entry = named_node(current, name)
            if msgspec.structs.replace(entry, drained=found.drained) != found:
                raise NodeChangeError("name", f"node {name!r} has changed meanwhile: look again")
            check_dead(membership.view, entry, lost=lost)
            # Others may be taken out meanwhile, with which each record would have been safe.
            check_nodesets(current, chains, entry, lost=lost)
            if entry.storage in ("read-write", "read-only"):
                # No log needs its disk, as was seen: that is what giving it up by hand stands for.
                current = current.with_node(msgspec.structs.replace(entry, storage="gone"))
            return remove(current, name, alive=False)

        row = node_row(found, membership.view)
        stored = await running.registry.change(change)
        membership.use_nodes(stored.version, stored.nodes)
        return row

    async def move(self, partition: int, name: str) -> PartitionRow:
        """See `ClusterView`. Raises UnknownNodeError and MoveRefusedError."""
        running = self._joined()
        node = named_node(running.membership.nodes, name)
        placement = await running.controller.move(partition, node.id, only_keepers=True)
        nodes, stopped = running.membership.nodes, running.stopped()
        return partition_rows(nodes, placement, self._statuses(), stopped)[partition]

    def applied_elsewhere(self, partition: int) -> Mapping[str, int]:
        """See `ClusterView`."""
        running = self._joined()
        told = running.membership.applied()
        told |= {place: lsn for place, (lsn, why) in running.stopped().items() if why == PARKED}
        found: dict[str, int] = {}
        for (number, node_id), lsn in told.items():
            node = running.membership.nodes.node(node_id)
            if number == partition and node is not None and node.name != self._name:
                found[node.name] = lsn
        return found

    def stopped_copies(self, partition: int) -> list[StoppedCopy]:
        """See `ClusterView`."""
        running = self._joined()
        return stopped_copies(running.membership.nodes, running.stopped(), partition)

    async def metadata_members(self) -> MembersReport:
        """See `ClusterView`. Raises what `MetadataServers` raises, as the next two do."""
        return await self._joined().servers.report()

    async def add_metadata_member(self, name: str) -> MembersReport:
        """See `ClusterView`. Raises UnknownNodeError and NodeChangeError too."""
        running = self._joined()
        node = named_node((await running.registry.read()).nodes, name)
        if "metadata-server" not in node.roles:
            raise NodeChangeError(
                "name",
                f"node {name!r} keeps no metadata: start it with the role metadata-server "
                f"(cluster.roles) and with its own address {node.addresses.node} among its "
                "cluster.metadata_servers first",
            )
        await running.servers.add(node.addresses.node)
        return await running.servers.report()

    async def remove_metadata_member(self, name: str) -> MembersReport:
        """See `ClusterView`."""
        running = self._joined()
        await running.servers.remove(name)
        return await running.servers.report()

    async def metadata_value(self, key: str) -> VersionedValue | None:
        """See `ClusterView`."""
        return await self._joined().metadata.get(key)

    async def metadata_keys(self, prefix: str) -> list[str]:
        """See `ClusterView`."""
        return await self._joined().metadata.keys(prefix)

    def _joined(self) -> RunningCluster:
        running = self._find()
        if running is None:
            raise ClusterNotJoinedError(
                f"node {self._name!r} has not joined its cluster yet and goes on trying: it "
                f"waits for {self._waits_for() or 'the metadata servers'}"
            )
        return running


def _warnings(
    running: RunningCluster,
    nodes: NodesConfiguration,
    view: MembershipView,
    placement: Placement | None,
) -> list[str]:
    found: list[str] = []
    if view.isolated:
        found.append(
            f"{running.me.name} hears too few of the others to tell who lives: look at its network"
        )
    if view.doubted:
        found.append(
            f"most of the others hold {running.me.name} to be dead: look at its network and load"
        )
    if trouble := _metadata_trouble(running, nodes, view):
        found.append(
            f"{trouble}: appends and reads go on, but no lead moves, no log goes on elsewhere and "
            "nothing of the cluster can be changed; start or connect the metadata servers"
        )
    if running.controller.decides():
        found += running.controller.warnings
    elif placement is None:
        # Whoever decides waits until it can tell who lives; before that, nothing is wrong.
        if running.joined_seconds > UNPLACED_SECONDS:
            found.append(
                "partitions have no place yet, as no admin node has decided so far; look for a "
                "node with the role admin that hears the others, or start one"
            )
    else:
        # Who decides knows more, as how long somebody has been dead; what all can see is told too.
        found += plan(Facts(nodes, view, unfit=running.unfit()), placement).warnings
    return found


def _metadata_trouble(
    running: RunningCluster, nodes: NodesConfiguration, view: MembershipView
) -> str:
    """What is known to keep the metadata from being changed, without asking anybody."""
    servers = running.servers.names()
    away = []
    for name in servers:
        node = nodes.named(name)
        status = None if node is None else view.status(node.id)
        if status is not None and status.state != "alive":
            away.append(f"{name} is {status.state}")
    if servers and len(servers) - len(away) < quorum_of(len(servers)):
        return f"too few of the {len(servers)} metadata servers are there ({', '.join(away)})"
    if running.watch.trouble:
        return f"the metadata could not be read at the last look ({running.watch.trouble})"
    return ""


def _check_sure(view: MembershipView) -> None:
    """Refuse to trust a view that may be wrong. Raises NodeChangeError."""
    if not view.settled or view.isolated or view.doubted:
        raise NodeChangeError(
            "name",
            "this node cannot tell for certain who lives, as it has just started or hears too few "
            "of the others: ask another node, or wait",
        )


async def _placement(running: RunningCluster) -> Placement | None:
    stored = await running.metadata.get(PLACEMENT_KEY)
    return None if stored is None else decode_placement(stored.value)
