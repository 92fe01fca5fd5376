"""Sketch: a placement while it is being planned, and what may be put where."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ...metadata.nodes import NodeConfiguration, NodesConfiguration
from ...metadata.placement import PLACEMENT_FORMAT, PartitionPlacement, Placement
from ..membership.view import MembershipView


@dataclass(frozen=True, slots=True)
class Facts:
    """What a plan is made from, besides the placement as it is.

    Attributes:
        nodes: the nodes configuration.
        view: who lives.
        settled: the nodes that have been steady for so long that work is moved to them for balance.
        lost: the nodes that have been dead for so long that their copies are made elsewhere.
        applied: how far a node is with a partition, by (partition, node): its last applied LSN.
        unfit: the (partition, node) of copies that must not lead, or have stopped for good.
        near: who is so close behind that a lead may go there for balance, by (partition, node);
            None where nobody knows, and all are taken to be.
    """

    nodes: NodesConfiguration
    view: MembershipView
    settled: frozenset[int] = frozenset()
    lost: frozenset[int] = frozenset()
    applied: dict[tuple[int, int], int] = field(default_factory=dict)
    unfit: frozenset[tuple[int, int]] = frozenset()
    near: frozenset[tuple[int, int]] | None = None


@dataclass(slots=True)
class Slot:
    """One partition: who has it, who leads it."""

    number: int
    replicas: list[int]
    leader: int
    moved: bool


class Sketch:
    """The placement in the making.

    Attributes:
        slots: the partitions.
        workers: every node that may have partitions at all, drained ones left out.
        leads: those of them that may lead what they have: alive, and not about to leave.
        takers: those that may be given something new: alive beyond doubt.
        settled: those that may be given something for the sake of balance.
        leader_counts: how many partitions each node leads.
        replica_counts: how many it has.
        warnings: what an operator should know.
    """

    def __init__(self, facts: Facts, current: Placement | None) -> None:
        """Begin with the placement as it is; partitions that it lacks have nobody."""
        nodes, view = facts.nodes, facts.view
        self.facts = facts
        self.workers = {node.id: node for node in nodes.having("worker") if not node.drained}
        steady = set(view.steady())
        leaving = {status.node_id for status in view.nodes if status.leaving}
        alive = set(view.alive())
        self.leads = {node_id for node_id in self.workers if node_id in alive - leaving}
        self.takers = [node_id for node_id in sorted(self.workers) if node_id in steady]
        self.settled = [node_id for node_id in self.takers if node_id in facts.settled]
        known: set[int] = {node.id for node in nodes.nodes}
        placed = () if current is None else current.partitions
        self.slots = [
            Slot(number, [node for node in item.replicas if node in known], item.leader, item.moved)
            for number, item in enumerate(placed[: nodes.partition_count])
        ]
        self.slots += [
            Slot(number, [], 0, False) for number in range(len(self.slots), nodes.partition_count)
        ]
        self.leader_counts: dict[int, int] = dict.fromkeys(known, 0)
        self.replica_counts: dict[int, int] = dict.fromkeys(known, 0)
        for slot in self.slots:
            if slot.leader not in slot.replicas:
                slot.leader = 0
            else:
                self.leader_counts[slot.leader] += 1
            for node in slot.replicas:
                self.replica_counts[node] += 1
        self.warnings: list[str] = []

    def node(self, node_id: int) -> NodeConfiguration:
        """A node of the configuration."""
        node = self.facts.nodes.node(node_id)
        assert node is not None, node_id
        return node

    def fit(self, slot: Slot, node_id: int) -> bool:
        """Whether a node could lead a partition with the copy that it has or had."""
        return (slot.number, node_id) not in self.facts.unfit

    def domains(self, node_ids: Iterable[int]) -> set[str]:
        """The zones of some nodes; a node without one is its own."""
        return {self.node(node_id).failure_domain for node_id in node_ids}

    def is_near(self, slot: Slot, node_id: int) -> bool:
        """Whether a node could lead a partition soon that it has."""
        near = self.facts.near
        return near is None or (slot.number, node_id) in near

    def lead(self, slot: Slot, node_id: int) -> None:
        """Have a node that has a partition lead it; 0 for nobody."""
        assert not node_id or node_id in slot.replicas
        if slot.leader:
            self.leader_counts[slot.leader] -= 1
        if node_id:
            self.leader_counts[node_id] += 1
        slot.leader = node_id
        slot.moved = False

    def add(self, slot: Slot, node_id: int) -> None:
        """Give a node a copy."""
        slot.replicas.append(node_id)
        self.replica_counts[node_id] += 1

    def drop(self, slot: Slot, node_id: int) -> None:
        """Take a node's copy away, and the lead with it."""
        if slot.leader == node_id:
            self.lead(slot, 0)
        slot.replicas.remove(node_id)
        self.replica_counts[node_id] -= 1

    def finish(self) -> Placement:
        """The placement that came of it."""
        return Placement(
            PLACEMENT_FORMAT,
            tuple(
                PartitionPlacement(tuple(sorted(slot.replicas)), slot.leader, slot.moved)
                for slot in self.slots
            ),
        )
