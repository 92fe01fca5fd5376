"""A replicated loglet as every process sees it: find the tail, read, seal, trim; never append.

The process that is the sequencer builds on this: see `loglet`. Sealing, and what a dead sequencer
left behind, is `decision`'s.
"""

from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from ...core.clock import Clock
from ...core.random import Random
from ...core.tasks import TaskScope
from ...core.waiters import Waiters
from ..chain import Segment
from ..errors import (
    LogClosedError,
    LogletSealedError,
    LogUnavailableError,
    NotSequencerError,
    TrimmedError,
)
from ..loglet import CommitListener
from ..types import BATCH_BYTES_MAX, Batch, Record, TailState
from .decision import Decision
from .members import LogletGoneError, Members, good
from .messages import OK, Decided, GetInfo, Info, Trim, Wait
from .reading import read_batches
from .tails import any_sealed, final_of, furthest_tail, is_committed, record_time_ns


class LogletOptions(msgspec.Struct, frozen=True):
    """How long things may take, in seconds.

    Attributes:
        unavailable_after: until an operation that too few servers answer is given up.
        answer: until one server's answer is not waited for any more.
        retry: between two tries, at first and at most.
        wait: until another server is asked to tell of the tail.
        watch: until a sequencer asks its servers again to tell when they are sealed.
        abandoned_after: how long batches may be under way before a process that only reads takes
            their sequencer for dead and seals the loglet.
        silent_after: how long another node that gives out offsets for this process may leave
            records uncommitted before the loglet is sealed.
    """

    unavailable_after: float = 30.0
    answer: float = 1.0
    retry: tuple[float, float] = (0.01, 0.25)
    wait: float = 1.0
    watch: float = 5.0
    abandoned_after: float = 2.0
    silent_after: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogletResources:
    """What the loglets of one process share.

    Attributes:
        who: names this process in ballots.
        loop: on which everything happens.
        clock: for record times.
        random: for back-off and ballots.
        scope: of the tasks that go on when nobody waits for them.
        options: how long things may take.
        on_turn: called after the commits of a turn have been told.
    """

    who: str
    loop: AbstractEventLoop
    clock: Clock
    random: Random
    scope: TaskScope
    options: LogletOptions
    on_turn: Callable[[], None]


class LogletView:
    """One loglet on the log-servers of its segment's nodeset, ordered by another process.

    Attributes:
        loglet: its id.
        members: who keeps it.
        trimmed: the last offset that this process has trimmed and its batch's record time, if any.
    """

    def __init__(self, segment: Segment, members: Members, resources: LogletResources) -> None:
        """Open it; nothing is asked before it is needed."""
        self.loglet = segment.params.loglet
        self.members = members
        self._loop = resources.loop
        self._scope = resources.scope
        self._options = resources.options
        self._described = f"segment {segment.index} (loglet {self.loglet})"
        self._sequencer_name = segment.params.sequencer
        self._committed_tail = 1
        self._trim_point = 0
        self.trimmed: tuple[int, int] | None = None
        # Of the last batch that is known to be committed.
        self._record_time_ns = segment.params.record_time_ns
        self._sealing = False
        self._final: Decided | None = None
        self._failure: LogClosedError | None = None
        self._events = Waiters()
        self._decision = Decision(
            self.loglet,
            members,
            who=resources.who,
            random=resources.random,
            loop=resources.loop,
            answer_seconds=resources.options.answer,
        )
        self._deciding = False
        # Whether a task has the servers tell of the tail, and how many callers wait for it.
        self._following = False
        self._waiting = 0
        # Shifts whom is read from first, after a server had not what it should have.
        self._turn = self.loglet

    def close(self) -> None:
        """The loglet was deleted: from here on it counts as sealed, and all of it as trimmed."""
        self._ended(Decided((1, ""), self._committed_tail, self._record_time_ns))
        self._trim_point = self._committed_tail - 1

    def fail(self, reason: str) -> None:
        """Take and acknowledge nothing any more."""
        if self._failure is None:
            self._failure = LogClosedError(f"the log takes no more records: {reason}")
            self._events.wake()

    @property
    def forgettable(self) -> bool:
        """Whether nobody here waits for what only this object can tell, once it is trimmed."""
        return True

    @property
    def _knows_tail(self) -> bool:
        """Whether nobody else can have committed more than this process knows."""
        return self._final is not None

    @property
    def committed_tail(self) -> int:
        """The first offset that is not committed, as far as this process knows."""
        return self._committed_tail

    @property
    def trim_point(self) -> int:
        """The last offset trimmed, as far as this process knows; 0 when nothing was."""
        return self._trim_point

    def listen(self, listener: CommitListener, on_sealed: Callable[[], None] | None = None) -> None:
        """Nothing is committed by this process, so the listener is never told of anything."""

    def enqueue(self, records: list[Record]) -> int:
        """Raises NotSequencerError, or LogletSealedError, LogClosedError when that is known."""
        self._check_taking()
        raise NotSequencerError(
            f"{self._described} is ordered by {self._sequencer_name or 'another process'}: "
            "append there"
        )

    def _check_taking(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._sealing or self._final is not None:
            raise LogletSealedError(self.loglet)

    # Sealing -------------------------------------------------------------------------------------

    async def seal(self) -> None:
        """Seal; on return the end is decided. Raises LogClosedError, LogUnavailableError.

        Cancelling leaves open whether it is sealed; it will be.
        """
        self._seal_soon()
        await self._until(lambda: self._final is not None, "be sealed")

    def _seal_soon(self) -> None:
        """Take nothing more, and find out where the loglet ends."""
        if self._final is not None or self._failure is not None:
            return
        self._sealing = True
        if not self._deciding:
            self._deciding = True
            self._scope.spawn(self._decide(), name=f"end of loglet {self.loglet}")

    async def _decide(self) -> None:
        try:
            final = await self._decision.run()
        except LogletGoneError:
            self._gone()
            return
        finally:
            self._deciding = False
        if self._failure is None:
            self._ended(final)

    def _gone(self) -> None:
        """It was trimmed and deleted, which happens to sealed loglets only."""
        if self._final is None:
            self.close()

    def _ended(self, final: Decided) -> None:
        """The loglet ends here, for ever."""
        if self._final is not None:
            return
        self._final = final
        self._committed_tail = final.tail
        self._record_time_ns = max(self._record_time_ns, final.record_time_ns)
        self._events.wake()

    # The tail ------------------------------------------------------------------------------------

    async def find_tail(self) -> TailState:
        """The tail, linearizable; seals what a sequencer that is gone has left behind.

        Raises LogClosedError, LogUnavailableError. Cancelling is safe.
        """
        if self._final is None:
            if self._failure is not None:
                # Others may go on, so that what this process knows says nothing.
                raise self._failure
            await self._find_tail()
        return self._tail()

    def _tail(self) -> TailState:
        return TailState(self._committed_tail, self._final is not None, self._record_time_ns)

    async def _find_tail(self) -> None:
        """Know the tail as it is after this call began, or more. The sequencer may be gone."""
        loop, placement = self._loop, self.members.placement
        started = since = loop.time()
        # Above everything that was committed before this call; fixed by the first answers, or
        # nobody could keep up with a sequencer that is at work.
        target: int | None = None
        tries = 0

        def settled(replies: Mapping[int, Info]) -> bool:
            if final_of(replies) is not None or any_sealed(replies):
                return True
            tail = furthest_tail(placement, replies) if target is None else target
            return tail is not None and is_committed(placement, replies, tail)

        while self._final is None:
            if self._failure is not None:
                raise self._failure
            replies = await self._info(settled)
            if self._final is not None or any_sealed(replies):
                self._seal_soon()
                await self._until(lambda: self._final is not None, "be sealed")
                return
            now = loop.time()
            if target is None:
                target, since = furthest_tail(placement, replies), now
            if target is not None:
                if is_committed(placement, replies, target):
                    self._learn_tail(target, record_time_ns(replies))
                    return
                if now >= since + self._options.abandoned_after:
                    self._seal_soon()
            if now >= started + self._options.unavailable_after:
                raise self._unavailable("tell its tail")
            await self._pause(tries)
            tries += 1

    async def _info(self, enough: Callable[[Mapping[int, Info]], bool]) -> dict[int, Info]:
        """Ask everybody what they have, and learn from it; nothing of one that is gone."""
        try:
            replies = await self.members.collect(
                lambda number, storage: GetInfo(number, storage, self.loglet),
                Info,
                enough,
                self._options.answer,
            )
        except LogletGoneError:
            self._gone()
            return {}
        for reply in replies.values():
            self._trim_point = max(self._trim_point, reply.trim_point)
        if (final := final_of(replies)) is not None and self._failure is None:
            self._ended(final)
        return replies

    def _learn_tail(self, tail: int, record_time_ns: int = 0) -> None:
        """Where another process is the sequencer: everything below is committed."""
        if not self._knows_tail and tail >= self._committed_tail:
            self._record_time_ns = max(self._record_time_ns, record_time_ns)
            if tail > self._committed_tail:
                self._committed_tail = tail
                self._events.wake()

    async def wait_for_tail(self, above: int) -> TailState:
        """Wait until the committed tail is above `above` or the loglet is sealed.

        Raises LogClosedError. Cancelling is safe.
        """
        self._waiting += 1
        try:
            while self._committed_tail <= above and self._final is None:
                if self._failure is not None:
                    raise self._failure
                if not self._knows_tail and not self._following:
                    self._following = True
                    self._scope.spawn(self._follow(), name=f"tail of loglet {self.loglet}")
                await self._events.wait()
        finally:
            self._waiting -= 1
        return self._tail()

    async def _follow(self) -> None:
        """While somebody waits here: have a server tell what another sequencer commits."""
        turn = tries = 0
        try:
            while self._waiting and self._final is None and self._failure is None:
                order = self.members.reading_order(0)
                info = await self._tail_above(order[turn % len(order)])
                if info is None or info.status != OK:
                    turn += 1
                    await self._pause(tries)
                    tries += 1
                    continue
                tries = 0
                if info.known_tail <= self._committed_tail:
                    turn += 1  # It may have been left out; somebody else may know more.
                self._learn_tail(info.known_tail)
                if info.final is not None:
                    self._ended(info.final)
                elif info.sealed:
                    self._seal_soon()
                    await self._events.wait(self._options.retry[1])
        finally:
            self._following = False

    async def _tail_above(self, member: int) -> Info | None:
        above, wait = self._committed_tail, self._options.wait
        try:
            return await self.members.ask(
                member,
                lambda number, storage: Wait(
                    number, storage, self.loglet, above, round(wait * 1000)
                ),
                Info,
                wait + self._options.answer,
            )
        except LogletGoneError:
            self._gone()
            return None

    # Reading and trimming ------------------------------------------------------------------------

    async def read(self, first_offset: int, bytes_max: int = BATCH_BYTES_MAX) -> list[Batch]:
        """Committed batches from the one that holds `first_offset`, of any server that has them.

        Raises TrimmedError, CorruptBatchError when every copy is damaged, and LogUnavailableError
        when nobody gives what is committed. Cancelling is safe.
        """
        deadline = self._loop.time() + self._options.unavailable_after
        tries = 0
        while True:
            if first_offset <= self._trim_point:
                raise TrimmedError(first_offset, self._trim_point)
            if self._knows_tail and first_offset >= self._committed_tail:
                return []
            try:
                found = await read_batches(
                    self.members,
                    self.loglet,
                    first_offset,
                    bytes_max=bytes_max,
                    known_tail=self._committed_tail,
                    turn=self._turn,
                    seconds=self._options.answer,
                )
            except LogletGoneError:
                self._gone()
                raise TrimmedError(first_offset, max(first_offset, self._trim_point)) from None
            self._trim_point = max(self._trim_point, found.trim_point)
            batches = found.batches
            if batches is not None:
                if batches:
                    self._learn_tail(batches[-1].last_offset + 1, batches[-1].record_time_ns)
                elif not self._knows_tail:
                    # That one server knows of nothing does not say that there is nothing.
                    await self._find_tail()
                    if first_offset < self._committed_tail:
                        continue
                return [item for item in batches if item.last_offset < self._committed_tail]
            # Who has it may not know that it is committed: it is told with the next try.
            self._learn_tail(found.known_tail)
            if self._loop.time() >= deadline and first_offset > self._trim_point:
                raise found.damage or self._unavailable(f"give offset {first_offset}")
            self._turn += 1
            await self._pause(tries)
            tries += 1

    async def trim(self, last_offset: int) -> int:
        """Remove whole batches up to `last_offset`; a write quorum has the trim point on disk.

        Raises LogClosedError, LogUnavailableError, and what `read` raises.
        """
        if not self._knows_tail and self._failure is None:
            await self._find_tail()
        wanted = min(last_offset, self._committed_tail - 1)
        if wanted <= self._trim_point:
            return self._trim_point
        if self._failure is not None:
            raise self._failure
        try:
            batch = (await self.read(wanted, 1))[0]
        except TrimmedError:
            return self._trim_point
        border = wanted if batch.last_offset == wanted else batch.first_offset - 1
        deadline = self._loop.time() + self._options.unavailable_after
        tries = 0
        while self._trim_point < border:
            if self._failure is not None:
                raise self._failure
            if await self._trim_to(border, batch.record_time_ns):
                self._trim_point = max(self._trim_point, border)
                self.trimmed = border, batch.record_time_ns
            elif self._loop.time() >= deadline:
                raise self._unavailable("be trimmed")
            else:
                await self._pause(tries)
                tries += 1
        return self._trim_point

    async def _trim_to(self, border: int, record_time_ns: int) -> bool:
        placement = self.members.placement

        def trimmed(replies: Mapping[int, Info]) -> bool:
            done = [item for item in good(replies) if replies[item].trim_point >= border]
            return placement.is_write_quorum(done)

        try:
            replies = await self.members.collect(
                lambda number, storage: Trim(
                    number, storage, self.loglet, border, record_time_ns, self._committed_tail
                ),
                Info,
                trimmed,
                self._options.answer,
            )
        except LogletGoneError:
            self._gone()
            return self._trim_point >= border
        return trimmed(replies)

    # Waiting -------------------------------------------------------------------------------------

    async def _until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until it holds. Raises LogClosedError, LogUnavailableError."""
        deadline = self._loop.time() + self._options.unavailable_after
        while not holds():
            if self._failure is not None:
                raise self._failure
            left = deadline - self._loop.time()
            if left <= 0:
                raise self._unavailable(what)
            await self._events.wait(left)

    async def _pause(self, tries: int) -> None:
        least, most = self._options.retry
        await self._events.wait(min(least * 2 ** min(tries, 16), most))

    def _unavailable(self, what: str) -> LogUnavailableError:
        states = [
            f"{client.node} ({'connected' if client.is_connected else client.failure})"
            for client in self.members.clients
        ]
        tried = f"; ending it: {self._decision.problem}" if self._deciding else ""
        return LogUnavailableError(
            f"{self._described} cannot {what}: too few of its log-servers answer as they should. "
            f"They are {', '.join(states)}{tried}. Try again when more of them are up"
        )
