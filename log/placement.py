"""Placement: on which nodes a replicated segment is kept, and which of them make a quorum."""

from collections.abc import Collection, Iterable
from itertools import combinations

import msgspec

from .errors import LogUnavailableError


class LogServer(msgspec.Struct, frozen=True):
    """A log-server as this process knows it now.

    Attributes:
        node: its name.
        storage: names the disk it writes to; another one after the disk was lost.
        zone: what fails together; empty where nobody said.
        writable: takes new segments.
        alive: not known to be dead.
        unwanted: why it takes no new segments, for people; empty where it does.
    """

    node: str
    storage: str
    zone: str = ""
    writable: bool = True
    alive: bool = True
    unwanted: str = ""


class Replica(msgspec.Struct, frozen=True):
    """One member of a nodeset: a node with the disk it had when the segment was made."""

    node: str
    storage: str
    zone: str = ""


class Placement(msgspec.Struct, frozen=True):
    """Where a segment is kept and how often. Members are named by their index in `members`.

    A *write quorum* is `nodes` members in at least `zones` different zones: a batch is committed
    once a write quorum has it. An *f-majority* is a set that every write quorum meets: whoever asks
    one learns of everything that was committed.

    Attributes:
        generation: of the sequencer's node; a later life of it is not the sequencer any more.
        nodes: copies of each batch.
        zones: in how many zones they are.
        members: the nodeset.
    """

    generation: int
    nodes: int
    zones: int
    members: tuple[Replica, ...]

    def is_write_quorum(self, present: Collection[int]) -> bool:
        """Whether these members are enough for a commit."""
        if len(present) < self.nodes:
            return False
        return self.zones <= 1 or len({self.members[item].zone for item in present}) >= self.zones

    def is_f_majority(self, present: Collection[int]) -> bool:
        """Whether every write quorum has one of these members."""
        others = [item for item in range(len(self.members)) if item not in present]
        return not self.is_write_quorum(others)

    def may_decide(self, present: Collection[int], lost: Collection[int]) -> bool:
        """Whether these members can accept an end of the segment.

        They are a write quorum. Where the disks of so many are lost that there is none, all others
        stand for it if they are an f-majority: whoever promises later is one of them.
        """
        if self.is_write_quorum(present):
            return True
        others = [item for item in range(len(self.members)) if item not in lost]
        if not lost or self.is_write_quorum(others):
            return False
        return self.is_f_majority(others) and set(present).issuperset(others)

    def problem(self) -> str:
        """What is wrong with it, empty when nothing is."""
        if not 1 <= self.zones <= self.nodes <= len(self.members):
            return (
                f"{self.nodes} copies in {self.zones} zones cannot be kept on "
                f"{len(self.members)} nodes"
            )
        if len({member.node for member in self.members}) != len(self.members):
            return "it names a node twice"
        if not self.is_write_quorum(range(len(self.members))):
            return f"its nodes are in less than {self.zones} zones"
        return ""

    def tolerates(self, failures: int) -> bool:
        """Whether a write quorum is left when any so many members are away."""
        members = range(len(self.members))
        return all(
            self.is_write_quorum([item for item in members if item not in away])
            for away in combinations(members, failures)
        )


def place(
    servers: Iterable[LogServer], *, nodes: int, zones: int, own: str, generation: int, turn: int
) -> Placement:
    """Choose a nodeset among the writable servers, this node's own first, zones by turns.

    It has 2 * nodes - 1 members if there are so many, or more where zones ask for it, so that
    appends and seals go on when any nodes - 1 of them are away. Those that live come first. If they
    are too few for that but enough for appends, dead ones fill it up: without them the loss of
    one more disk would leave a segment that nobody can seal.

    Args:
        own: name of this node, whose reads are cheapest there.
        turn: shifts where the choice begins, so that logs spread over the servers.

    Raises LogUnavailableError when there are too few.
    """
    writable = sorted((item for item in servers if item.writable), key=lambda item: item.node)
    usable = [item for item in writable if item.alive]
    living = _by_turns(usable, own, turn)
    order = living + _by_turns([item for item in writable if not item.alive], own, turn)
    for count in range(min(2 * nodes - 1, len(order)), len(order) + 1):
        placement = Placement(generation, nodes, zones, tuple(order[:count]))
        if not placement.problem() and placement.tolerates(nodes - 1):
            break
    if problem := Placement(generation, nodes, zones, tuple(living)).problem():
        raise LogUnavailableError(
            f"a new segment needs {nodes} log-servers in {zones} zones; usable are "
            f"{', '.join(item.node for item in usable) or 'none'}: {problem}. Start more of them"
        )
    return placement


def _by_turns(usable: list[LogServer], own: str, turn: int) -> list[Replica]:
    """All of them, zone by zone in turns; this node and its zone first."""
    by_zone: dict[str, list[LogServer]] = {}
    start = turn % max(1, len(usable))
    for server in (*usable[start:], *usable[:start]):
        by_zone.setdefault(server.zone, []).append(server)
    queues = [sorted(members, key=lambda item: item.node != own) for members in by_zone.values()]
    queues.sort(key=lambda members: members[0].node != own)
    order: list[Replica] = []
    while len(order) < len(usable):
        for queue in queues:
            if queue:
                server = queue.pop(0)
                order.append(Replica(server.node, server.storage, server.zone))
    return order
