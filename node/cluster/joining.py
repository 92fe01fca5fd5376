"""Joining: what becomes of the nodes configuration when a node starts. Pure.

A node is known by its name and proves itself by its disk: at each start it draws a token, writes it
to the disk, and then has it stand in the configuration. So the disk that has the token of the last
start, or that of the one under way, is the node's; any other is another node's, a new one, or an
old copy. The steps, with the crash between any two:

1. The token is written to the disk. Crash: the disk has one token more; the configuration has the
   one before, which the disk has too.
2. The node is put into the configuration by compare-and-set. Crash: it has the disk's newer token.
3. The node's number is written to the disk, then its storage becomes read-write. Crash: the number
   is found again by name and token; it has taken no data yet.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from ...core.errors import PerdureError
from ...metadata.nodes import (
    NAME_BYTES_MAX,
    NODES_MAX,
    Addresses,
    NodeConfiguration,
    NodeId,
    NodesConfiguration,
    Role,
    StorageState,
)
from .errors import (
    ClusterNameError,
    FingerprintError,
    NameTakenError,
    NodeChangeError,
    NodeRemovedError,
    StorageLostError,
)

_HAS_DATA: Final[frozenset[StorageState]] = frozenset(("read-write", "read-only", "data-loss"))


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """Who wants to join, and what its disk says.

    Attributes:
        marked_fingerprint: the cluster that the disk was marked for, empty on a new disk.
        marked_id: the number that the disk was marked with, 0 on a new disk.
        marked_tokens: the tokens that the disk has, the new one left out.
        new_token: the token of this start.
        accept_loss: an operator says that what the node of this name held is lost for good.
    """

    cluster: str
    name: str
    addresses: Addresses
    roles: tuple[Role, ...]
    zone: str
    marked_fingerprint: str
    marked_id: int
    marked_tokens: frozenset[str]
    new_token: str
    accept_loss: bool = False


@dataclass(frozen=True, slots=True)
class JoinOutcome:
    """What a join comes to.

    Attributes:
        configuration: to be stored, None when nothing changes.
        node: who the node is now, None when it was refused.
        refusal: why not; `configuration` is stored all the same.
        ask_holder: the answer hangs on whether this other node of the name is alive: ask it, then
            decide again.
    """

    configuration: NodesConfiguration | None = None
    node: NodeConfiguration | None = None
    refusal: PerdureError | None = None
    ask_holder: NodeConfiguration | None = None


def join(
    current: NodesConfiguration, request: JoinRequest, *, holder_alive: bool | None = None
) -> JoinOutcome:
    """Decide on a join. `holder_alive` answers an earlier `ask_holder`; None: not asked yet."""
    refusal = _refuse_stranger(current, request)
    if refusal is not None:
        return JoinOutcome(refusal=refusal)
    entry = current.named(request.name)
    if entry is None:
        return _join_new(current, request)
    if entry.disk_token in request.marked_tokens:
        return _start_again(current, entry, request, same_disk=True)
    if holder_alive is None:
        return JoinOutcome(ask_holder=entry)
    if holder_alive:
        return JoinOutcome(
            refusal=NameTakenError(
                "node.name",
                f"a node {request.name!r} ({entry}) runs already at {entry.addresses.node}, on "
                "another disk: give this one another name, or stop that one first",
            )
        )
    if entry.storage == "gone" or (request.accept_loss and entry.storage in _HAS_DATA):
        # A new number: the old one stands in nodesets and must never look as if it had the data.
        return _join_new(current.without(entry.id), request)
    if entry.storage in _HAS_DATA:
        return _refuse_lost(current, entry)
    return _start_again(current, entry, request, same_disk=False)


def complete_join(current: NodesConfiguration, node: NodeConfiguration) -> NodesConfiguration:
    """The node's disk has its number durably: from now on it may hold data.

    Gives `current` itself when there is nothing to do or another start came first.
    """
    entry = current.node(node.id)
    if entry is None or entry.disk_token != node.disk_token or entry.storage != "provisioning":
        return current
    return current.with_node(msgspec.structs.replace(entry, storage="read-write"))


def _refuse_stranger(current: NodesConfiguration, request: JoinRequest) -> PerdureError | None:
    if not request.name or len(request.name.encode()) > NAME_BYTES_MAX:
        return NodeChangeError("node.name", f"a name has 1 to {NAME_BYTES_MAX} bytes: shorten it")
    if current.cluster != request.cluster:
        return ClusterNameError(
            "node.cluster",
            f"the metadata store holds cluster {current.cluster!r}, not {request.cluster!r}: set "
            "the name to that, or give the address of the right metadata store",
        )
    if request.marked_fingerprint not in ("", current.fingerprint):
        return FingerprintError(
            "node.base_dir",
            f"this disk belongs to another cluster {request.cluster!r} (fingerprint "
            f"{request.marked_fingerprint}, here {current.fingerprint}): give the directory of "
            "this cluster, or an empty one",
        )
    entry = current.named(request.name)
    if not request.marked_id or (entry and entry.disk_token in request.marked_tokens):
        return None
    marked = current.node(request.marked_id)
    if marked is None:
        return NodeRemovedError(
            "node.base_dir",
            f"this disk belongs to node n{request.marked_id}, which was removed from the cluster: "
            "start with an empty directory to join as a new node",
        )
    if marked.name != request.name:
        return NodeChangeError(
            "node.name",
            f"this disk belongs to node {marked.name!r}, not {request.name!r}: set the name back, "
            "or give another directory",
        )
    return None


def _join_new(current: NodesConfiguration, request: JoinRequest) -> JoinOutcome:
    if len(current.nodes) >= NODES_MAX:
        return JoinOutcome(
            refusal=NodeChangeError(
                "node.name",
                f"the cluster has {NODES_MAX} nodes, as many as it may: remove one first",
            )
        )
    node = NodeConfiguration(
        id=current.next_id,
        name=request.name,
        generation=1,
        addresses=request.addresses,
        roles=_sorted(request.roles),
        zone=request.zone,
        storage="provisioning" if "log-server" in request.roles else "disabled",
        drained=False,
        disk_token=request.new_token,
    )
    changed = msgspec.structs.replace(current, next_id=NodeId(current.next_id + 1))
    return JoinOutcome(changed.with_node(node), node)


def _start_again(
    current: NodesConfiguration,
    entry: NodeConfiguration,
    request: JoinRequest,
    *,
    same_disk: bool,
) -> JoinOutcome:
    storage = entry.storage
    if same_disk and storage == "data-loss":
        # Another node of the name was started once; the disk that counts is back, with all of it.
        storage = "read-write"
    if "log-server" in request.roles and storage == "disabled":
        storage = "provisioning"
    elif "log-server" not in request.roles and storage == "provisioning":
        storage = "disabled"
    node = msgspec.structs.replace(
        entry,
        generation=entry.generation + 1,
        addresses=request.addresses,
        roles=_sorted(request.roles),
        zone=request.zone,
        storage=storage,
        disk_token=request.new_token,
    )
    return JoinOutcome(current.with_node(node), node)


def _refuse_lost(current: NodesConfiguration, entry: NodeConfiguration) -> JoinOutcome:
    lost = msgspec.structs.replace(entry, storage="data-loss")
    return JoinOutcome(
        configuration=current.with_node(lost) if lost != entry else None,
        refusal=StorageLostError(
            "node.base_dir",
            f"node {entry.name!r} ({entry}) held data, and this disk does not have it: bring its "
            "disk back as it was, start under another name, or accept the loss (start it once "
            "with an empty directory and cluster.accept_storage_loss = true), which gives the "
            "name to a new node",
        ),
    )


def _sorted(roles: tuple[Role, ...]) -> tuple[Role, ...]:
    return tuple(sorted(set(roles)))
