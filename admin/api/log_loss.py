"""Sealing a log whose last segment has lost so many disks that nothing else can end it.

The checks, before anything is given up. Whoever is left has to answer, for what they have is what
stays; and no replica may have applied more than that, for the log would go on behind it with other
records under the same LSNs.
"""

from collections.abc import Sequence
from typing import Final

from ...log.chain import Segment
from ...log.replicated.holdings import SegmentHoldings, ServerHolding
from ...log.virtual_log import VirtualLog
from ..errors import LossRefusedError
from ..view import AdminView
from .log_answers import LossPlan

_NODES_SHOWN: Final = 8


async def plan_loss(view: AdminView, log: VirtualLog) -> LossPlan:
    """What a seal that accepts the loss would come to.

    Raises LossRefusedError where a seal without it works, or will once somebody is back; where
    nobody is left; and where a replica has applied more. Raises what log and metadata raise.
    """
    await log.refresh()
    segment = log.chain.tail
    name = f"segment {segment.index} of log {log.log}"
    health = view.segment_health(segment)
    if log.chain.sealed_tail is not None:
        raise LossRefusedError(
            f"log {log.log} is sealed already: open it with perdure logs reconfigure {log.log}"
        )
    if health is None:
        raise LossRefusedError(f"{name} is kept on one node, and there is nothing to give up")
    if health.away:
        raise LossRefusedError(
            f"{_names(health.away)} of {name} {_are(health.away)} dead, and may have what nobody "
            "else has: start it. If its disk is lost, start it once with an empty directory and "
            "cluster.accept_storage_loss=true"
        )
    if not health.lost or health.health == "under-replicated":
        raise LossRefusedError(
            f"{name} is {health.health}, so a seal needs no loss to be accepted: leave "
            "--accept-loss out"
        )
    held = await view.segment_holdings(segment, 1, segment.offset_of(1 << 62), 1)
    assert held is not None, "it has log-servers"
    left = _left(held, health.lost, name)
    tail_lsn = segment.lsn_of(max(max(item.tail, item.known_tail) for item in left))
    _check_replicas(view, log, tail_lsn)
    return LossPlan(
        log=log.log,
        segment=segment.index,
        lost=list(health.lost),
        left=[item.node for item in left],
        tail_lsn=tail_lsn,
        missing=_missing(segment, held),
    )


def _left(held: SegmentHoldings, lost: tuple[str, ...], name: str) -> list[ServerHolding]:
    left = [item for item in held.servers if item.node not in lost]
    silent = [item.node for item in left if item.status != "ok"]
    if silent:
        raise LossRefusedError(
            f"{_names(silent)} of {name} {_are(silent)} left and did not answer, and may have what "
            "nobody else has: look at it, then try again"
        )
    if not left:
        raise LossRefusedError(
            f"no log-server of {name} is left: nobody knows where it ended. Restore the base "
            "directories from backups of one time"
        )
    return left


def _check_replicas(view: AdminView, log: VirtualLog, tail_lsn: int) -> None:
    applied = dict(view.cluster_view.applied_elsewhere(log.log))
    detail = view.partition(log.log)
    # Of a copy that is not to be gone on from nothing follows, here as elsewhere.
    if detail is not None and detail.status.counts:
        applied[view.node_name] = detail.status.applied_lsn
    for node, lsn in sorted(applied.items()):
        if lsn >= tail_lsn:
            raise LossRefusedError(
                f"{node} has applied log {log.log} up to LSN {lsn}, and what is left of it ends "
                f"before LSN {tail_lsn}: the log would go on with other records under the same "
                "LSNs. Bring one of the lost disks back; or restore the base directories from "
                "backups of one time"
            )


def _missing(segment: Segment, held: SegmentHoldings) -> list[tuple[int, int]]:
    """What is committed and on none of those that are left."""
    there = [item for item in held.servers if item.status == "ok"]
    found = [set(item.missing) for item in there]
    everywhere = set.intersection(*found) if found else set()
    return [(segment.lsn_of(first), segment.lsn_of(last)) for first, last in sorted(everywhere)]


def _names(nodes: Sequence[str]) -> str:
    return ", ".join(nodes[:_NODES_SHOWN])


def _are(nodes: Sequence[str]) -> str:
    return "are" if len(nodes) > 1 else "is"
