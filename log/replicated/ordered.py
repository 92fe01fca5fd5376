"""A replicated loglet at the process that appends to it, wherever its offsets are given out.

Nothing is shown here before the listener was told, and nobody else knows more than this process
will be told: so its tail is the truth, but for a seal.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from ...core.waiters import Waiters
from ..chain import Segment
from ..errors import RecordTooLargeError
from ..loglet import CommitListener
from ..types import Batch, Record
from .members import LogletGoneError, Members, good
from .messages import VALUE_BYTES_MAX, Decided, Info, Wait
from .tails import any_sealed
from .view import LogletResources, LogletView

_NEVER: Final = (1 << 63) - 1
"""Above every offset."""

_RECORD_BYTES: Final = 4096
"""What a record may take besides its body: keys, conditions, a trace context."""


class OrderedLoglet(LogletView):
    """One loglet that this process appends to. It is empty when it is opened."""

    def __init__(self, segment: Segment, members: Members, resources: LogletResources) -> None:
        """Connect to the members."""
        super().__init__(segment, members, resources)
        self._on_turn = resources.on_turn
        self._scheduled = False
        self._listener: CommitListener | None = None
        self._on_sealed: Callable[[], None] | None = None
        # The check that the calls of this turn share.
        self._check: asyncio.Task[int] | None = None
        self._scope.spawn(self._watch_for_seal(), name=f"seal of loglet {self.loglet}")

    @property
    def forgettable(self) -> bool:
        """Whether it has ended: what was enqueued is told to be there or not to be."""
        return self._final is not None

    @property
    def _knows_tail(self) -> bool:
        return True

    def listen(self, listener: CommitListener, on_sealed: Callable[[], None] | None = None) -> None:
        """Have `listener` told of every batch committed from now on."""
        self._listener = listener
        self._on_sealed = on_sealed

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
        offset = self._take(records)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._send_turn)
        return offset

    def _take(self, records: list[Record]) -> int:
        """Give these their offsets; the first one."""
        raise NotImplementedError

    def _send_turn(self) -> None:
        self._scheduled = False
        if self._failure is None and self._final is None:
            self._send()

    def _send(self) -> None:
        """Send what was taken in this turn on its way."""
        raise NotImplementedError

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

    def _seal_soon(self) -> None:
        super()._seal_soon()
        if self._sealing:
            self._tell_sealed()

    def _ended(self, final: Decided) -> None:
        super()._ended(final)
        self._tell_sealed()

    def _tell_sealed(self) -> None:
        if self._on_sealed is not None:
            # Not from within what called this, which may be an append.
            self._loop.call_soon(self._on_sealed)
            self._on_sealed = None

    async def _decide(self) -> None:
        if self._scheduled:
            # What was enqueued in this turn goes out before the seal, on the same connections.
            await Waiters().wait(0)
        await super()._decide()

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
