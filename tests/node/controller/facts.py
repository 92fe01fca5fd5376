"""Clusters to plan for, drawn or made by hand."""

from typing import Any

from perdure.core.random import SeededRandom
from perdure.metadata.nodes import Addresses, NodeConfiguration, NodeId, NodesConfiguration
from perdure.metadata.placement import Placement
from perdure.node.controller.planner import plan
from perdure.node.controller.sketch import Facts
from perdure.node.membership.view import MembershipView, NodeStatus

ROUNDS_MAX = 200


def nodes_of(
    count: int,
    *,
    partitions: int = 8,
    replicas: int = 3,
    zones: str = "",
    drained: tuple[int, ...] = (),
    idle: tuple[int, ...] = (),
) -> NodesConfiguration:
    """Nodes 1 to `count`; `zones` has a letter per node, `idle` ones are no workers."""
    nodes = NodesConfiguration(1, "c", "f", partitions, replicas, NodeId(count + 1))
    for number in range(1, count + 1):
        nodes = nodes.with_node(
            NodeConfiguration(
                NodeId(number),
                f"node-{number}",
                1,
                Addresses(f"h{number}:1"),
                ("admin",) if number in idle else ("admin", "worker"),
                zones[number - 1] if zones else "",
                "disabled",
                number in drained,
                "t",
            )
        )
    return nodes


def view_of(
    nodes: NodesConfiguration,
    *,
    dead: tuple[int, ...] = (),
    suspect: tuple[int, ...] = (),
    leaving: tuple[int, ...] = (),
    me: int = 1,
) -> MembershipView:
    def state(node_id: int) -> Any:
        return "dead" if node_id in dead else "suspect" if node_id in suspect else "alive"

    statuses = tuple(
        NodeStatus(node.id, node.generation, state(node.id), node.id in leaving)
        for node in nodes.nodes
    )
    return MembershipView(me, statuses, settled=True, isolated=False, doubted=False)


def facts_of(nodes: NodesConfiguration, **view: Any) -> Facts:
    """All that live are settled, and those that are dead are not lost yet."""
    seen = view_of(nodes, **view)
    return Facts(nodes, seen, settled=frozenset(seen.steady()))


def plan_to_the_end(facts: Facts, current: Placement | None) -> tuple[Placement, int]:
    """Plan until nothing changes; how many rounds that took."""
    for rounds in range(ROUNDS_MAX):
        planned = plan(facts, current).placement
        if planned == current:
            return planned, rounds
        current = planned
    raise AssertionError(f"placement still changes after {ROUNDS_MAX} rounds")


def moves(before: Placement, after: Placement) -> int:
    """How many partitions have another leader."""
    pairs = zip(before.partitions, after.partitions, strict=True)
    return sum(old.leader != new.leader for old, new in pairs)


def drawn(seed: int) -> tuple[Facts, Facts]:
    """Two states of one cluster, the second with other nodes dead, drained, settled and lost."""
    random = SeededRandom(seed)

    def some(of: list[int], share: float) -> tuple[int, ...]:
        return tuple(item for item in of if random.fraction() < share)

    count = 1 + int(random.fraction() * 9)
    ids = list(range(1, count + 1))
    zones = "".join("abc"[int(random.fraction() * 3)] for _ in ids) if random.bits(1) else ""
    both = []
    for share in (0.1, 0.35):
        nodes = nodes_of(
            count,
            partitions=1 + int(random.fraction() * 24),
            replicas=1 + int(random.fraction() * 5),
            zones=zones,
            drained=some(ids, share / 2),
            idle=some(ids, share / 2),
        )
        dead = some(ids, share)
        seen = view_of(nodes, dead=dead, suspect=some(ids, 0.1), leaving=some(ids, 0.1))
        settled = frozenset(node for node in seen.steady() if random.fraction() < 0.8)
        lost = frozenset(some(list(dead), 0.5))
        both.append(Facts(nodes, seen, settled, lost))
    return both[0], both[1]
