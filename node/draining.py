"""Which node may be drained: not the last one that something needs which everybody needs."""

from ..log.replicated.provider import Replication
from ..metadata.nodes import NodesConfiguration
from .cluster.changes import named_node
from .cluster.errors import NodeChangeError
from .cluster.parts import servers_to_place
from .membership.view import MembershipView
from .replicated_logs import copies_warnings


def check_drain(
    nodes: NodesConfiguration, view: MembershipView, name: str, replication: Replication
) -> None:
    """Refuse a drain that partitions or logs could not go on after.

    Raises UnknownNodeError and NodeChangeError.
    """
    node = named_node(nodes, name)
    if node.drained:
        return
    _check_partitions(nodes, view, name)
    _check_logs(nodes, view, name, replication)


def _check_partitions(nodes: NodesConfiguration, view: MembershipView, name: str) -> None:
    node = named_node(nodes, name)
    if "worker" not in node.roles:
        return
    steady = view.steady()
    others = [
        other
        for other in nodes.having("worker")
        if other.id != node.id and not other.drained and other.id in steady
    ]
    if not others:
        raise NodeChangeError(
            "drained",
            f"node {name!r} is the last one that can have partitions: every other one is drained, "
            "not alive, about to stop or no worker. Start one or take one back first",
        )


def _check_logs(
    nodes: NodesConfiguration, view: MembershipView, name: str, replication: Replication
) -> None:
    """A log-server that is drained gets no new segments, and every lead that moves needs one."""
    stay = [each.node_id for each in view.nodes if each.state != "dead" and not each.leaving]
    servers = [each for each in servers_to_place(nodes, stay) if each.writable and each.alive]
    if all(server.node != name for server in servers):
        # It takes no records as it is: to say so for good makes nothing worse.
        return
    left = [server for server in servers if server.node != name]
    if trouble := copies_warnings(left, replication):
        raise NodeChangeError(
            "drained", f"node {name!r} is needed as a log-server. Without it {trouble[0]}"
        )
