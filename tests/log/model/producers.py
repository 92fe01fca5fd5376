"""A producer of the model: numbers its appends, keeps several in flight, resends in order."""

from collections import deque
from typing import TYPE_CHECKING

from perdure.log.answers import (
    Answer,
    Committed,
    Conflict,
    Duplicate,
    Indeterminate,
    NotChangedSince,
    OutOfOrder,
    Overloaded,
    Producer,
    Sealed,
    StaleSnapshot,
    WrongSegment,
)
from perdure.log.sequencer import Append

from .checkers import Violation
from .clients import KEYS, Client, Request

if TYPE_CHECKING:
    from .world import World

WINDOW = 3


class ProducerClient(Client):
    """Contiguous numbers per epoch; an epoch belongs to one segment.

    Within its segment an append is sent again under the same numbers until it is answered. Once the
    segment is sealed the log is read to its end; what is absent goes on, in order, under the next
    epoch and the next segment. Every append names its segment: a late copy of number 1 would
    otherwise begin its old epoch behind the reader's back.
    """

    pause = 5.0

    def __init__(self, world: "World", number: int) -> None:
        super().__init__(world, number)
        self._id = b"producer%08d" % number
        # On the condition that a key which it does not write has not changed; one at a time.
        self._conditional = world.chance(0.3) and not world.rules.producers_name_no_segment
        self._epoch = 1
        self._segment = world.chain.tail.index
        self._sequence = 1
        self._pending: deque[Request] = deque()
        self._resending = False
        self._moving = False
        # (request, attempt) of this epoch.
        self._counts: set[tuple[int, int]] = set()

    def begin(self) -> None:
        world = self.world
        if not world.faults:
            return
        if len(self._pending) < (1 if self._conditional else WINDOW) and not self._moving:
            request = self.request(numbered=True)
            request.invoked_after = world.history.acked_max
            # Copies do no harm to what is numbered, from the first one on.
            request.doubt = True
            self._pending.append(request)
            self.busy = True
            self.read()
            self._number(request, world.random.randint(1, 2))
            self._transmit(request)
        self.begin_later()

    def _number(self, request: Request, count: int) -> None:
        read = self.view.applied_lsn
        conditions = (NotChangedSince(KEYS[0], read),) if self._conditional else ()
        keys = KEYS[1:] if self._conditional else KEYS
        append = self.append(request, [(self.world.random.choice(keys),)] * count, conditions)
        producer = Producer(self._id, self._epoch, self._sequence)
        self._sequence += count
        unnamed = self.world.rules.producers_name_no_segment
        segment = None if unnamed else self._segment
        request.append = Append(append.records, conditions, None, producer, segment)

    def _transmit(self, request: Request) -> None:
        assert request.append is not None
        self.send(request, request.append)
        self._counts.add((request.number, request.attempt))

    def _resend_soon(self) -> None:
        if not self._resending:
            self._resending = True
            self.world.later(6, self._resend)

    def _resend(self) -> None:
        self._resending = False
        if not self._moving:
            for request in self._pending:
                self._transmit(request)

    def in_doubt(self, request: Request) -> None:
        if self._moving:
            return
        if self.world.chain.tail.index != self._segment:
            self._move()
        else:
            self._resend_soon()

    def answered(self, request: Request, attempt: int, answer: Answer, known_lsn: int) -> None:
        self.known_lsn = max(self.known_lsn, known_lsn)
        if request.state != "open" or (request.number, attempt) not in self._counts:
            return
        self.world.log("{} of a producer hears {}", request.name, answer)
        unnamed = self.world.rules.producers_name_no_segment
        match answer:
            case Committed() | Duplicate():
                self._done(request)
            case OutOfOrder() if unnamed and self.world.chain.tail.index != self._segment:
                self._move()
            case Conflict() if self._conditional:
                # Final although earlier sends were in doubt: a copy that got in is a duplicate.
                self._sequence -= len(request.append.records) if request.append else 0
                self._done(request, "lost")
            case StaleSnapshot(floor) if self._conditional:
                self.after_reading(request, lambda: self.view.next_lsn > floor, self._derive)
            case OutOfOrder() | Overloaded():
                self._resend_soon()
            case Sealed() | WrongSegment() | Indeterminate():
                self._move()
            case _:
                raise Violation("producer", f"{request} hears {answer}")

    def _derive(self, request: Request) -> None:
        """Under the same number, with what was read since."""
        if not self._moving and request.append is not None:
            count = len(request.append.records)
            self._sequence -= count
            # What is said of older snapshots counts no more.
            self._counts = {sent for sent in self._counts if sent[0] != request.number}
            self._number(request, count)
            self._transmit(request)

    def _done(self, request: Request, state: str = "committed") -> None:
        self._pending.remove(request)
        request.state = state
        request.attempt = 0
        self.busy = bool(self._pending)

    def _move(self) -> None:
        """Read the old segment to its end, then number what is absent anew."""
        if self._moving:
            return
        self._moving = True
        self._counts.clear()
        self._try_to_move()

    def _try_to_move(self) -> None:
        self.read()
        world = self.world
        end = world.history.ends.get(self._segment)
        if end is None or self.view.next_lsn < end:
            world.later(5, self._try_to_move)
            return
        self._moving = False
        self._epoch += 1
        self._sequence = 1
        self._segment = world.chain.tail.index
        for request in list(self._pending):
            if request in self.view.seen:
                self._done(request)
        for request in self._pending:
            assert request.append is not None
            # The same records again: only their numbers are new.
            self._number(request, len(request.append.records))
            world.log("{} goes on under epoch {}", request.name, self._epoch)
            self._transmit(request)
