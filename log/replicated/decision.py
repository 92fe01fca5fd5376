"""Deciding where a loglet ends, once and for ever, whoever asks and however often.

Single-decree Paxos (Lamport, "Paxos Made Simple") over the members, with quorums as in Howard's
"Flexible Paxos": who promises are an f-majority, who accepts are a write quorum, and any two of
these meet. The first phase is the seal at the same time:

1. *Seal* under a ballot. A member that promises takes nothing from the sequencer any more. Once an
   f-majority has promised, nothing new can be committed, and what was committed is below the
   furthest tail among the answers.
2. *Choose*: the end that was accepted under the greatest ballot, if any; else the furthest tail.
3. *Repair*, unless the end was accepted before: every batch from the known tail up to there gets to
   a write quorum, ascending, each copy taken from a member's digest. These stores carry the ballot,
   so a member that has promised a greater one refuses them: whoever has that promise has seen
   everything that was repaired before. They say nothing of being committed, for they may not be.
4. *Accept*: once a write quorum has, the end is decided. Everybody is told, best effort.

Where so many members have lost their disks that the others are no write quorum, but an f-majority
still, all of those others take its place in 3 and 4: whoever promises later is one of them, for the
lost never answer again. Where the others are no f-majority either, nothing ends the loglet but an
operator, who gives the lost up: then all others are every quorum. What only the lost had is lost.

What was acknowledged is never lost, and what was not is decided once, with the whole batch.
"""

import logging
from asyncio import AbstractEventLoop
from collections.abc import Collection, Iterator
from itertools import groupby
from typing import Final

from ...core.pauses import pause
from ...core.random import Random
from ..batch_codec import check_batch
from ..errors import CorruptBatchError
from .members import Members, good
from .messages import (
    OK,
    SUPERSEDED,
    Accept,
    Ballot,
    Batches,
    Decided,
    Digest,
    Fill,
    Finish,
    Info,
    Read,
    Seal,
    Spans,
    StoreResult,
)
from .tails import Copy, copies, final_of, known_tail, proposal

BACK_OFF_SECONDS: Final = (0.02, 0.5)
"""Between two attempts, least and most; more where attempts take long: see `Decision.run`."""

REPAIR_BYTES: Final = 1024 * 1024
"""So much of what is repaired is sent at a time, one longer batch aside."""

_LOG: Final = logging.getLogger(__name__)


class Decision:
    """This process's attempts to end one loglet.

    Attributes:
        problem: why the last attempt did not get through, for people.
    """

    def __init__(
        self,
        loglet: int,
        members: Members,
        *,
        who: str,
        random: Random,
        loop: AbstractEventLoop,
        answer_seconds: float,
    ) -> None:
        """Prepare.

        Args:
            who: tells this process's ballots from all others': node and generation.
            answer_seconds: how long members may take for one phase before it is begun again.
        """
        self.loglet = loglet
        self.problem = "nothing was tried yet"
        self._members = members
        self._who = who
        self._random = random
        self._loop = loop
        self._answer_seconds = answer_seconds
        # Grows for as long as this process lives, so that no ballot is used twice.
        self._round = 0
        # Whether somebody else's greater ballot was met in this attempt.
        self._outbid = False

    async def run(self) -> Decided:
        """Seal the loglet and give its end; tries until it is known. Raises LogletGoneError.

        Each attempt takes the promises away from those before, so two that go on at the same time
        keep each other from ending. So the pauses grow beyond what an attempt takes.

        Cancelling leaves open whether it is sealed; a ballot that was used is not used again.
        """
        failures = 0
        longest = 0.0
        while True:
            self._round += 1
            self._outbid = False
            began = self._loop.time()
            final = await self._try((self._round, self._who))
            if self._outbid:
                longest = max(longest, self._loop.time() - began)
            if final is not None:
                self._tell(final)
                return final
            least, most = BACK_OFF_SECONDS
            most = max(most, 4 * longest)
            seconds = min(least * 2**failures, most) * (0.5 + self._random.fraction())
            failures = min(failures + 1, 16)
            await pause(self._loop, seconds)

    def _tell(self, final: Decided) -> None:
        self._members.broadcast(
            lambda storage: Finish(storage, self.loglet, final.tail, final.record_time_ns)
        )

    async def _try(self, ballot: Ballot) -> Decided | None:
        promises = await self._members.collect(
            lambda number, storage: Seal(number, storage, self.loglet, ballot),
            Info,
            lambda found: self._have_promised(good(found)) or final_of(found) is not None,
            self._answer_seconds,
        )
        if (final := final_of(promises)) is not None:
            return final
        self._look_at_ballots(promises)
        if not self._have_promised(good(promises)):
            self.problem = (
                f"{self._names(good(promises))} of {len(promises)} that answered were sealed"
            )
            return None
        tail, record_time_ns, accepted = proposal(promises)
        if not accepted and not await self._repair(ballot, promises, tail):
            return None
        answers = await self._members.collect(
            lambda number, storage: Accept(
                number, storage, self.loglet, ballot, tail, record_time_ns
            ),
            Info,
            lambda found: self._are_enough(good(found)) or final_of(found) is not None,
            self._answer_seconds,
        )
        if (final := final_of(answers)) is not None:
            return final
        self._look_at_ballots(answers)
        if not self._are_enough(good(answers)):
            self.problem = (
                f"{self._names(good(answers))} of {len(answers)} that answered took its end"
            )
            return None
        return Decided(ballot, tail, record_time_ns)

    def _are_enough(self, present: Collection[int]) -> bool:
        """Whether these are a write quorum, or what stands for one after disks were lost."""
        members = self._members
        return members.placement.may_decide(present, members.lost) or members.are_all_left(present)

    def _have_promised(self, present: Collection[int]) -> bool:
        """Whether these are an f-majority, or what stands for one after disks were given up."""
        members = self._members
        return members.placement.is_f_majority(present) or members.are_all_left(present)

    def _look_at_ballots(self, answers: dict[int, Info]) -> None:
        mine = self._round, self._who
        for answer in answers.values():
            self._outbid = self._outbid or answer.promised > mine
        self._round = max(self._round, *(answer.promised[0] for answer in answers.values()), 0)

    def _names(self, members: list[int]) -> str:
        return ", ".join(self._members.clients[item].node for item in members) or "none"

    # Repair --------------------------------------------------------------------------------------

    async def _repair(self, ballot: Ballot, promises: dict[int, Info], tail: int) -> bool:
        """Have a write quorum hold every batch up to `tail`; False when that failed."""
        offset = known_tail(promises)
        members = good(promises)
        while offset < tail:
            found = await self._digests(members, offset, tail)
            if not found:
                self.problem = f"nobody gives the batch at offset {offset}"
                return False
            for run in _runs(found):
                if not await self._repair_run(ballot, run):
                    return False
            offset = found[-1].last_offset + 1
        return True

    async def _digests(self, members: list[int], first_offset: int, tail: int) -> list[Copy]:
        digests = await self._members.collect(
            lambda number, storage: Digest(number, storage, self.loglet, first_offset, tail),
            Spans,
            lambda found: False,
            self._answer_seconds,
            among=members,
        )
        return copies(
            digests, first_offset, [item for item in digests if digests[item].status == OK]
        )

    async def _repair_run(self, ballot: Ballot, run: list[Copy]) -> bool:
        """Repair batches that the same members have, as many at a time as one answer holds."""
        having = run[0].members
        if self._are_enough(having):
            return True
        members = range(len(self._members.placement.members))
        lacking = [item for item in members if item not in having]

        def enough(found: dict[int, StoreResult]) -> bool:
            stored = [item for item in found if found[item].status == OK]
            return self._are_enough([*having, *stored])

        while run:
            batches = await self._fetch(run)
            if not batches:
                self.problem = f"nobody gives the batch at offset {run[0].first_offset}"
                return False
            results = await self._members.collect(
                lambda number, storage, batches=batches: Fill(  # type: ignore[misc]
                    number, storage, self.loglet, ballot, batches
                ),
                StoreResult,
                lambda found: enough(dict(found)),
                self._answer_seconds,
                among=lacking,
            )
            if not enough(results):
                self._outbid = any(item.status == SUPERSEDED for item in results.values())
                self.problem = f"too few take the batch at offset {run[0].first_offset}"
                return False
            run = run[len(batches) :]
        return True

    async def _fetch(self, run: list[Copy]) -> list[tuple[int, bytes]]:
        """The first batches of a run as they are stored, from one who has them."""
        for member in run[0].members:
            reply = await self._members.ask(
                member,
                lambda number, storage: Read(
                    number, storage, self.loglet, run[0].first_offset, REPAIR_BYTES, 0, True
                ),
                Batches,
                self._answer_seconds,
            )
            found: list[tuple[int, bytes]] = []
            for copy, (last_offset, value) in zip(
                run, () if reply is None else reply.batches, strict=False
            ):
                if last_offset != copy.last_offset or not self._is_sound(last_offset, value):
                    break
                found.append((last_offset, value))
            if found:
                return found
        return []

    def _is_sound(self, last_offset: int, value: bytes) -> bool:
        try:
            check_batch(self.loglet, last_offset, value)
        except CorruptBatchError as error:
            _LOG.warning("a copy was not used for repair: %s", error)
            return False
        return True


def _runs(found: list[Copy]) -> Iterator[list[Copy]]:
    """Neighbours that the same members have."""
    for _, run in groupby(found, key=lambda copy: copy.members):
        yield list(run)
