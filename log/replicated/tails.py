"""What the members' answers say about where a loglet ends. Pure functions of those answers."""

from collections.abc import Collection, Mapping

import msgspec

from ..placement import Placement
from .members import good
from .messages import Decided, Info, Spans


def final_of(replies: Mapping[int, Info]) -> Decided | None:
    """The end for ever, if one of the members has heard of it."""
    return next((reply.final for reply in replies.values() if reply.final is not None), None)


def any_sealed(replies: Mapping[int, Info]) -> bool:
    """Whether somebody has begun to seal it."""
    return any(replies[member].sealed for member in good(replies))


def furthest_tail(placement: Placement, replies: Mapping[int, Info]) -> int | None:
    """A tail above everything that was committed before the members were asked; None while too few
    have answered.

    What was committed is at a write quorum, of which an f-majority has at least one member.
    """
    members = good(replies)
    if not placement.is_f_majority(members):
        return None
    return max(max(replies[member].tail, replies[member].known_tail) for member in members)


def is_committed(placement: Placement, replies: Mapping[int, Info], tail: int) -> bool:
    """Whether everything below `tail` is committed, given answers of members that are not sealed.

    Then no end that is decided later is below: whoever seals meets one of those that have it.
    """
    members = good(replies)
    if any(replies[member].known_tail >= tail for member in members):
        return True
    there = [
        member for member in members if replies[member].tail >= tail and not replies[member].sealed
    ]
    return placement.is_write_quorum(there)


def proposal(replies: Mapping[int, Info]) -> tuple[int, int, bool]:
    """What a ballot may propose, given the promises of an f-majority.

    Gives tail, record time and whether it was accepted before. An end that a write quorum has
    accepted is among these promises with the greatest ballot (single-decree Paxos), and then it is
    the one. Else nothing was decided, and the furthest tail found is not below what was
    acknowledged.
    """
    members = good(replies)
    accepted = [item for member in members if (item := replies[member].accepted) is not None]
    if accepted:
        last = max(accepted, key=lambda item: item.ballot)
        return last.tail, last.record_time_ns, True
    tail = max(max(replies[member].tail, replies[member].known_tail) for member in members)
    return tail, record_time_ns(replies), False


def record_time_ns(replies: Mapping[int, Info]) -> int:
    """A record time that is not below any batch's which the members have."""
    return max((reply.record_time_ns for reply in replies.values()), default=0)


def known_tail(replies: Mapping[int, Info]) -> int:
    """Everything below is committed."""
    return max(
        max(replies[member].known_tail, replies[member].trim_point + 1) for member in good(replies)
    )


class Copy(msgspec.Struct, frozen=True):
    """A batch and the members that have it."""

    first_offset: int
    last_offset: int
    members: tuple[int, ...]


def copies(digests: Mapping[int, Spans], first_offset: int, members: Collection[int]) -> list[Copy]:
    """Who has which batch, from `first_offset` on without a gap, as far as the digests go."""
    by_first: dict[int, dict[int, list[int]]] = {}
    end = min((digests[member].end_offset for member in members), default=first_offset)
    for member in members:
        for first, last in digests[member].spans:
            by_first.setdefault(first, {}).setdefault(last, []).append(member)
    trimmed = max((digests[member].trim_point for member in members), default=0)
    found: list[Copy] = []
    offset = max(first_offset, trimmed + 1)
    while offset < end and (lasts := by_first.get(offset)):
        # Borders are the sequencer's and the same everywhere.
        assert len(lasts) == 1, f"members disagree about the batch at {offset}: {lasts}"
        ((last, having),) = lasts.items()
        found.append(Copy(offset, last, tuple(sorted(having))))
        offset = last + 1
    return found
