"""Clients of the model: how appends are made, resent and resolved.

The rules under test: a refusal of an append that was sent once is final; when an answer stayed away
the next one may be about an earlier copy, so the log is read up to it; after a doubt the log is
read through the old tail and only what is absent is sent again, with what was read since.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from perdure.log import sequencer as sequencer_module
from perdure.log.answers import (
    Answer,
    Committed,
    Conflict,
    Fence,
    Fenced,
    Indeterminate,
    NotChangedSince,
    Overloaded,
    Sealed,
    StaleSnapshot,
    WrongSegment,
)
from perdure.log.errors import UnguardedConditionError
from perdure.log.sequencer import Append
from perdure.log.types import Record

from .checkers import Group, Violation
from .view import View

if TYPE_CHECKING:
    from .loglet import SequencerNode
    from .world import World

KEYS = tuple(bytes([65 + number]) * 16 for number in range(7))
SCOPE = b"scope-----------"
ANSWER_WITHIN = 22.0
POLL = 5.0


class Request:
    """Something that a client wants in the log once.

    Attributes:
        state: open, committed (acknowledged or found), lost (reported as not done) or unknown.
        doubt: a copy may be in the log or still on its way without its answer.
        attempt: number of the send whose answer counts, 0 while none does.
        numbered: a producer numbers it; copies in the log do not count.
    """

    __slots__ = (
        "append",
        "attempt",
        "attempts",
        "client",
        "derivations",
        "doubt",
        "invoked_after",
        "make",
        "name",
        "number",
        "numbered",
        "segment",
        "state",
    )

    def __init__(self, client: "Client", number: int, *, numbered: bool = False) -> None:
        self.client = client
        self.number = number
        self.name = f"request {client.number}.{number}"
        self.numbered = numbered
        self.state = "open"
        self.doubt = False
        self.attempt = 0
        self.attempts = 0
        self.derivations = 0
        self.segment = 0
        self.invoked_after = client.world.history.acked_max
        self.append: Append | None = None
        self.make: Callable[[Request], Append] | None = None
        client.world.history.requests.append(self)

    def __str__(self) -> str:
        return f"{self.name}, {self.state},"


class Client:
    """What all clients share: a view of the log, records of their own, sending."""

    pause = 8.0

    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.number = number
        self.view = View(world.history)
        self.known_lsn = 0
        self.busy = False
        self._requests = 0
        world.later(world.random.uniform(0, self.pause), self.begin)

    def status(self) -> str:
        """What it is busy with."""
        return f"client {self.number} {type(self).__name__}"

    def begin(self) -> None:
        """Begin the next request, unless the load is over."""
        raise NotImplementedError

    def begin_later(self) -> None:
        """After a pause."""
        self.world.later(self.world.random.uniform(0, 2 * self.pause), self.begin)

    def answered(self, request: Request, attempt: int, answer: Answer, known_lsn: int) -> None:
        """An answer arrives."""
        raise NotImplementedError

    def request(self, *, numbered: bool = False) -> Request:
        """A new request."""
        self._requests += 1
        return Request(self, self._requests, numbered=numbered)

    def append(
        self,
        request: Request,
        keys: list[tuple[bytes, ...] | None],
        conditions: tuple[NotChangedSince, ...] = (),
        fence: Fence | None = None,
        segment: int | None = None,
    ) -> Append:
        """Records with these keys, known to the registry as the request's next derivation."""
        request.derivations += 1
        previous = {item.key: self.view.last_of(item.key) for item in conditions}
        known_fence = None if fence is None else (fence.scope, fence.epoch)
        records: list[Record] = []
        for place, record_keys in enumerate(keys):
            body = b"%d.%d.%d.%d" % (self.number, request.number, request.derivations, place)
            self.world.history.groups[body] = Group(
                request,
                request.derivations,
                place,
                len(keys),
                {} if place else previous,
                None if place else known_fence,
            )
            records.append(Record(1, body, record_keys, 1, None, 0))
        return Append(records, conditions, fence, None, segment)

    def read(self) -> None:
        """Read what can be read now."""
        self.world.read(self.view, self.known_lsn, surely=not self.world.faults)

    def send(self, request: Request, append: Append, *, timeout: bool = True) -> None:
        """Send it once to the last sequencer this client knows of; each send has a number."""
        world = self.world
        request.attempts += 1
        attempt = request.attempt = request.attempts
        request.append = append
        target = request.segment = world.chain.tail.index
        world.log("{} sent to segment {}, attempt {}", request.name, target, attempt)
        if timeout:
            world.later(ANSWER_WITHIN, self._timed_out, request, attempt)
        copies = 1
        if (request.doubt or world.rules.first_attempts_are_doubled) and world.chance(0.2):
            copies = 2
        for _ in range(copies if world.faults else 1):
            delay = world.delay()
            if world.faults and world.random.random() < world.loss:
                # Not lost but so late that nobody waits for it any more.
                delay += world.random.uniform(20, 150)
            # A message without a segment goes to whoever orders the log when it arrives.
            to = None if append.segment is None and delay > ANSWER_WITHIN else target
            deliver = partial(_deliver, append=append, request=request, attempt=attempt)
            world.later(delay, world.deliver, to, deliver)

    def _timed_out(self, request: Request, attempt: int) -> None:
        if request.state == "open" and request.attempt == attempt:
            request.attempt = 0
            request.doubt = True
            self.in_doubt(request)

    def in_doubt(self, request: Request) -> None:
        """No answer came."""
        raise NotImplementedError

    def settle(self, request: Request, state: str) -> None:
        """The request's outcome is known, or given up on."""
        self.world.log("{} is {}", request.name, state)
        request.state = state
        request.attempt = 0
        self.settled()

    def settled(self) -> None:
        """Go on with the next one."""
        self.busy = False
        self.begin_later()

    def after_reading(
        self, request: Request, until: Callable[[], bool], then: Callable[[Request], None]
    ) -> None:
        """Read on until something holds, then go on with the request."""
        if request.state != "open":
            return
        self.read()
        if until():
            then(request)
        else:
            self.world.later(POLL, self.after_reading, request, until, then)

    def through_old_segment(self, request: Request) -> Callable[[], bool]:
        """Whether the segment that the request went to is read to its sealed end."""
        ends = self.world.history.ends
        segment = request.segment
        if request.append is not None and request.append.segment is not None:
            # It was sent again as it was: only the segment that it names could take it.
            segment = request.append.segment
        return lambda: segment in ends and self.view.next_lsn >= ends[segment]


def _deliver(node: "SequencerNode", append: Append, request: Request, attempt: int) -> None:
    node.append(append, request, attempt)


class ConditionalClient(Client):
    """Reads, derives, appends on the condition that nothing changed; each request once."""

    def begin(self) -> None:
        world = self.world
        if not world.faults:
            return
        self.busy = True
        if world.chance(0.6):
            self.read()
        request = self.request()
        request.make = self._choose()
        try:
            append = request.make(request)
            sequencer_module.check_append(append)
        except UnguardedConditionError:
            request.state = "lost"
            self.settled()
            return
        self.send(request, append)

    def _choose(self) -> Callable[[Request], Append]:
        """What the request reads and writes; the numbers are filled in by each derivation."""
        world = self.world
        choice = world.random.choice
        key = choice(KEYS) if world.chance(0.4) else KEYS[0]
        conditions = [key]
        keys: list[tuple[bytes, ...] | None] = [(key,)]
        fraction = world.random.random()
        if fraction < 0.3:
            conditions.append(choice(KEYS))
            keys.append((choice(KEYS), choice(KEYS)))
        elif fraction < 0.4:
            keys += [(), (choice(KEYS),)]
        elif fraction < 0.45:
            keys = [None]
        elif fraction < 0.6:
            # Writes nothing that it is conditioned on: must be refused before it is sent.
            conditions = [choice(KEYS[1:])]
            keys = [(KEYS[0],)]
        frozen = world.chance(0.3)
        named = world.chance(0.7)

        def make(request: Request) -> Append:
            read = self.view.applied_lsn
            # Either how far the client has read, or the version that it has seen.
            old = frozen and not request.derivations
            return self.append(
                request,
                keys,
                tuple(
                    NotChangedSince(item, self.view.last_of(item) if old else read)
                    for item in dict.fromkeys(conditions)
                ),
                segment=world.chain.tail.index if named else None,
            )

        return make

    def answered(self, request: Request, attempt: int, answer: Answer, known_lsn: int) -> None:
        self.known_lsn = max(self.known_lsn, known_lsn)
        if isinstance(answer, Committed):
            if request.state == "lost":
                raise Violation("C6", f"{request} is acknowledged after all")
            if request.state == "open":
                self.settle(request, "committed")
            return
        if request.state != "open" or request.attempt != attempt:
            return
        request.attempt = 0
        self.world.log("{} hears {}", request.name, answer)
        view = self.view
        match answer:
            case Conflict(_, lsn):
                if not request.doubt or self.world.rules.conflict_is_always_final:
                    self.settle(request, "lost")
                else:
                    self.after_reading(request, lambda: view.next_lsn > lsn, self._own_or_lost)
            case StaleSnapshot(floor):
                self.after_reading(request, lambda: view.next_lsn > floor, self._own_or_again)
            case Overloaded():
                self.world.later(POLL, self._same_again, request)
            case Sealed() | WrongSegment() | Indeterminate():
                if isinstance(answer, Indeterminate):
                    request.doubt = True
                until = self.through_old_segment(request)
                self.after_reading(request, until, self._own_or_again)
            case _:
                raise Violation("C6", f"{request} hears {answer}")

    def in_doubt(self, request: Request) -> None:
        world = self.world
        if world.faults and world.chance(0.05):
            self.settle(request, "unknown")
        elif world.chance(0.6) or request.segment == world.chain.tail.index:
            self._same_again(request)
        else:
            self.after_reading(request, self.through_old_segment(request), self._own_or_again)

    def _same_again(self, request: Request) -> None:
        if request.state == "open" and request.append is not None:
            self.send(request, request.append)

    def _own_or_lost(self, request: Request) -> None:
        self.settle(request, "committed" if request in self.view.seen else "lost")

    def _own_or_again(self, request: Request) -> None:
        if request in self.view.seen:
            self.settle(request, "committed")
            return
        assert request.make is not None
        self.send(request, request.make(request))


class UnconditionalClient(Client):
    """Appends without conditions, some under a fence; sends once and takes no chances."""

    def __init__(self, world: "World", number: int) -> None:
        super().__init__(world, number)
        self._fenced = world.chance(0.5)
        self._epoch = 1

    def begin(self) -> None:
        if not self.world.faults:
            return
        self.busy = True
        request = self.request()
        choice = self.world.random.choice
        keys: list[tuple[bytes, ...] | None] = [
            None if self.world.chance(0.08) else (choice(KEYS),)
            for _ in range(self.world.random.randint(1, 3))
        ]
        fence = None
        if self._fenced:
            if self.world.chance(0.2):
                self._epoch += 1
            # At times it has not heard that its own time is over.
            fence = Fence(SCOPE, max(1, self._epoch - int(self.world.chance(0.2))))
        self.send(request, self.append(request, keys, fence=fence))

    def answered(self, request: Request, attempt: int, answer: Answer, known_lsn: int) -> None:
        if request.state != "open" or request.attempt != attempt:
            return
        match answer:
            case Committed():
                self.settle(request, "committed")
            case Indeterminate():
                self.settle(request, "unknown")
            case Fenced(epoch):
                self._epoch = max(self._epoch, epoch)
                self.settle(request, "lost")
            case Overloaded() | Sealed() | WrongSegment():
                self.settle(request, "lost")
            case _:
                raise Violation("C6", f"{request} hears {answer}")

    def in_doubt(self, request: Request) -> None:
        self.settle(request, "unknown")


class LocalClient(Client):
    """A leader in the sequencer's process: each append rests on the one before, still in flight."""

    pause = 14.0

    def __init__(self, world: "World", number: int) -> None:
        super().__init__(world, number)
        self._open = 0

    def begin(self) -> None:
        world = self.world
        if not world.faults:
            return
        # Mostly the sequencer of the last segment, at times a zombie.
        indices = list(world.nodes)[-2:]
        node = world.nodes[indices[-1] if world.chance(0.8) else indices[0]]
        if not node.alive:
            self.begin_later()
            return
        self.busy = True
        self.read()
        key = KEYS[0] if world.chance(0.6) else world.random.choice(KEYS)
        read, last = self.view.applied_lsn, self.view.last_of(key)
        # A zombie is older than what this client has read of the log.
        if read >= node.sequencer.tail_lsn:
            self.settled()
            return
        self._open = world.random.randint(2, 3)
        for left in range(self._open - 1, -1, -1):
            request = self.request()
            request.segment = node.segment.index
            request.attempt = request.attempts = 1
            keys: list[tuple[bytes, ...] | None] = [(key,)]
            append = self.append(request, keys, (NotChangedSince(key, read),))
            self.world.history.groups[append.records[0].body].previous[key] = last
            lsn = node.admit(append, node.listener(append, request, 1))
            world.log("{} in process of segment {} gets {}", request.name, node.segment.index, lsn)
            # The process may die before it answers.
            world.later(400, self._give_up, request)
            if lsn is None:
                self._open -= left
                break
            read = last = lsn

    def _give_up(self, request: Request) -> None:
        if request.state == "open":
            self.settle(request, "unknown")

    def answered(self, request: Request, attempt: int, answer: Answer, known_lsn: int) -> None:
        if request.state != "open" or request.attempt != attempt:
            return
        request.attempt = 0
        self.known_lsn = max(self.known_lsn, known_lsn)
        if isinstance(answer, Committed):
            self.settle(request, "committed")
        elif isinstance(answer, Indeterminate):
            # There are no copies: what is not below the sealed tail never will be in the log.
            until = self.through_old_segment(request)
            self.after_reading(request, until, self._own_or_lost)
        else:
            self.settle(request, "lost")

    def _own_or_lost(self, request: Request) -> None:
        self.settle(request, "committed" if request in self.view.seen else "lost")

    def settled(self) -> None:
        self._open -= 1
        if self._open <= 0:
            super().settled()
