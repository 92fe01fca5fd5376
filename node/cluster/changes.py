"""What operators change about nodes, found by their names: drain, removal. Pure."""

from collections.abc import Iterable

import msgspec

from ...metadata.nodes import (
    NODES_FORMAT,
    REPLICAS_MAX,
    NodeConfiguration,
    NodeId,
    NodesConfiguration,
)
from .errors import NodeChangeError, UnknownNodeError


def new_cluster(
    cluster: str, fingerprint: str, *, partition_count: int, replicas: int
) -> NodesConfiguration:
    """A cluster without nodes. Raises NodeChangeError when a number is out of bounds."""
    if not 1 <= partition_count <= 1024:
        raise NodeChangeError(
            "partitions.count", f"{partition_count} is not between 1 and 1024: it is fixed for ever"
        )
    if not 1 <= replicas <= REPLICAS_MAX:
        raise NodeChangeError(
            "replicas", f"{replicas} copies are not between 1 and {REPLICAS_MAX}: choose 1, 3 or 5"
        )
    return NodesConfiguration(
        NODES_FORMAT, cluster, fingerprint, partition_count, replicas, NodeId(1)
    )


def set_drained(current: NodesConfiguration, name: str, drained: bool) -> NodesConfiguration:
    """Have a node give up what it leads and keeps, or take it back. Raises UnknownNodeError."""
    return current.with_node(msgspec.structs.replace(named_node(current, name), drained=drained))


def remove(current: NodesConfiguration, name: str, *, alive: bool) -> NodesConfiguration:
    """Take a node out for good. Raises NodeChangeError, UnknownNodeError.

    Args:
        alive: whether the node lives, as the membership sees it.
    """
    node = named_node(current, name)
    if alive:
        raise NodeChangeError("name", f"node {name!r} ({node}) is alive: stop it first")
    if node.storage in ("read-write", "read-only"):
        raise NodeChangeError(
            "storage",
            f"node {name!r} is {node.storage}, so its disk may have the last copy of something: it "
            "has to be given up first",
        )
    return current.without(node.id)


def named_node(nodes: NodesConfiguration, name: str) -> NodeConfiguration:
    """The node of a name. Raises UnknownNodeError."""
    node = nodes.named(name)
    if node is None:
        raise unknown_node(name, nodes.nodes)
    return node


def unknown_node(name: str, nodes: Iterable[NodeConfiguration]) -> UnknownNodeError:
    """What a name is refused with, which lists those that there are."""
    known = ", ".join(node.name for node in nodes) or "none"
    return UnknownNodeError("name", f"no node is called {name[:64]!r}; the nodes are: {known}")
