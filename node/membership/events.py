"""Events and effects of the failure detector. All times are the node's own monotonic ns."""

from dataclasses import dataclass
from typing import TypeAlias

from .messages import Gossip
from .view import MembershipView


@dataclass(frozen=True, slots=True)
class Tick:
    """A period has passed. `draw`: 64 random bits, which decide who is told."""

    now_ns: int
    draw: int


@dataclass(frozen=True, slots=True)
class Received:
    """Gossip has come from a generation of a node."""

    now_ns: int
    sender: int
    generation: int
    gossip: Gossip


@dataclass(frozen=True, slots=True)
class Met:
    """A generation of a node has greeted us, or answered our greeting.

    Attributes:
        connected: we dialled it, and the connection is open; else it has dialled us.
    """

    now_ns: int
    node_id: int
    generation: int
    connected: bool


@dataclass(frozen=True, slots=True)
class Unheard:
    """The connection over which a node was heard, which it had dialled, has ended."""

    now_ns: int
    node_id: int
    generation: int


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection that we had dialled has ended."""

    now_ns: int
    node_id: int
    generation: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Nobody listens at the address that the node had in this generation."""

    now_ns: int
    node_id: int
    generation: int


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A dialled connection was not made, and nobody knows why."""

    now_ns: int
    node_id: int


@dataclass(frozen=True, slots=True)
class Configured:
    """A nodes configuration: each node's id and generation."""

    now_ns: int
    version: int
    nodes: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class PlacementSeen:
    """The newest version of the placement that this node has."""

    now_ns: int
    version: int


@dataclass(frozen=True, slots=True)
class Leave:
    """This node is about to stop."""

    now_ns: int


Event: TypeAlias = (
    Tick
    | Received
    | Met
    | Unheard
    | Lost
    | Refused
    | Unanswered
    | Configured
    | PlacementSeen
    | Leave
)


@dataclass(frozen=True, slots=True)
class Send:
    """Send gossip to a node over the connection that was dialled to it."""

    node_id: int
    gossip: Gossip


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect to a node, in the generation that is held to be its newest."""

    node_id: int
    generation: int


@dataclass(frozen=True, slots=True)
class Changed:
    """Who lives has changed."""

    view: MembershipView


@dataclass(frozen=True, slots=True)
class Newer:
    """Somebody knows a newer nodes configuration or placement: fetch it."""

    nodes_version: int
    placement_version: int


@dataclass(frozen=True, slots=True)
class Superseded:
    """This very node was started again: this process must stop."""

    generation: int


Effect: TypeAlias = Send | Dial | Changed | Newer | Superseded
