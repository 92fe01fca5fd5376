"""Placement: on which nodes a replicated segment is kept, and which of them make a quorum."""

from collections.abc import Collection, Iterable

import msgspec

from .errors import LogUnavailableError


class LogServer(msgspec.Struct, frozen=True):
    """A log-server as this process knows it now.

    Attributes:
        node: its name.
        storage: names the disk it writes to; another one after the disk was lost.
        zone: what fails together; empty where nobody said.
        writable: takes new segments and seems to be alive.
    """

    node: str
    storage: str
    zone: str = ""
    writable: bool = True


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


def place(
    servers: Iterable[LogServer], *, nodes: int, zones: int, own: str, generation: int, turn: int
) -> Placement:
    """Choose a nodeset among the writable servers, this node's own first, zones by turns.

    It has 2 * nodes - 1 members if there are so many, so that as many may fail as copies are kept
    less one, and appends as well as seals go on.

    Args:
        own: name of this node, whose reads are cheapest there.
        turn: shifts where the choice begins, so that logs spread over the servers.

    Raises LogUnavailableError when there are too few.
    """
    usable = sorted((item for item in servers if item.writable), key=lambda item: item.node)
    by_zone: dict[str, list[LogServer]] = {}
    if usable:
        start = turn % len(usable)
        for server in (*usable[start:], *usable[:start]):
            by_zone.setdefault(server.zone, []).append(server)
    for zone, members in by_zone.items():
        by_zone[zone] = sorted(members, key=lambda item: item.node != own)
    # The zone of this node first, then as the turn has it.
    queues = sorted(by_zone.values(), key=lambda members: members[0].node != own)
    wanted = min(len(usable), 2 * nodes - 1)
    chosen: list[Replica] = []
    while len(chosen) < wanted:
        for queue in queues:
            if queue and len(chosen) < wanted:
                server = queue.pop(0)
                chosen.append(Replica(server.node, server.storage, server.zone))
    placement = Placement(generation, nodes, zones, tuple(chosen))
    if problem := placement.problem():
        raise LogUnavailableError(
            f"a new segment needs {nodes} log-servers in {zones} zones; usable are "
            f"{', '.join(item.node for item in usable) or 'none'}: {problem}. Start more of them"
        )
    return placement
