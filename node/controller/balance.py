"""Balance: what may change in a placement so that no settled node has much more than another.

Each change makes the sum of the squares of the counts smaller, so balancing ends; a difference of
one is left alone. What an operator has moved stays. A lead goes only to a node that is close
behind: no difference of counts is worth a partition that waits.
"""

from collections import deque

from .repair import best_leader
from .sketch import Sketch, Slot


def balance(sketch: Sketch, *, moves_max: int) -> None:
    """Move copies, then leads, at most `moves_max` of each."""
    for _ in range(moves_max):
        if not _move_replica(sketch):
            break
    for _ in range(moves_max):
        if not _move_lead(sketch):
            break


def _move_replica(sketch: Sketch) -> bool:
    counts = sketch.replica_counts
    fullest = sorted(sketch.settled, key=lambda node: (-counts[node], node))
    emptiest = sorted(sketch.settled, key=lambda node: (counts[node], node))
    for source in fullest:
        for target in emptiest:
            if counts[source] - counts[target] < 2:
                break
            movable = [
                (slot.leader == source, number)
                for number, slot in enumerate(sketch.slots)
                if _may_swap(sketch, slot, source, target)
            ]
            if movable:
                is_led, number = min(movable)
                _swap(sketch, number, source, target, is_led=is_led)
                return True
    return False


def _may_swap(sketch: Sketch, slot: Slot, source: int, target: int) -> bool:
    if slot.moved or source not in slot.replicas or target in slot.replicas:
        return False
    if not sketch.fit(slot, target):
        return False
    if slot.leader == source and len(slot.replicas) > 1 and not _heirs(sketch, slot):
        # With one copy there is nobody who could be near, and the copy goes with the lead.
        return False
    after = [target if node == source else node for node in slot.replicas]
    return len(sketch.domains(after)) >= len(sketch.domains(slot.replicas))


def _swap(sketch: Sketch, number: int, source: int, target: int, *, is_led: bool) -> None:
    slot = sketch.slots[number]
    sketch.drop(slot, source)
    sketch.add(slot, target)
    if is_led:
        # Somebody who has it already goes on, rather than the new one.
        heirs = _heirs(sketch, slot, but=target)
        sketch.lead(slot, best_leader(sketch, number, heirs) or target)


def _heirs(sketch: Sketch, slot: Slot, *, but: int = 0) -> list[int]:
    """Who could take the lead of a partition over, from whoever has it."""
    return [
        node
        for node in slot.replicas
        if node in sketch.takers
        and node not in (slot.leader, but)
        and sketch.fit(slot, node)
        and sketch.is_near(slot, node)
    ]


def _move_lead(sketch: Sketch) -> bool:
    """Pass one lead on from who has most to who has fewest, over others where it must be."""
    counts = sketch.leader_counts
    for source in sorted(sketch.settled, key=lambda node: (-counts[node], node)):
        path = _path(sketch, source)
        if path:
            for slot, node in reversed(path):
                sketch.lead(slot, node)
            return True
    return False


def _path(sketch: Sketch, source: int) -> list[tuple[Slot, int]]:
    """The shortest way to a node that leads two less: each step passes one partition on."""
    counts = sketch.leader_counts
    came_by: dict[int, tuple[int, Slot]] = {}
    waiting = deque((source,))
    while waiting:
        node = waiting.popleft()
        if counts[source] - counts[node] >= 2:
            path: list[tuple[Slot, int]] = []
            while node != source:
                before, slot = came_by[node]
                path.append((slot, node))
                node = before
            return path[::-1]
        for slot in sketch.slots:
            if slot.leader != node or slot.moved:
                continue
            for target in sorted(slot.replicas):
                if target in came_by or target == source or not sketch.fit(slot, target):
                    continue
                if target in sketch.settled and sketch.is_near(slot, target):
                    came_by[target] = node, slot
                    waiting.append(target)
    return []
