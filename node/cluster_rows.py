"""Nodes and partitions of a cluster as admin REST shows them."""

from collections.abc import Mapping
from typing import TypeAlias

from msgspec.structs import replace

from ..admin.cluster import NodeRow, PartitionRow
from ..metadata.nodes import NodeConfiguration, NodesConfiguration
from ..metadata.placement import Placement
from ..partition_processor.describing import PARKED
from ..partition_processor.status import PartitionStatus, StoppedCopy
from .membership.view import MembershipView

Stopped: TypeAlias = Mapping[tuple[int, int], tuple[int, int]]
"""By (partition, node): the last applied LSN of a copy that has stopped, and why."""


def node_row(
    node: NodeConfiguration, view: MembershipView | None, clock_ahead_ns: int | None = None
) -> NodeRow:
    """One node; without a view it is this one, which answers."""
    status = None if view is None else view.status(node.id)
    # A node that has joined a moment ago may not be in the view yet: nothing is held against it.
    return NodeRow(
        id=node.id,
        name=node.name,
        generation=node.generation,
        state="alive" if status is None else status.state,
        leaving=status is not None and status.leaving,
        roles=node.roles,
        zone=node.zone,
        storage=node.storage,
        drained=node.drained,
        addresses=node.addresses,
        clock_ahead_ms=None if clock_ahead_ns is None else clock_ahead_ns // 1_000_000,
    )


def partition_rows(
    nodes: NodesConfiguration,
    placement: Placement | None,
    statuses: list[PartitionStatus],
    stopped: Stopped,
) -> list[PartitionRow]:
    """All partitions: where they are to be, how they are on this node, and where they stopped."""
    names: dict[int, str] = {node.id: node.name for node in nodes.nodes}
    here = {status.partition: status for status in statuses}
    rows: list[PartitionRow] = []
    for number in range(nodes.partition_count):
        leader: str | None = None
        replicas: list[str] = []
        if placement is not None and number < len(placement.partitions):
            place = placement.partitions[number]
            leader = names.get(place.leader)
            replicas = [names.get(node, f"n{node}") for node in place.replicas]
        row = partition_row(number, leader, replicas, here.get(number))
        rows.append(replace(row, stopped=stopped_copies(nodes, stopped, number)))
    return rows


def stopped_copies(
    nodes: NodesConfiguration, stopped: Stopped, partition: int
) -> list[StoppedCopy]:
    """The copies of a partition that have stopped, by node."""
    return [
        StoppedCopy(node.name, lsn, why == PARKED)
        for (number, node_id), (lsn, why) in sorted(stopped.items())
        if number == partition and (node := nodes.node(node_id)) is not None
    ]


def partition_row(
    number: int, leader: str | None, replicas: list[str], status: PartitionStatus | None
) -> PartitionRow:
    """One partition; `status` is how it is on this node, None where it is not at all."""
    if status is None:
        return PartitionRow(number, leader, replicas, "absent", 0, 0, 0)
    return PartitionRow(
        number,
        leader,
        replicas,
        status.role,
        status.leader_epoch,
        status.applied_lsn,
        status.lag,
    )
