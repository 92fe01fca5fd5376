"""The replicated loglet where its sequencer is: offsets are given out here.

Batches are committed by the answers of a write quorum of log-servers. Everything else is as in
every other process, see `view`; only that nothing is shown here before the listener was told.
"""

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping
from typing import Final

from ...core.clock import Clock
from ...core.random import Random
from ...core.tasks import TaskScope
from ...core.waiters import Waiters
from ..chain import Segment
from ..errors import RecordTooLargeError
from ..loglet import CommitListener
from ..staging import Staging
from ..types import Batch, Record
from .members import LogletGoneError, Members, good
from .messages import VALUE_BYTES_MAX, Decided, Info, Wait
from .replicator import Replicator
from .tails import any_sealed
from .view import LogletOptions, LogletView

_NEVER: Final = (1 << 63) - 1
"""Above every offset."""

_RECORD_BYTES: Final = 4096
"""What a record may take besides its body: keys, conditions, a trace context."""


class ReplicatedLoglet(LogletView):
    """One loglet that this process is the sequencer of. It is empty when it is opened."""

    def __init__(
        self,
        segment: Segment,
        members: Members,
        *,
        sequencer: str,
        who: str,
        loop: AbstractEventLoop,
        clock: Clock,
        random: Random,
        scope: TaskScope,
        options: LogletOptions,
        on_turn: Callable[[], None],
    ) -> None:
        """Connect to the members.

        Args:
            sequencer: names this opening of the loglet; the servers take batches of no other.
            who: names this process in ballots.
            clock: for record times.
            scope: of the tasks that go on when nobody waits for them.
            on_turn: called after the commits of a turn have been told.
        """
        super().__init__(
            segment, members, who=who, loop=loop, random=random, scope=scope, options=options
        )
        self._clock = clock
        self._on_turn = on_turn
        self._staging = Staging(
            next_offset=1, record_time_ns=segment.params.record_time_ns, epoch=segment.params.epoch
        )
        self._scheduled = False
        self._listener: CommitListener | None = None
        # The check that the calls of this turn share.
        self._check: asyncio.Task[int] | None = None
        self._replicator = Replicator(
            self.loglet,
            members,
            sequencer=sequencer,
            loop=loop,
            on_commit=self._committed,
            on_sealed=self._seal_soon,
        )
        self._replicator.start()
        scope.spawn(self._watch_for_seal(), name=f"seal of loglet {self.loglet}")

    @property
    def _knows_tail(self) -> bool:
        return True

    def fail(self, reason: str) -> None:
        """Take and acknowledge nothing any more."""
        super().fail(reason)
        self._replicator.stop()

    def listen(self, listener: CommitListener) -> None:
        """Have `listener` told of every batch committed from now on."""
        self._listener = listener

    # Appending -----------------------------------------------------------------------------------

    def enqueue(self, records: list[Record]) -> int:
        """Take records as one atomic group and give the first one's offset.

        Raises LogletSealedError, LogClosedError, and RecordTooLargeError for what no message can
        carry.
        """
        self._check_taking()
        if len(records) == 1 and len(records[0].body) > VALUE_BYTES_MAX - _RECORD_BYTES:
            raise RecordTooLargeError(
                f"a record of {len(records[0].body)} bytes cannot be replicated: the limit is "
                f"{VALUE_BYTES_MAX - _RECORD_BYTES}"
            )
        offset = self._staging.add(records)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._send)
        return offset

    def _send(self) -> None:
        self._scheduled = False
        if self._failure is None and self._final is None:
            self._replicator.add(self._staging.take(self._clock.time_ns()))

    def _committed(self, batches: list[Batch]) -> None:
        """A write quorum has these."""
        try:
            for batch in batches:
                assert batch.first_offset == self._committed_tail, batch.first_offset
                self._committed_tail = batch.last_offset + 1
                self._record_time_ns = batch.record_time_ns
                if self._listener is not None:
                    self._listener(batch)
            self._events.wake()
            self._on_turn()
        except Exception as error:
            # State above may be half changed: nothing may go on.
            self.fail(f"it met {type(error).__name__}: {error}")
            self._loop.call_exception_handler(
                {"message": f"the listener of loglet {self.loglet} failed", "exception": error}
            )

    # Sealing -------------------------------------------------------------------------------------

    async def _decide(self) -> None:
        if self._scheduled:
            # What was enqueued in this turn goes out before the seal, on the same connections.
            await Waiters().wait(0)
        await super()._decide()

    def _ended(self, final: Decided) -> None:
        """Tell of what was committed by whoever ended it, then say that it is sealed."""
        if self._final is not None:
            return
        rest = [item for item in self._replicator.stop() if item.last_offset < final.tail]
        if rest and self._failure is None:
            self._committed(rest)
        if self._failure is not None:
            return
        if self._committed_tail > final.tail:
            # Only an operator can do that, who has given servers up for lost.
            self.fail("records that were acknowledged were given up with the disks that had them")
            return
        assert self._committed_tail == final.tail, (self._committed_tail, final)
        super()._ended(final)

    async def _watch_for_seal(self) -> None:
        """Ask every member to tell when somebody else seals it, for as long as it is open."""
        watch = self._options.watch
        while self._final is None and self._failure is None and not self._sealing:
            try:
                replies = await self.members.collect(
                    lambda number, storage: Wait(
                        number, storage, self.loglet, _NEVER, round(watch * 1000)
                    ),
                    Info,
                    any_sealed,
                    watch + self._options.answer,
                )
            except LogletGoneError:
                self._gone()
                return
            if any_sealed(replies):
                self._seal_soon()
                return
            await self._events.wait(self._options.retry[1])

    # The tail ------------------------------------------------------------------------------------

    async def _find_tail(self) -> None:
        """Have a write quorum say that it is not sealed, asked after this call began.

        Without that another process may have ended the loglet long ago, and what was acknowledged
        since is elsewhere. The calls of one turn share a check.
        """
        if self._check is None:
            self._check = self._scope.spawn(self._ask_whether_open(), name="check")
        target = await asyncio.shield(self._check)
        # Somebody may have been told of what these servers have and this process does not know of
        # yet; it is on its way.
        await self._until(
            lambda: self._final is not None or self._committed_tail >= target, "tell its tail"
        )

    async def _ask_whether_open(self) -> int:
        """The furthest tail of a write quorum that is not sealed; any number once it is sealed."""
        self._check = None
        deadline = self._loop.time() + self._options.unavailable_after
        tries = 0
        while self._final is None and self._failure is None and self._loop.time() < deadline:
            replies = await self._info(self._says_open)
            if self._says_open(replies):
                return max(max(reply.tail, reply.known_tail) for reply in replies.values())
            if any_sealed(replies):
                self._seal_soon()
                break
            await self._pause(tries)
            tries += 1
        return _NEVER

    def _says_open(self, replies: Mapping[int, Info]) -> bool:
        unsealed = [member for member in good(replies) if not replies[member].sealed]
        return self.members.placement.is_write_quorum(unsealed)
