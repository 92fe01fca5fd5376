"""The cluster as all of its nodes together see it.

Answers of different nodes are of different moments and may disagree. For each partition the one of
the highest epoch is believed, and that of its leader before others.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

from .answers import ClusterAnswer, PartitionAnswer


class Condition(StrEnum):
    """How a process is."""

    STARTING = "starting"
    JOINING = "joining"
    READY = "ready"
    SILENT = "silent"
    ENDED = "ended"


class NodePicture(msgspec.Struct, frozen=True):
    """One node.

    Attributes:
        pid: None before it was started.
        starts: how often it was.
        ending: how it ended, in words; empty while it runs.
        asked: whether it was told to end, or killed on demand.
        seen_as: what the other nodes take it for: alive, suspect, dead; empty when nobody says.
        leads, follows: how many partitions it leads and follows.
        lag: committed records that it has not applied, over all of them.
        records_per_second: that it commits; None while that is not known.
        last_lines: of its log, once it has ended by itself.
    """

    name: str
    pid: int | None
    starts: int
    condition: Condition
    ending: str
    asked: bool
    addresses: dict[str, str]
    seen_as: str
    leads: int
    follows: int
    lag: int
    records_per_second: float | None
    last_lines: tuple[str, ...]


class PartitionPicture(msgspec.Struct, frozen=True):
    """One partition.

    Attributes:
        leader: the node that leads, or else is to; None for one that does not run.
        leads_now: whether it says itself that it leads.
        replicas: the nodes that are to have it.
        lag: of the replica that is furthest behind, in records.
    """

    partition: int
    leader: str | None
    leads_now: bool
    epoch: int
    replicas: tuple[str, ...]
    applied_lsn: int
    lag: int


class WorkerPicture(msgspec.Struct, frozen=True):
    """One worker; fields as those of a node."""

    name: str
    pid: int | None
    starts: int
    runs: bool
    ending: str
    last_lines: tuple[str, ...]


class ClusterPicture(msgspec.Struct, frozen=True):
    """All of it, at one moment."""

    cluster: str
    nodes: tuple[NodePicture, ...]
    partitions: tuple[PartitionPicture, ...]
    workers: tuple[WorkerPicture, ...]
    warnings: tuple[str, ...]

    @property
    def ready(self) -> bool:
        """Whether every node has joined and every partition is led."""
        return (
            bool(self.partitions)
            and all(node.condition is Condition.READY for node in self.nodes)
            and all(partition.leads_now for partition in self.partitions)
        )

    def node(self, name: str) -> NodePicture:
        """The node of a name. Raises KeyError."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)


def merge_partitions(answers: Mapping[str, ClusterAnswer]) -> tuple[PartitionPicture, ...]:
    """The partitions by number, out of what the nodes that run say, by name."""
    rows: dict[int, dict[str, PartitionAnswer]] = {}
    for name, answer in answers.items():
        for row in answer.partitions:
            rows.setdefault(row.partition, {})[name] = row
    return tuple(_merge(number, rows[number]) for number in sorted(rows))


def _merge(number: int, rows: Mapping[str, PartitionAnswer]) -> PartitionPicture:
    def trust(item: tuple[str, PartitionAnswer]) -> tuple[int, bool, int]:
        _, row = item
        return row.epoch, row.role == "leader", row.applied_lsn

    teller, best = max(rows.items(), key=trust)
    leads_now = best.role == "leader"
    # Others tell who is to lead, which is a wish until that node leads.
    leader = teller if leads_now else best.leader if best.leader in rows else None
    holders = [row for name, row in rows.items() if name in best.replicas or name == leader]
    lag = 0
    for row in holders:
        # One that is cut off knows of no newer record; what the leader has applied tells it.
        lag = max(lag, row.lag, best.applied_lsn - row.applied_lsn if leads_now else 0)
    return PartitionPicture(
        number, leader, leads_now, best.epoch, best.replicas, best.applied_lsn, lag
    )


def merge_states(answers: Iterable[ClusterAnswer]) -> dict[str, str]:
    """What nodes are taken for by the others, the worst of what is said."""
    order = ("alive", "suspect", "dead")
    worst: dict[str, int] = {}
    for answer in answers:
        for member in answer.nodes:
            if member.name != answer.me and member.state in order:
                rank = order.index(member.state)
                worst[member.name] = max(worst.get(member.name, 0), rank)
    return {name: order[rank] for name, rank in worst.items()}


def merge_warnings(answers: Iterable[ClusterAnswer]) -> tuple[str, ...]:
    """Every warning once, in the order in which they are heard."""
    return tuple(dict.fromkeys(text for answer in answers for text in answer.warnings))
