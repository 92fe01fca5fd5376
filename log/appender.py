"""Appender: a producer that pipelines, and resolves by itself what a reconfiguration left open.

Many appends are in flight at once and get into the log in the order of `submit`, each once. The
records are numbered contiguously when the sequencer takes them, so a refusal leaves no gap. After
an answer that leaves a doubt (Sealed, WrongSegment, OutOfOrder, Indeterminate) the appender stops,
waits until everything in flight has its answer, reads the log's old end for its own records, and
goes on under the next epoch: first what is absent, in its order, then what is newer.

The sequencer may be here, on another node, or move while the appender works (`lane`). Away from it
nobody knows at once whether an append was taken, so a refusal takes all that was sent behind it
along, and that is sent again; nothing is ever sent again that may be in the log.
"""

from asyncio import AbstractEventLoop, CancelledError, Future, TimerHandle
from collections import deque
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Final

import msgspec

from ..core.errors import PerdureError
from ..core.tasks import TaskScope
from ..core.waiters import Waiters
from .answers import (
    Answer,
    Committed,
    Indeterminate,
    NotChangedSince,
    OutOfOrder,
    Overloaded,
    Producer,
    Sealed,
    WrongSegment,
)
from .chain_view import POLL_SECONDS
from .elsewhere import NotHere, Outcome
from .errors import LogClosedError, NotSequencerError
from .lane import Lane
from .reader import FilteredGap, LogEntry, LogReader, TrimGap
from .room import Room
from .sequencer import Append, check_append
from .types import Record
from .virtual_log import VirtualLog

OVERLOADED_SECONDS: Final = 0.05
"""A pause before another node is sent to again that had too much under way."""

_DOUBTS: Final = (Sealed, WrongSegment, OutOfOrder, Overloaded, Indeterminate)


class AppenderOptions(msgspec.Struct, frozen=True):
    """How much one appender may have under way, sent or waiting to be sent."""

    records_in_flight_max: int = 4096
    bytes_in_flight_max: int = 16 * 1024 * 1024


class _Item:
    """One append on its way."""

    __slots__ = (
        "answered",
        "conditions",
        "doubt",
        "first_lsn",
        "over",
        "records",
        "sequence",
        "size",
    )

    def __init__(
        self,
        records: list[Record],
        conditions: tuple[NotChangedSince, ...],
        answered: "Future[Answer]",
    ) -> None:
        self.records = records
        self.conditions = conditions
        self.answered = answered
        self.size = sum(len(record.body) for record in records)
        self.over = False
        self.forget_sending()

    def forget_sending(self) -> None:
        """It is not in the log and not on its way there."""
        self.doubt: Answer | None = None
        # 0 while the sequencer has not taken it.
        self.sequence = 0
        self.first_lsn = 0


class Appender:
    """Appends to a log, under one producer id.

    Use it as ``async with Appender(...) as appender``: leaving waits until everything submitted is
    answered; leaving with an exception gives up at once, and what was in flight is answered
    Indeterminate. One object per producer id at a time; the next one takes a higher epoch.
    """

    def __init__(
        self,
        log: VirtualLog,
        producer: bytes,
        *,
        loop: AbstractEventLoop,
        epoch: int = 1,
        options: AppenderOptions | None = None,
    ) -> None:
        """Append to `log`.

        Args:
            producer: 16 bytes; nobody else uses them.
            epoch: the first one to number under, above all that this id had before.
        """
        options = options or AppenderOptions()
        self._log = log
        self._lane = Lane(log)
        self._producer = producer
        self._loop = loop
        self._epoch = epoch
        self._next_sequence = 1
        self._segment = 0
        self._room = Room(
            loop,
            records_max=options.records_in_flight_max,
            bytes_max=options.bytes_in_flight_max,
        )
        # In the order of `submit`: what the sequencer has heard of, then what it has not.
        self._sent: deque[_Item] = deque()
        self._queued: deque[_Item] = deque()
        self._doubt = False
        # Where the committed tail was when the log had too much in flight; 0 for never.
        self._overloaded_lsn = 0
        self._overdue = False
        self._mending = False
        self._answers = 0
        self._timer: TimerHandle | None = None
        self._changed = Waiters()
        self._scope = TaskScope("appender", on_failure=self._break)

    @property
    def epoch(self) -> int:
        """The producer's epoch under which records are numbered now; grows with each doubt."""
        return self._epoch

    @property
    def records_in_flight(self) -> int:
        """How many records have been submitted and not answered."""
        return self._room.records

    async def __aenter__(self) -> "Appender":
        """Start."""
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for the answers, or give up when the body failed; see the class."""
        if error is None:
            await self.close()
        else:
            await self._give_up()

    # Submitting ----------------------------------------------------------------------------------

    async def submit(
        self, records: Sequence[Record], *, conditions: Sequence[NotChangedSince] = ()
    ) -> "Future[Answer]":
        """Send records as one group behind everything submitted before; a future of the answer.

        Waits, in order, while as much is in flight as the options allow; the future is another
        matter and may be left for later. It gives the final answer, never a doubt that reading can
        resolve: Committed, Conflict, StaleSnapshot, Fenced by another holder of the producer id,
        or Sealed once the whole log is sealed and nothing was written. It is Indeterminate only
        when the log cannot be read any more. It raises FuturePositionError, LogClosedError, what
        metadata raises, or NotSequencerError once nobody was found in time who orders the log, when
        nothing was written.

        Conditions stay as they are when the append has to be sent again: StaleSnapshot and
        Conflict then go to the caller.

        Raises MalformedAppendError, RecordTooLargeError, BatchTooLargeError, LogClosedError, and
        nothing was taken. Cancelling while this waits is safe: nothing was taken. Cancelling the
        future takes back what is not sent yet and has no effect on what is.
        """
        taken = list(records)
        check_append(Append(taken, tuple(conditions), None, Producer(self._producer, 1, 1)))
        item = _Item(taken, tuple(conditions), self._loop.create_future())
        await self._room.take(len(taken), item.size)
        self._queued.append(item)
        self._send()
        return item.answered

    async def append(
        self, records: Sequence[Record], *, conditions: Sequence[NotChangedSince] = ()
    ) -> Answer:
        """`submit` and wait for the answer. Cancelling leaves open whether it was written."""
        return await (await self.submit(records, conditions=conditions))

    async def flush(self) -> None:
        """Wait until everything submitted is answered. Cancelling is safe."""
        while self._room.records:
            await self._changed.wait()

    async def close(self) -> None:
        """Take nothing more and wait for the answers. Doing it again is fine.

        Cancelling gives up as leaving with an exception does.
        """
        self._room.close()
        try:
            await self.flush()
        except CancelledError:
            await self._give_up()
            raise
        self._stop_timer()
        await self._scope.close()

    async def _give_up(self) -> None:
        self._room.close()
        self._stop_timer()
        await self._scope.close()
        for item in tuple(self._sent):
            self._finish(item, Indeterminate("the appender was closed before the answer came"))
        for item in tuple(self._queued):
            item.answered.cancel()
            self._done(item)
        self._sent.clear()
        self._queued.clear()

    # Sending -------------------------------------------------------------------------------------

    def _send(self) -> None:
        """Send what is queued, as far as the log takes it now."""
        lane = self._lane
        while self._queued and not self._mending:
            if self._doubt or not lane.ready:
                self._mend_soon()
                return
            item = self._queued[0]
            if item.answered.cancelled():
                self._queued.popleft()
                self._done(item)
                continue
            if not self._segment:
                self._segment = lane.segment
            producer = Producer(self._producer, self._epoch, self._next_sequence)
            append = Append(item.records, item.conditions, None, producer, self._segment)
            # In `_sent` before the sequencer decides: it may answer at once.
            self._sent.append(self._queued.popleft())
            try:
                lsn = lane.offer(append, partial(self._answered, item, self._epoch))
            except PerdureError as error:
                # Refused for itself or because this log takes nothing here any more.
                self._fail(item, error)
                continue
            if lsn is not None:
                item.sequence = self._next_sequence
                item.first_lsn = lsn
                self._next_sequence += len(item.records)
            elif type(item.doubt) is Overloaded:
                item.forget_sending()
                self._sent.pop()
                self._queued.appendleft(item)
                self._overloaded_lsn = self._log.committed_tail_lsn
                self._mend_soon()
        if self._sent and self._timer is None:
            self._watch()

    def _answered(self, item: _Item, epoch: int, outcome: Outcome) -> None:
        """The sequencer's answer to what was sent under `epoch`: final or a doubt, or a refusal."""
        if item.over or item.doubt is not None or epoch != self._epoch:
            return  # Given up on, and perhaps sent again: this is not the answer to that.
        self._answers += 1
        if isinstance(outcome, PerdureError):
            self._fail(item, outcome)
        elif isinstance(outcome, Overloaded) and not item.sequence:
            item.doubt = outcome  # At once, so nothing was sent behind it.
        elif isinstance(outcome, _DOUBTS):
            item.doubt = outcome
            if not isinstance(outcome, Indeterminate):
                item.sequence = 0  # It was refused, and nobody needs to look for it.
            self._doubt = True
            self._mend_soon()
            self._changed.wake()
        else:
            assert not isinstance(outcome, NotHere), "the lane knows what to make of it"
            self._finish(item, outcome)

    def _finish(self, item: _Item, answer: Answer) -> None:
        if not item.answered.done():
            item.answered.set_result(answer)
        self._done(item)

    def _fail(self, item: _Item, error: PerdureError) -> None:
        if not item.answered.done():
            item.answered.set_exception(error)
        self._done(item)

    def _done(self, item: _Item) -> None:
        """The item has its answer: make room."""
        item.over = True
        if self._sent and self._sent[0] is item:
            self._sent.popleft()
        elif item in self._sent:
            self._sent.remove(item)
        self._room.give_back(len(item.records), item.size)
        self._changed.wake()

    # Mending -------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Look again after a while: without answers, the segment may have been sealed."""
        seen = self._answers

        def look() -> None:
            self._timer = None
            if self._sent:
                if seen == self._answers:
                    self._overdue = True
                    self._mend_soon()
                self._watch()

        self._timer = self._loop.call_later(POLL_SECONDS, look)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _mend_soon(self) -> None:
        if not self._mending:
            self._mending = True
            self._scope.spawn(self._mend(), name="mend")

    async def _mend(self) -> None:
        """Wait until the log takes appends again, resolve what is in doubt, go on sending."""
        try:
            error = await self._recover()
            over = isinstance(error, NotSequencerError | LogClosedError)
            if self._sent and self._has_ended:
                self._doubt = True
            if self._doubt and (error is None or over):
                await self._resolve(over)
            if error is not None:
                self._refuse_queued(error)
            elif self._log.sealed:
                self._refuse_queued(None)
        finally:
            self._mending = False
        self._send()

    async def _recover(self) -> PerdureError | None:
        """Have the log recovered; the error if nothing can be sent here now.

        Without one it is open afterwards, or sealed as a whole.
        """
        while True:
            try:
                if self._overloaded_lsn:
                    lsn, self._overloaded_lsn = self._overloaded_lsn, 0
                    await self._log.wait_for_tail(lsn)
                overdue, self._overdue = self._overdue, False
                await self._lane.open(overdue=overdue)
            except PerdureError as error:
                if not error.retryable or isinstance(error, NotSequencerError):
                    return error
                await self._changed.wait(POLL_SECONDS)
            else:
                return None

    async def _resolve(self, over: bool) -> None:
        """Find what is in the log of all that was sent; the rest goes to the front of the queue.

        Args:
            over: no more answers are to be expected.
        """
        while any(item.doubt is None for item in self._sent):
            if over:
                for item in self._sent:
                    item.doubt = item.doubt or Indeterminate("the log takes no more records")
            elif not await self._changed.wait(POLL_SECONDS):
                self._overdue = True
                over = isinstance(await self._recover(), NotSequencerError | LogClosedError)
                over = over or self._has_ended
        numbered = [item for item in self._sent if item.sequence]
        found, unknown = await self._find(numbered, over)
        absent: list[_Item] = []
        full = False
        for item in tuple(self._sent):
            full = full or isinstance(item.doubt, Overloaded)
            if item.sequence in found:
                lsn = found[item.sequence]
                self._finish(item, Committed(lsn, lsn + len(item.records) - 1))
            elif item.sequence and unknown:
                self._finish(item, Indeterminate(unknown))
            else:
                self._sent.remove(item)
                item.forget_sending()
                absent.append(item)
        self._queued.extendleft(reversed(absent))
        self._epoch += 1
        self._next_sequence = 1
        self._segment = 0
        self._doubt = False
        if full:
            await self._changed.wait(OVERLOADED_SECONDS)

    @property
    def _has_ended(self) -> bool:
        """Whether no answers are to be expected from the other node that was sent to."""
        return self._lane.is_away and self._log.chain.end_of_index(self._segment) > 0

    async def _find(self, items: list[_Item], over: bool) -> tuple[dict[int, int], str]:
        """Read the old segment's end: the LSNs of what is there, by number.

        Also why the others may be there nevertheless; "" when they are absent for ever.
        """
        found: dict[int, int] = {}
        if not items:
            return found, ""
        first_lsn = min(item.first_lsn for item in items)
        numbers = {item.sequence for item in items}
        try:
            end_lsn, unknown = await self._end_lsn(over), ""
            if not end_lsn:
                unknown = "the segment was not sealed before the log was closed"
                end_lsn = (await self._log.find_tail()).lsn
            async for entry in LogReader(self._log, first_lsn, to_lsn=end_lsn - 1):
                match entry:
                    case LogEntry(lsn, record):
                        if (
                            record.sequence in numbers
                            and record.producer == self._producer
                            and record.producer_epoch == self._epoch
                        ):
                            found[record.sequence] = lsn
                    case TrimGap():
                        unknown = "the log was trimmed before it could be read"
                    case FilteredGap():
                        pass
        except PerdureError as error:
            unknown = f"the log cannot be read: {error}"
        return found, unknown

    async def _end_lsn(self, over: bool) -> int:
        """All that was sent is below this LSN or never gets into the log; 0 if nobody knows."""
        if over or self._log.elsewhere is None:
            return self._log.chain.end_of_index(self._segment)
        return await self._lane.end_lsn(self._segment, self._producer, self._epoch + 1)

    def _refuse_queued(self, error: PerdureError | None) -> None:
        """Nothing that is queued can be sent: tell so, with the error or as Sealed."""
        queued, self._queued = self._queued, deque()
        for item in queued:
            if error is not None:
                self._fail(item, error)
            else:
                self._finish(item, Sealed(self._log.chain.tail.index))

    def _break(self, error: BaseException) -> None:
        """A bug: nobody may wait for ever."""
        self._room.close()
        self._stop_timer()
        for item in (*self._sent, *self._queued):
            if not item.answered.done():
                item.answered.set_exception(error)
            self._done(item)
        self._queued.clear()
