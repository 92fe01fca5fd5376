"""What each log-server holds of a segment, and whether they agree: for people who look after it.

Only what is committed is compared; a batch on its way is on some servers before it is on others. A
server that was away lacks what came meanwhile, for ever: others have it.
"""

from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final, Literal, TypeAlias

import msgspec
import xxhash

from ...core.pauses import pause
from .clients import ask_all
from .members import Members, numbered
from .messages import FAILED, GONE, LOST, OK, Digest, GetInfo, Info, Reply, Request, Spans

Status: TypeAlias = Literal["ok", "no answer", "lost", "gone", "failed", "refused"]
"""``lost``: it has another disk than the segment was placed on. ``gone``: it has deleted it."""

Verdict: TypeAlias = Literal["whole", "thin", "missing", "conflict", "unknown"]
"""Of the committed batches that were compared:

- ``whole``: each is on as many servers as there are to be copies, of those that answered;
- ``thin``: one is on fewer; those that did not answer may have it;
- ``missing``: one is on none of those that answered;
- ``conflict``: two servers disagree where a batch begins or ends, which must never be;
- ``unknown``: nobody answered.
"""

PAGES_MAX: Final = 64
"""So many digests of each server are compared at a time: 262 144 batches at most."""

RANGES_SHOWN: Final = 16
"""Of ranges that a server lacks, so many are told."""

_STATUSES: Final[Mapping[int, Status]] = {OK: "ok", LOST: "lost", GONE: "gone", FAILED: "failed"}
_AGAIN_SECONDS: Final = 0.05


class ServerHolding(msgspec.Struct, frozen=True):
    """What one server holds of a segment. Offsets are the segment's own.

    Attributes:
        problem: why it did not answer, where that is known.
        tail: behind the last batch that is there.
        known_tail: everything below is committed, as far as the server knows.
        trim_point: the last offset trimmed there.
        sealed: it takes nothing from the sequencer any more.
        final_tail: where the segment ends for ever; 0 while the server has not heard of that.
        batches: how many of those compared are there.
        missing: first and last offset of ranges that are not, the first ones.
        digest: over first and last offset of each batch there, hex: the same where the same is.
    """

    node: str
    status: Status
    problem: str = ""
    tail: int = 1
    known_tail: int = 1
    trim_point: int = 0
    sealed: bool = False
    final_tail: int = 0
    batches: int = 0
    missing: tuple[tuple[int, int], ...] = ()
    digest: str = ""


class SegmentHoldings(msgspec.Struct, frozen=True):
    """What all servers hold of a segment, compared from `first_offset` to before `end_offset`.

    Attributes:
        copies: how many servers are to have each batch.
        fewest: on how many of those that answered the batch is that is on the fewest.
        complete: false where so much was asked for that only a part was compared.
    """

    verdict: Verdict
    first_offset: int
    end_offset: int
    copies: int
    fewest: int
    complete: bool
    servers: tuple[ServerHolding, ...]


class _Tally:
    """One server's batches as they come."""

    def __init__(self) -> None:
        self.batches = 0
        self.missing: list[tuple[int, int]] = []
        self._digest = xxhash.xxh3_128()

    def has(self, first: int, last: int) -> None:
        self.batches += 1
        self._digest.update(b"%d-%d;" % (first, last))

    def lacks(self, first: int, last: int) -> None:
        if self.missing and self.missing[-1][1] == first - 1:
            self.missing[-1] = (self.missing[-1][0], last)
        elif len(self.missing) < RANGES_SHOWN:
            self.missing.append((first, last))

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()


class Comparison:
    """Compares the servers' digests, page by page in order. Pure."""

    def __init__(
        self, members: Iterable[int], copies: int, first_offset: int, *, at_border: bool
    ) -> None:
        """Compare the batches of these members from an offset on.

        Args:
            at_border: whether a batch begins there; else the first that does is looked for.
        """
        self.tallies = {member: _Tally() for member in members}
        self.next_offset = first_offset
        self.conflict = self.hole = self._compared = False
        self._at_border = at_border
        self._copies = copies
        self.fewest = len(self.tallies)

    def page(self, digests: Mapping[int, Spans], end_offset: int) -> None:
        """Take the digests of all members from `next_offset` on, up to where all of them go."""
        offset = self.next_offset
        end = min(end_offset, *(max(item.end_offset, offset) for item in digests.values()))
        having: dict[tuple[int, int], set[int]] = {}
        for member, item in digests.items():
            for first, last in item.spans:
                if offset <= first < end:
                    having.setdefault((first, last), set()).add(member)
        for (first, last), members in sorted(having.items()):
            if first < offset or last >= end:
                self.conflict = True
            elif first > offset and self._at_border:
                self._nobody_has(offset, first - 1)
            self._at_border = True
            self.fewest = min(self.fewest, len(members))
            self._compared = True
            for member, tally in self.tallies.items():
                if member in members:
                    tally.has(first, last)
                else:
                    tally.lacks(first, last)
            offset = max(offset, last + 1)
        if offset < end:
            self._nobody_has(offset, end - 1)
        self.next_offset = max(offset, end)

    def _nobody_has(self, first: int, last: int) -> None:
        self.hole, self.fewest = True, 0
        for tally in self.tallies.values():
            tally.lacks(first, last)

    def verdict(self) -> Verdict:
        """What it came to so far."""
        if not self.tallies:
            return "unknown"
        if self.conflict:
            return "conflict"
        if self.hole:
            return "missing"
        return "thin" if self._compared and self.fewest < self._copies else "whole"


async def holdings(
    loglet: int,
    members: Members,
    *,
    first_offset: int,
    end_offset: int,
    known_tail: int,
    loop: AbstractEventLoop,
    answer_seconds: float,
) -> SegmentHoldings:
    """Ask all servers of a segment what they hold from `first_offset` to before `end_offset`.

    Batches are compared as wholes, so a little more may be. Nothing is changed by it. Cancelling is
    safe.

    Args:
        known_tail: everything below is known to be committed.
        answer_seconds: how long servers may take to answer, each time they are asked.
    """
    asking = _Asking(members, loop, answer_seconds)
    infos = await asking.all(
        lambda number, storage: GetInfo(number, storage, loglet), range(len(members.clients))
    )
    there = {
        member: reply
        for member, reply in infos.items()
        if isinstance(reply, Info) and reply.status == OK
    }
    committed = max([known_tail, *(item.known_tail for item in there.values())])
    border = max([0, *(item.trim_point for item in there.values())]) + 1
    start = max(first_offset, border)
    end = max(start, min(end_offset, committed))
    compared = Comparison(there, members.placement.nodes, start, at_border=start == border)
    pages = 0
    while compared.tallies and compared.next_offset < end and pages < PAGES_MAX:
        pages += 1
        replies = await asking.all(
            partial(_digest, loglet, compared.next_offset, committed), compared.tallies
        )
        digests = {
            member: reply
            for member, reply in replies.items()
            if isinstance(reply, Spans) and reply.status == OK
        }
        for member in set(compared.tallies) - set(digests):
            del compared.tallies[member]  # It went away meanwhile.
            infos[member] = replies[member]
        if digests:
            compared.page(digests, committed)
    return SegmentHoldings(
        verdict=compared.verdict(),
        first_offset=start,
        end_offset=compared.next_offset,
        copies=members.placement.nodes,
        fewest=compared.fewest,
        complete=compared.next_offset >= end,
        servers=tuple(
            _holding(members, member, reply, compared.tallies.get(member))
            for member, reply in sorted(infos.items())
        ),
    )


def _digest(loglet: int, first_offset: int, end_offset: int, number: int, storage: str) -> Request:
    return Digest(number, storage, loglet, first_offset, end_offset)


def _holding(
    members: Members, member: int, reply: Reply | None, tally: _Tally | None
) -> ServerHolding:
    client = members.clients[member]
    if not isinstance(reply, Info) or tally is None:
        if isinstance(reply, Info | Spans):
            return ServerHolding(client.node, _STATUSES.get(reply.status, "refused"))
        problem = "it did not answer in time" if client.is_connected else client.failure
        return ServerHolding(client.node, "no answer", problem)
    return ServerHolding(
        client.node,
        "ok",
        tail=reply.tail,
        known_tail=reply.known_tail,
        trim_point=reply.trim_point,
        sealed=reply.sealed,
        final_tail=0 if reply.final is None else reply.final.tail,
        batches=tally.batches,
        missing=tuple(tally.missing),
        digest=tally.digest,
    )


class _Asking:
    """Asks many servers at once, and again those that are not connected yet."""

    def __init__(self, members: Members, loop: AbstractEventLoop, seconds: float) -> None:
        self._members = members
        self._loop = loop
        self._seconds = seconds

    async def all(
        self, make: Callable[[int, str], Request], among: Iterable[int]
    ) -> dict[int, Reply | None]:
        """Their replies; None of those from which none came in time."""
        found: dict[int, Reply | None] = dict.fromkeys(among)
        deadline = self._loop.time() + self._seconds
        while True:
            await self._once(make, found, deadline)
            waits = any(reply is None for reply in found.values())
            if not waits or self._loop.time() + _AGAIN_SECONDS >= deadline:
                return found
            await pause(self._loop, _AGAIN_SECONDS)

    async def _once(
        self, make: Callable[[int, str], Request], found: dict[int, Reply | None], deadline: float
    ) -> None:
        asked = [member for member, reply in found.items() if reply is None]
        if not asked:
            return

        def heard(member: int, reply: Reply | None) -> bool:
            found[member] = reply
            return False

        members = self._members
        questions = [
            (member, members.clients[member], numbered(make, members.storage(member)))
            for member in asked
        ]
        await ask_all(self._loop, questions, heard, max(0.0, deadline - self._loop.time()))
