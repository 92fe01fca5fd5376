"""What anybody was told of a loglet, checked at the moment of telling.

The numbers are those of the log's checklist: L1 agreement, L2 no gaps, L3 acknowledged is readable,
L4 nothing is acknowledged at or above the sealed tail, L5 one sealed tail, L6 the tail never goes
back, L9 trimming, L11 batches are atomic, L12 a tail is above what was acknowledged.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from ....log.types import Batch, TailState
from ..violation import InvariantViolation, require


@dataclass(slots=True)
class LogletHistory:
    """Everything that is known of one loglet.

    Attributes:
        copies: whether a write quorum of disks has the batch at these offsets, durable; None when
            that cannot be told.
        assigned: by offset - 1, the body of each record that the sequencer took.
        acknowledged: the last offset that the sequencer told of.
        tail: the greatest tail that anybody was told.
        sealed_tail: the end, 0 while nobody was told one.
        shown: the last offset that anybody has read.
        batches: by first offset the last one, of every batch that anybody has seen.
        trim_asked: the last offset that anybody asked to trim.
        trim_point: the last offset that somebody was told to be trimmed.
        may_be_lost: the offsets whose copies were all on disks that were lost, where somebody has
            accepted that.
    """

    copies: Callable[[Batch], bool | None]
    assigned: list[bytes] = field(default_factory=list)
    acknowledged: int = 0
    tail: int = 1
    sealed_tail: int = 0
    shown: int = 0
    batches: dict[int, int] = field(default_factory=dict)
    trim_asked: int = 0
    trim_point: int = 0
    may_be_lost: frozenset[int] = frozenset()

    def _given_up(self, first: int, end: int) -> bool:
        """Whether all of these may be lost."""
        return all(offset in self.may_be_lost for offset in range(first, end))

    def took(self, offset: int, bodies: list[bytes]) -> None:
        """The sequencer gave out offsets."""
        require(offset == len(self.assigned) + 1, "offsets are given in order", offset)
        self.assigned += bodies

    def told(self, batch: Batch) -> None:
        """The sequencer's listener is told of a batch."""
        require(
            batch.first_offset == self.acknowledged + 1,
            "commits are told in order",
            f"{batch.first_offset} after {self.acknowledged}",
        )
        self._same("told to the listener", batch)
        require(
            not self.sealed_tail
            or batch.last_offset < self.sealed_tail
            or self._given_up(batch.first_offset, batch.last_offset + 1),
            "nothing is acknowledged at or above the sealed tail",
            f"{batch.last_offset}, sealed at {self.sealed_tail}",
        )
        require(
            self.copies(batch) is not False,
            "what is acknowledged is durable on a write quorum",
            f"{batch.first_offset} to {batch.last_offset}",
        )
        self.acknowledged = batch.last_offset

    def _same(self, who: str, batch: Batch) -> None:
        bodies = [record.body for record in batch.records]
        expected = self.assigned[batch.first_offset - 1 : batch.last_offset]
        require(bodies == expected, "a record never changes", f"{batch.first_offset}, {who}")
        last = self.batches.setdefault(batch.first_offset, batch.last_offset)
        require(
            last == batch.last_offset,
            "a batch is never cut",
            f"{batch.first_offset} to {batch.last_offset}, before to {last}, {who}",
        )

    def asks_tail(self) -> tuple[int, int, int]:
        """Somebody begins to ask for the tail; hand the result to `tail_is`."""
        return self.acknowledged, self.tail, self.sealed_tail

    def tail_is(self, who: str, before: tuple[int, int, int], state: TailState) -> None:
        """Somebody who asked is told a tail."""
        acknowledged, tail, sealed_tail = before
        what = f"{who} is told {state}"
        require(
            state.offset > acknowledged or self._given_up(state.offset, acknowledged + 1),
            "a tail is above what was acknowledged before",
            f"{what}, acknowledged was {acknowledged}",
        )
        require(
            state.offset >= tail or bool(self.sealed_tail) or self._given_up(state.offset, tail),
            "the tail never goes back",
            f"{what} after {tail}",
        )
        require(state.offset <= len(self.assigned) + 1, "a tail is not made up", what)
        require(state.sealed or not sealed_tail, "sealed is for ever", what)
        if state.sealed:
            self._sealed(what, state.offset)
        elif self.sealed_tail:
            require(state.offset <= self.sealed_tail, "the sealed tail is the last", what)
        self.tail = max(self.tail, state.offset)

    def _sealed(self, what: str, offset: int) -> None:
        self.sealed_tail = self.sealed_tail or offset
        require(offset == self.sealed_tail, "there is one sealed tail", f"{what}, not {self}")
        end = max(self.acknowledged + 1, self.tail)
        require(
            self.shown < offset and (end <= offset or self._given_up(offset, end)),
            "what was acknowledged, shown or told as the tail is below the sealed tail",
            f"{what}: {self.acknowledged}, {self.shown}, {self.tail}",
        )

    def read(self, who: str, first_offset: int, batches: list[Batch]) -> None:
        """Somebody is given batches from an offset on."""
        expected = first_offset
        for batch in batches:
            require(
                batch.first_offset <= expected <= batch.last_offset,
                "reads have no gaps",
                f"{who} gets {batch.first_offset} to {batch.last_offset} at {expected}",
            )
            self._same(f"read by {who}", batch)
            require(
                not self.sealed_tail or batch.last_offset < self.sealed_tail,
                "nothing is shown at or above the sealed tail",
                f"{who} gets {batch.last_offset}, sealed at {self.sealed_tail}",
            )
            expected = batch.last_offset + 1
            self.shown = max(self.shown, batch.last_offset)

    def trimmed(self, who: str, trim_point: int) -> None:
        """Somebody is told how far the loglet is trimmed."""
        require(
            trim_point <= self.trim_asked,
            "only what may go is trimmed",
            f"{who} is told {trim_point}, asked for was {self.trim_asked}",
        )
        require(
            trim_point < (self.sealed_tail or self.tail + len(self.assigned)),
            "trimming never passes what is committed",
            f"{who} is told {trim_point}",
        )

    def check_end(self, who: str, tail: TailState, trim_point: int, batches: list[Batch]) -> None:
        """Everything was sealed, and somebody has read all of it."""
        require(tail.sealed, "what was sealed is sealed", f"{who}: {tail}")
        require(trim_point <= self.trim_asked, "only what may go is trimmed", who)
        # A server that has not heard of a trim may give more.
        expected = batches[0].first_offset if batches else tail.offset
        require(expected <= trim_point + 1, "nothing is missing", f"{who} begins at {expected}")
        for batch in batches:
            require(batch.first_offset == expected, "nothing is missing", f"{who} at {expected}")
            expected = batch.last_offset + 1
        if expected != tail.offset:
            raise InvariantViolation(
                "everything below the sealed tail is there", f"{who} gets to {expected} of {tail}"
            )
