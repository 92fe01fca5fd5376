"""MembershipView: who lives, as one node sees it."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

NodeState: TypeAlias = Literal["alive", "suspect", "dead"]
"""``suspect``: silent for a while. It keeps what it has and gets nothing new; it is not dead."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node.

    Attributes:
        generation: which start of the node this is about.
        state: see `NodeState`.
        leaving: it said that it is about to stop.
    """

    node_id: int
    generation: int
    state: NodeState
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class MembershipView:
    """Who lives.

    Attributes:
        me: the node that sees it so.
        nodes: everybody in the configuration, itself included, sorted by id.
        settled: it has watched for long enough to tell. Until then nobody is dead by silence.
        isolated: it hears so few that it may be itself that is cut off; it declares nobody dead
            for silence, and should decide nothing for others.
        doubted: most of those that it hears hold it to be dead.
    """

    me: int
    nodes: tuple[NodeStatus, ...]
    settled: bool
    isolated: bool
    doubted: bool

    def status(self, node_id: int) -> NodeStatus | None:
        """One node's status, None when it does not belong to the cluster."""
        return next((status for status in self.nodes if status.node_id == node_id), None)

    def alive(self) -> tuple[int, ...]:
        """The nodes that are not dead, sorted."""
        return tuple(status.node_id for status in self.nodes if status.state != "dead")

    def steady(self) -> tuple[int, ...]:
        """The nodes that may be given something: alive beyond doubt and about to stay."""
        return tuple(
            status.node_id
            for status in self.nodes
            if status.state == "alive" and not status.leaving
        )
