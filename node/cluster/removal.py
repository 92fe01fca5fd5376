"""Whether a node can be done without: what has to be so before it is taken out for good.

Pure. A node that is dead stores nothing any more, so what is found stays true until it is back.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from ...core.ids import LogId
from ...log.chain import Chain, Segment
from ...log.placement import Placement as SegmentPlacement
from ...metadata.nodes import NodeConfiguration, NodesConfiguration
from ...metadata.placement import Placement
from ..membership.view import MembershipView
from .errors import NodeChangeError
from .parts import disk_name

_SHOWN_MAX: Final = 8


def check_removal(
    view: MembershipView,
    placement: Placement | None,
    node: NodeConfiguration,
    *,
    lost: bool,
) -> None:
    """Refuse what lives or is still to have partitions. Raises NodeChangeError.

    Args:
        lost: somebody vouches that a silent node will never come back. Then nobody may be sure
            enough to have others take its partitions, so it is enough that others keep them.
    """
    check_dead(view, node, lost=lost)
    if placement is None:
        return
    led, kept = placement.led_by(node.id), placement.kept_by(node.id)
    if lost:
        alive = {status.node_id for status in view.nodes if status.state == "alive"}
        alone = [item for item in kept if not alive & set(placement.partitions[item].replicas)]
        if alone:
            raise NodeChangeError(
                "name",
                f"node {node.name!r} keeps partitions {_numbers(alone)}, and no other node that "
                "keeps them is alive: start one of those first",
            )
        return
    if not led and not kept:
        return
    has = f"leads partitions {_numbers(led)} and " if led else ""
    raise NodeChangeError(
        "name",
        f"node {node.name!r} {has}keeps partitions {_numbers(kept)}: drain it, wait until it keeps "
        "none, then remove it",
    )


def check_dead(view: MembershipView, node: NodeConfiguration, *, lost: bool) -> None:
    """Refuse a node that lives, or may live. Raises NodeChangeError."""
    status = view.status(node.id)
    if status is None or status.state == "dead":
        return
    if status.state == "alive":
        raise NodeChangeError("name", f"node {node.name!r} ({node}) is alive: stop it first")
    if not lost:
        raise NodeChangeError(
            "name",
            f"node {node.name!r} ({node}) is silent and not known to be dead: wait until it is. "
            "Where so many are lost that the others cannot tell, and this one is certain never to "
            "come back, say so with lost=true",
        )


def check_nodesets(
    nodes: NodesConfiguration,
    chains: Mapping[LogId, Chain],
    node: NodeConfiguration,
    *,
    lost: bool,
) -> None:
    """Refuse a node that a log may not do without. Raises NodeChangeError.

    A segment that takes records may not be kept on it, and of every other one the nodes that are
    left must certainly have each record between them. With `lost` the latter is enough: nobody may
    be there to have a log go on elsewhere.
    """
    counting = {
        disk_name(other.id)
        for other in nodes.nodes
        if other.id != node.id and other.storage in ("read-write", "read-only")
    }
    open_logs: list[int] = []
    needed: list[int] = []
    for log, chain in sorted(chains.items()):
        placed = [segment for segment in chain.segments if _is_on(segment, node)]
        if any(_needs(segment.params.placement, counting) for segment in placed):
            needed.append(log)
        elif not lost and chain.sealed_tail is None and chain.tail in placed:
            open_logs.append(log)
    if needed:
        raise NodeChangeError(
            "name",
            f"node {node.name!r} may have the last copy of records of logs {_numbers(needed)}: "
            "bring it back. Or take snapshots and trim those logs until the segments that it keeps "
            "are gone",
        )
    if open_logs:
        raise NodeChangeError(
            "name",
            f"node {node.name!r} is to keep new records of logs {_numbers(open_logs)}: have each "
            f"of them go on without it first (perdure logs reconfigure {open_logs[0]})",
        )


def _is_on(segment: Segment, node: NodeConfiguration) -> bool:
    placement = segment.params.placement
    return placement is not None and any(
        member.storage == disk_name(node.id) for member in placement.members
    )


def _needs(placement: SegmentPlacement | None, counting: set[str]) -> bool:
    if placement is None:
        return False
    left = [index for index, member in enumerate(placement.members) if member.storage in counting]
    return not placement.is_f_majority(left)


def _numbers(items: Iterable[int]) -> str:
    found = [str(item) for item in items]
    more = f" and {len(found) - _SHOWN_MAX} more" if len(found) > _SHOWN_MAX else ""
    return ", ".join(found[:_SHOWN_MAX]) + more
