"""Repair: what must change in a placement, because somebody is dead, drained, gone or missing."""

from .sketch import Sketch, Slot


def repair(sketch: Sketch) -> None:
    """Give every partition its copies and a leader, and change nothing else."""
    wanted = max(1, min(sketch.facts.nodes.replicas, len(sketch.workers)))
    for slot in sketch.slots:
        _repair_replicas(sketch, slot, wanted)
    for slot in sketch.slots:
        _spread(sketch, slot)
    for number, slot in enumerate(sketch.slots):
        _repair_leader(sketch, number, slot, wanted)
    _warn(sketch)


def _repair_replicas(sketch: Sketch, slot: Slot, wanted: int) -> None:
    useless = [
        node for node in slot.replicas if node not in sketch.workers or node in sketch.facts.lost
    ]
    while len(slot.replicas) - len(useless) < wanted:
        taker = best_taker(sketch, slot)
        if taker is None:
            break
        sketch.add(slot, taker)
    # A copy goes only where the ones that stay are enough, so a last copy never goes.
    useless.sort(key=lambda node: (node in sketch.facts.view.alive(), node))
    while useless and len(slot.replicas) > wanted:
        sketch.drop(slot, useless.pop(0))
    while len(slot.replicas) > wanted:
        sketch.drop(slot, _least_needed(sketch, slot))


def best_taker(sketch: Sketch, slot: Slot) -> int | None:
    """The node that should get a copy next: another zone first, then who has least."""
    taken = [sketch.node(node).failure_domain for node in slot.replicas if node in sketch.workers]
    takers = [
        node for node in sketch.takers if node not in slot.replicas and sketch.fit(slot, node)
    ]
    return min(
        takers,
        key=lambda node: (
            taken.count(sketch.node(node).failure_domain),
            sketch.replica_counts[node],
            sketch.leader_counts[node],
            node,
        ),
        default=None,
    )


def _least_needed(sketch: Sketch, slot: Slot) -> int:
    def need(node: int) -> tuple[bool, bool, bool, int, int, int]:
        others = [other for other in slot.replicas if other != node]
        return (
            node == slot.leader,
            sketch.fit(slot, node),
            node in sketch.leads,
            len(sketch.domains([node]) - sketch.domains(others)),
            -sketch.replica_counts[node],
            node,
        )

    return min(slot.replicas, key=need)


def _spread(sketch: Sketch, slot: Slot) -> None:
    """Put copies of one zone into several, where steady nodes allow it."""
    while True:
        have = sketch.domains(slot.replicas)
        if len(have) == len(slot.replicas):
            return
        fresh = [
            node
            for node in sketch.settled
            if node not in slot.replicas
            and sketch.node(node).failure_domain not in have
            and sketch.fit(slot, node)
        ]
        doubled = [
            node
            for node in slot.replicas
            if node != slot.leader
            and node in sketch.workers
            and sketch.domains([node])
            <= sketch.domains(other for other in slot.replicas if other != node)
        ]
        if not fresh or not doubled:
            return
        sketch.add(slot, min(fresh, key=lambda node: (sketch.replica_counts[node], node)))
        sketch.drop(slot, max(doubled, key=lambda node: (sketch.replica_counts[node], node)))


def _repair_leader(sketch: Sketch, number: int, slot: Slot, wanted: int) -> None:
    if slot.leader in sketch.leads and sketch.fit(slot, slot.leader):
        return
    fit = [node for node in slot.replicas if node in sketch.leads and sketch.fit(slot, node)]
    steady = [node for node in fit if node in sketch.takers]
    chosen = best_leader(sketch, number, steady or fit)
    if chosen is None:
        # Nobody who has it can lead it: somebody who can gets it, in the place of one who is dead.
        taker = best_taker(sketch, slot)
        if taker is None:
            sketch.lead(slot, 0)
            return
        if slot.replicas and len(slot.replicas) >= wanted:
            sketch.drop(slot, _least_needed(sketch, slot))
        sketch.add(slot, taker)
        chosen = taker
    sketch.lead(slot, chosen)


def best_leader(sketch: Sketch, number: int, fit: list[int]) -> int | None:
    """Who of those that can should lead: the furthest, then who leads least."""
    applied = sketch.facts.applied
    return min(
        fit,
        key=lambda node: (
            -applied.get((number, node), 0),
            node not in sketch.settled,
            sketch.leader_counts[node],
            node,
        ),
        default=None,
    )


def _unfit(sketch: Sketch, slot: Slot) -> list[str]:
    """The living nodes that keep a partition and cannot lead it."""
    return [
        sketch.node(node).name
        for node in sorted(slot.replicas)
        if node in sketch.leads and not sketch.fit(slot, node)
    ]


def _warn_of_unfit(sketch: Sketch) -> None:
    for slot in sketch.slots:
        if not slot.leader and (names := _unfit(sketch, slot)):
            where = ", ".join(names)
            sketch.warnings.append(
                f"partition {slot.number} has no leader, as its only copies that live are not to "
                f"be gone on from ({where}); start the nodes that have others; if none come back: "
                f"perdure partitions refill {slot.number} --on {names[0]}"
            )


def _warn(sketch: Sketch) -> None:
    replicas = sketch.facts.nodes.replicas
    if len(sketch.workers) < replicas:
        names = ", ".join(node.name for node in sketch.workers.values()) or "none"
        sketch.warnings.append(
            f"each partition is to have {replicas} replicas, but only {len(sketch.workers)} nodes "
            f"can have any ({names}): add nodes, or take drained ones back"
        )
    _warn_of_unfit(sketch)
    leaderless = [
        slot.number for slot in sketch.slots if not slot.leader and not _unfit(sketch, slot)
    ]
    if leaderless:
        sketch.warnings.append(
            f"{len(leaderless)} partitions have no leader, as no node that lives can have them: "
            f"{leaderless[:8]}; start a node with the role worker"
        )
    stuck = {
        node
        for slot in sketch.slots
        for node in slot.replicas
        if node not in sketch.workers or node in sketch.facts.lost
    }
    if stuck:
        names = ", ".join(sketch.node(node).name for node in sorted(stuck))
        sketch.warnings.append(
            f"nodes that are drained, dead or no workers still have partitions, as no other can "
            f"take them: {names}; add nodes"
        )
