"""NodeRegistry: provisioning, joining and changing nodes through the metadata store."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from ...core.random import Random
from ...core.storage.kv import KvStore
from ...metadata.api import (
    DoesNotExist,
    MatchesVersion,
    MetadataStore,
    PreconditionFailedError,
    Version,
    VersionedValue,
)
from ...metadata.nodes import (
    NODES_KEY,
    Addresses,
    NodeConfiguration,
    NodesConfiguration,
    Role,
    decode_nodes,
    encode_nodes,
)
from ...metadata.values import CONFLICTS_MAX, read_modify_write
from .changes import new_cluster
from .errors import (
    AlreadyProvisionedError,
    NodeChangeError,
    NotProvisionedError,
    SupersededError,
)
from .joining import JoinOutcome, JoinRequest, complete_join, join
from .marker import DiskMarker, read_marker, write_marker

TOKEN_BITS: Final = 128

AskHolder: TypeAlias = Callable[[NodeConfiguration], Awaitable[bool]]
"""Whether a node, in the very generation that is given, answers at its address."""


@dataclass(frozen=True, slots=True)
class VersionedNodes:
    """The nodes configuration and the version of its metadata value."""

    version: int
    nodes: NodesConfiguration


@dataclass(frozen=True, slots=True)
class Joined:
    """Who a node is after it has joined."""

    me: NodeConfiguration
    current: VersionedNodes


class NodeRegistry:
    """The nodes configuration in a metadata store.

    Every operation raises what the store raises; after TransportError or StorageError, or when it
    was cancelled, it may have been done or not, and doing it again is right.
    """

    def __init__(self, metadata: MetadataStore, random: Random) -> None:
        """Take the store."""
        self._metadata = metadata
        self._random = random

    async def provision(
        self, cluster: str, *, partition_count: int, replicas: int
    ) -> VersionedNodes:
        """Set up a cluster, once.

        Raises AlreadyProvisionedError and NodeChangeError. Cancelling leaves open whether it was
        done.
        """
        fingerprint = self._token(64)
        wanted = new_cluster(
            cluster, fingerprint, partition_count=partition_count, replicas=replicas
        )
        try:
            version = await self._metadata.put(NODES_KEY, encode_nodes(wanted), DoesNotExist())
        except PreconditionFailedError:
            current = await self.read()
            raise AlreadyProvisionedError(
                "node.cluster",
                f"the metadata store holds cluster {current.nodes.cluster!r} already: join it, or "
                "use another metadata store",
            ) from None
        return VersionedNodes(version, wanted)

    async def read(self) -> VersionedNodes:
        """The nodes configuration. Raises NotProvisionedError. Cancelling is safe."""
        return _decoded(await self._metadata.get(NODES_KEY))

    async def change(
        self, change: Callable[[NodesConfiguration], NodesConfiguration]
    ) -> VersionedNodes:
        """Store what `change` makes of the configuration; see `read_modify_write`.

        Raises NotProvisionedError and what `change` raises.
        """

        def changed(current: VersionedValue | None) -> bytes | None:
            before = _decoded(current).nodes
            after = change(before)
            return None if after == before else encode_nodes(after)

        return _decoded(await read_modify_write(self._metadata, NODES_KEY, changed))

    async def join(
        self,
        disk: KvStore,
        *,
        cluster: str,
        name: str,
        addresses: Addresses,
        roles: tuple[Role, ...],
        zone: str = "",
        accept_loss: bool = False,
        ask_holder: AskHolder,
    ) -> Joined:
        """Become a node of the cluster, in a new generation, with a disk that says so.

        The node must listen at `addresses` already: from now on others take a refused connection
        for its death. Raises a ClusterRefusedError that says what does not fit, StorageError of the
        disk, and NodeChangeError after very many conflicts. Cancelling leaves open whether
        the node has joined; joining again is right.
        """
        request = JoinRequest(
            cluster=cluster,
            name=name,
            addresses=addresses,
            roles=roles,
            zone=zone,
            marked_fingerprint="",
            marked_id=0,
            marked_tokens=frozenset(),
            new_token="",
            accept_loss=accept_loss,
        )
        for _ in range(CONFLICTS_MAX):
            # The token first: nothing may stand in the configuration that the disk does not have.
            current = await self.read()
            marker = read_marker(disk)
            request = self._with_marker(request, marker, current.nodes)
            outcome = await self._decide(current.nodes, request, ask_holder)
            if outcome.node is not None:
                self._mark_pending(disk, marker, current.nodes, request.new_token)
            try:
                version = await self._store(current, outcome)
            except PreconditionFailedError:
                continue
            if outcome.refusal is not None:
                raise outcome.refusal
            assert outcome.node is not None
            assert outcome.configuration is not None
            me = outcome.node
            write_marker(
                disk,
                DiskMarker(marker.format, current.nodes.fingerprint, me.id, me.disk_token, ""),
            )
            return await self._complete(me, VersionedNodes(version, outcome.configuration))
        raise NodeChangeError(
            "node.name", f"others changed the nodes {CONFLICTS_MAX} times meanwhile: start it again"
        )

    def _with_marker(
        self, request: JoinRequest, marker: DiskMarker, nodes: NodesConfiguration
    ) -> JoinRequest:
        entry = nodes.named(request.name)
        joined = entry is not None and entry.disk_token == marker.pending
        # A token that has not joined is used again, so that the disk never needs more than two.
        token = marker.pending if marker.pending and not joined else self._token(TOKEN_BITS)
        return replace(
            request,
            marked_fingerprint=marker.fingerprint,
            marked_id=marker.node_id,
            marked_tokens=marker.tokens,
            new_token=token,
        )

    async def _decide(
        self, nodes: NodesConfiguration, request: JoinRequest, ask_holder: AskHolder
    ) -> JoinOutcome:
        outcome = join(nodes, request)
        if outcome.ask_holder is not None:
            alive = await ask_holder(outcome.ask_holder)
            outcome = join(nodes, request, holder_alive=alive)
        return outcome

    def _mark_pending(
        self, disk: KvStore, marker: DiskMarker, nodes: NodesConfiguration, token: str
    ) -> None:
        # Only a token that is another than the pending one follows a join: see `_with_marker`.
        confirmed = marker.confirmed if token == marker.pending else marker.pending
        pending = DiskMarker(
            marker.format, nodes.fingerprint, marker.node_id, confirmed or marker.confirmed, token
        )
        if pending != marker:
            write_marker(disk, pending)

    async def _store(self, current: VersionedNodes, outcome: JoinOutcome) -> int:
        if outcome.configuration is None:
            return current.version
        value = encode_nodes(outcome.configuration)
        return await self._metadata.put(NODES_KEY, value, MatchesVersion(Version(current.version)))

    async def _complete(self, me: NodeConfiguration, joined: VersionedNodes) -> Joined:
        if me.storage != "provisioning":
            return Joined(me, joined)
        current = await self.change(lambda nodes: complete_join(nodes, me))
        entry = current.nodes.node(me.id)
        if entry is None or entry.disk_token != me.disk_token:
            raise SupersededError(
                "node.name", f"node {me.name!r} was started again while it joined: stop one of them"
            )
        return Joined(entry, current)

    def _token(self, bits: int) -> str:
        return f"{self._random.bits(bits):0{bits // 4}x}"


def _decoded(value: VersionedValue | None) -> VersionedNodes:
    if value is None:
        raise NotProvisionedError(
            "node.cluster", "the metadata store holds no cluster yet: provision it once"
        )
    return VersionedNodes(value.version, decode_nodes(value.value))
