"""What operators change about nodes: drain, storage state, removal. Pure."""

from typing import Final

import msgspec

from ...metadata.nodes import (
    NODES_FORMAT,
    REPLICAS_MAX,
    NodeConfiguration,
    NodeId,
    NodesConfiguration,
    StorageState,
)
from .errors import NodeChangeError, UnknownNodeError

_NEXT_STORAGE: Final[dict[StorageState, tuple[StorageState, ...]]] = {
    "disabled": (),
    "provisioning": ("disabled",),
    "read-write": ("read-only",),
    "read-only": ("read-write", "gone"),
    "data-loss": ("gone",),
    "gone": (),
}
"""What an operator may make of each state; a node makes the other changes itself, by joining."""


def new_cluster(
    cluster: str, fingerprint: str, *, partition_count: int, replicas: int
) -> NodesConfiguration:
    """A cluster without nodes. Raises NodeChangeError when a number is out of bounds."""
    if not 1 <= partition_count <= 1024:
        raise NodeChangeError(
            "partitions.count", f"{partition_count} is not between 1 and 1024: it is fixed for ever"
        )
    _check_replicas(replicas)
    return NodesConfiguration(
        NODES_FORMAT, cluster, fingerprint, partition_count, replicas, NodeId(1)
    )


def set_replicas(current: NodesConfiguration, replicas: int) -> NodesConfiguration:
    """Have so many copies of each partition. Raises NodeChangeError.

    More than there are nodes is allowed, as nodes may come; until then the placement says so.
    """
    _check_replicas(replicas)
    return msgspec.structs.replace(current, replicas=replicas)


def set_drained(current: NodesConfiguration, name: str, drained: bool) -> NodesConfiguration:
    """Have a node give up what it leads and keeps, or take it back. Raises UnknownNodeError."""
    return current.with_node(msgspec.structs.replace(_named(current, name), drained=drained))


def set_storage(current: NodesConfiguration, name: str, state: StorageState) -> NodesConfiguration:
    """Change what a node's part of the log is worth. Raises NodeChangeError, UnknownNodeError.

    Whether a nodeset can do without the node is for the log to check before.
    """
    node = _named(current, name)
    if state == node.storage:
        return current
    allowed = _NEXT_STORAGE[node.storage]
    if state not in allowed:
        raise NodeChangeError(
            "storage",
            f"node {name!r} is {node.storage}, which cannot become {state}; it can become "
            f"{' or '.join(allowed) or 'nothing else by hand'}",
        )
    return current.with_node(msgspec.structs.replace(node, storage=state))


def remove(current: NodesConfiguration, name: str, *, alive: bool) -> NodesConfiguration:
    """Take a node out for good. Raises NodeChangeError, UnknownNodeError.

    Args:
        alive: whether the node lives, as the membership sees it.
    """
    node = _named(current, name)
    if alive:
        raise NodeChangeError("name", f"node {name!r} ({node}) is alive: stop it first")
    if node.storage in ("read-write", "read-only"):
        raise NodeChangeError(
            "storage",
            f"node {name!r} is {node.storage}, so its disk may have the last copy of something: "
            "make it read-only, then gone, and remove it then",
        )
    return current.without(node.id)


def _named(current: NodesConfiguration, name: str) -> NodeConfiguration:
    node = current.named(name)
    if node is None:
        known = ", ".join(node.name for node in current.nodes) or "none"
        raise UnknownNodeError("name", f"no node is called {name!r}; the nodes are: {known}")
    return node


def _check_replicas(replicas: int) -> None:
    if not 1 <= replicas <= REPLICAS_MAX:
        raise NodeChangeError(
            "replicas", f"{replicas} copies are not between 1 and {REPLICAS_MAX}: choose 1, 3 or 5"
        )
