"""Upkeep: how well a segment is kept, and whether another nodeset would keep it better. Pure.

A member that is dead is likely to be back soon, and counts again then. So it is replaced only where
another server can take its place: a nodeset that is merely smaller bears no more failures, and it
cannot be ended before all of it is there. A member that an operator has taken out of use, or whose
disk is not there any more, goes in any case.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from .chain import Segment
from .errors import LogUnavailableError
from .placement import LogServer, Placement, place

Health: TypeAlias = Literal["whole", "under-replicated", "unavailable", "incomplete"]
"""How well a segment is kept.

- ``whole``: all members are there.
- ``under-replicated``: a member is not, so records may have fewer copies than there are to be.
- ``unavailable``: too few are there to append to it or to end it; it waits for some of them.
- ``incomplete``: so many disks are lost that records may be, too.
"""

IN_ORDER: Final = "whole"

HEALTHS: Final[tuple[Health, ...]] = ("whole", "under-replicated", "unavailable", "incomplete")
"""From good to bad."""


class SegmentHealth(msgspec.Struct, frozen=True):
    """How well one segment is kept, and why.

    Attributes:
        problems: what is wrong with members, for people, such as ``n3 is dead``.
        lost: the members whose disk is gone for good, as far as the nodes configuration says.
        away: those that are dead, with their disk.
    """

    health: Health
    problems: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    away: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ", ".join(self.problems) or self.health


class Review(msgspec.Struct, frozen=True):
    """Whether a log is to go on in a new segment.

    Attributes:
        reasons: what is wrong with the nodeset there is; empty where nothing is to be done.
        hindered: why it cannot be done now; empty where it can.
        kind: of the provider that is to keep the new segment; None keeps the one there is.
    """

    reasons: tuple[str, ...] = ()
    hindered: str = ""
    kind: str | None = None


def health_of(placement: Placement, servers: Iterable[LogServer]) -> SegmentHealth:
    """How well a segment is kept, by what is known of the servers now."""
    known = {(server.node, server.storage): server for server in servers}
    there, kept, problems = [], [], []
    lost, away = [], []
    for index, member in enumerate(placement.members):
        server = known.get((member.node, member.storage))
        if server is None:
            lost.append(member.node)
            problems.append(_lost(member.node))
            continue
        kept.append(index)
        if server.alive:
            there.append(index)
        else:
            away.append(member.node)
            problems.append(f"{member.node} is dead")
    health: Health = "under-replicated" if problems else IN_ORDER
    if not placement.is_f_majority(kept):
        health = "incomplete"
    elif not _can_end(placement, there, known):
        health = "unavailable"
    return SegmentHealth(health, tuple(problems), tuple(lost), tuple(away))


def renewable_through(segments: Sequence[Segment], servers: Iterable[LogServer]) -> int:
    """The last LSN of sealed segments that are kept where they should not be; 0 for none.

    A member has lost its disk, or an operator wants it to be out of use. Such a segment is not
    copied: nobody needs its records once a snapshot has what they did, and then it is trimmed. One
    whose member is merely dead is left alone, for that may be back soon.
    """
    fit = {(server.node, server.storage) for server in servers if not server.unwanted}
    for position in range(len(segments) - 2, -1, -1):
        placement = segments[position].params.placement
        if placement is not None and any(
            (member.node, member.storage) not in fit for member in placement.members
        ):
            return segments[position + 1].base_lsn - 1
    return 0


def review(
    placement: Placement,
    servers: Iterable[LogServer],
    *,
    nodes: int,
    zones: int,
    own: str,
    turn: int,
) -> Review:
    """Whether a segment's log should go on in another one, which `place` would place.

    Args:
        nodes: how many copies there are to be now, in so many `zones`.
        own, turn: see `place`.
    """
    servers = tuple(servers)
    known = {(server.node, server.storage): server for server in servers}
    there, fit, away, reasons = [], [], [], []
    for index, member in enumerate(placement.members):
        server = known.get((member.node, member.storage))
        if server is None:
            reasons.append(_lost(member.node))
            continue
        if server.alive:
            there.append(index)
        if server.unwanted:
            reasons.append(f"{member.node} {server.unwanted}")
        elif server.alive:
            fit.append(index)
        else:
            away.append(f"{member.node} is dead")
    if (placement.nodes, placement.zones) != (nodes, zones):
        reasons.append(f"there are to be {nodes} copies in {zones} zones")
    try:
        better = place(
            servers, nodes=nodes, zones=zones, own=own, generation=placement.generation, turn=turn
        )
    except LogUnavailableError as error:
        return Review(tuple(reasons), str(error) if reasons else "")
    # Dead ones fill up what `place` gives: they are no reason to change.
    living = [
        member
        for member in better.members
        if (server := known.get((member.node, member.storage))) is not None and server.alive
    ]
    if len(living) > len(fit):
        # There is somebody to take the place of who is away, or one place more can be taken.
        reasons += away or ([] if reasons else [f"{len(living)} log-servers can keep it"])
    if not reasons:
        return Review()
    if not _can_end(placement, there, known):
        return Review(
            tuple(reasons), "too few of its log-servers are there to end the segment: start them"
        )
    return Review(tuple(reasons))


def _can_end(
    placement: Placement,
    there: Collection[int],
    known: Mapping[tuple[str, str], LogServer],
) -> bool:
    """Whether those that are there can promise an end and accept it."""
    # That a disk is lost has to be heard of the server that has another one now.
    names = {server.node for server in known.values() if server.alive}
    lost = [
        index
        for index, member in enumerate(placement.members)
        if (member.node, member.storage) not in known and member.node in names
    ]
    return placement.is_f_majority(there) and placement.may_decide(there, lost)


def _lost(node: str) -> str:
    return f"{node} does not have the disk any more that it was placed on"
