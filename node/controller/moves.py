"""Moves: what an operator asks for; granted in the placement, or refused with the reason."""

from collections.abc import Collection

from ...metadata.nodes import NodesConfiguration
from ...metadata.placement import Placement
from ..cluster.errors import ClusterRefusedError
from ..membership.view import MembershipView
from .sketch import Facts, Sketch


class MoveRefusedError(ClusterRefusedError):
    """A partition's lead cannot be moved to that node now."""

    code = "PD1121"


def move_lead(
    nodes: NodesConfiguration,
    view: MembershipView,
    current: Placement,
    partition: int,
    node_id: int,
    *,
    only_keepers: bool = False,
    unfit: Collection[tuple[int, int]] = (),
) -> Placement:
    """Have a node lead a partition until need takes it away. Raises MoveRefusedError.

    Args:
        only_keepers: refuse a node that does not keep the partition, instead of having it copy it.
        unfit: see `Facts.unfit`.
    """
    _check(nodes, view, current, partition, node_id, only_keepers, unfit)
    sketch = Sketch(Facts(nodes, view), current)
    slot = sketch.slots[partition]
    if node_id not in slot.replicas:
        if len(slot.replicas) >= min(nodes.replicas, len(sketch.workers)):
            others = [node for node in slot.replicas if node != slot.leader] or slot.replicas
            dead_first = sorted(others, key=lambda node: (node in view.alive(), -node))
            sketch.drop(slot, dead_first[0])
        sketch.add(slot, node_id)
    sketch.lead(slot, node_id)
    slot.moved = True
    return sketch.finish()


def _check(
    nodes: NodesConfiguration,
    view: MembershipView,
    current: Placement,
    partition: int,
    node_id: int,
    only_keepers: bool,
    unfit: Collection[tuple[int, int]],
) -> None:
    if not 0 <= partition < len(current.partitions):
        raise MoveRefusedError(
            "partition",
            f"there is no partition {partition}: they are 0 to {len(current.partitions) - 1}",
        )
    node = nodes.node(node_id)
    status = view.status(node_id)
    keepers = current.partitions[partition].replicas
    takers = Sketch(Facts(nodes, view), current).takers
    fit = [
        item.name
        for item in nodes.nodes
        if item.id in takers
        and (item.id in keepers or not only_keepers)
        and (partition, item.id) not in unfit
    ]
    others = f"these can lead it: {', '.join(fit) or 'none'}"
    if node is None or status is None:
        raise MoveRefusedError("node", f"there is no node n{node_id}; {others}")
    if "worker" not in node.roles:
        raise MoveRefusedError("node", f"{node.name!r} has not the role worker; {others}")
    if node.drained:
        raise MoveRefusedError("node", f"{node.name!r} is drained: take it back first; {others}")
    if status.state != "alive" or status.leaving:
        state = "about to stop" if status.leaving else status.state
        raise MoveRefusedError("node", f"{node.name!r} ({node}) is {state}; {others}")
    if (partition, node_id) in unfit:
        raise MoveRefusedError(
            "node",
            f"the copy of partition {partition} on {node.name!r} has stopped and is not to be gone "
            f"on from (perdure doctor tells why); {others}",
        )
    if only_keepers and node_id not in keepers:
        raise MoveRefusedError(
            "node",
            f"{node.name!r} does not keep partition {partition}, so it would have to copy it "
            f"first; {others}",
        )
