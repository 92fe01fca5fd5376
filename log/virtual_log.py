"""The virtual log: one sequence of LSNs over a chain of loglets.

After Delos' VirtualLog (OSDI 2020): the chain is a small value in metadata, touched only when the
log is reconfigured; between times appends and reads need nothing but the loglets. One process
orders the appends of a log, whoever added its last segment; others read it and may seal it.
"""

from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

import aiorwlock

from ..core.errors import PerdureError, StorageError
from ..core.ids import LogId
from ..metadata.api import MetadataStore
from .answers import Answer, Fence, NotChangedSince, Producer, Sealed, SettledListener
from .chain import SEGMENTS_MAX, Chain, Segment
from .chain_view import POLL_SECONDS, READ_BYTES_MAX, ChainView
from .elsewhere import Elsewhere
from .errors import ChainFullError, LogClosedError, LogError, NotSequencerError, StaleEpochError
from .loglet import Loglet, LogletProvider, SequencerNode
from .pending_answer import PendingAnswer
from .sequencer import AnswerListener, Append, Sequencer, SequencerLimits, check_append
from .types import Batch, LogBatch, LogTail, Record

LogListener: TypeAlias = Callable[[LogBatch], None]
"""Told of every batch that the process's own sequencer commits, in order; must not raise."""


class VirtualLog(ChainView):
    """One log. Get it from `Logs.open`; everything here runs on the event loop's thread.

    Locking: the chain lock is shared by whoever enqueues and exclusive for whoever changes the
    chain. An enqueue does not wait while it holds it, so where no task is at hand (`enqueue`) it is
    enough to see that nobody holds it exclusively. It is never held while waiting for a commit.

    Attributes:
        refusals: appends refused here so far, by the name of the answer.
        elsewhere: takes appends to other nodes, None where they are only taken here.
    """

    def __init__(
        self,
        log: LogId,
        chain: Chain,
        *,
        metadata: MetadataStore,
        providers: dict[str, LogletProvider],
        loop: AbstractEventLoop,
        limits: SequencerLimits | None = None,
        on_turn: Callable[[], None] | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """Show the log; `on_turn` follows when `listen` was told of what a seal had kept back."""
        super().__init__(log, chain, metadata=metadata, providers=providers, loop=loop)
        self.elsewhere = elsewhere
        self._limits = limits
        self._on_turn = on_turn or _nothing
        self.refusals: dict[str, int] = {}
        # Fast: to take it does not let others run when nobody holds it.
        self._lock = aiorwlock.RWLock(fast=True)
        self._change_lock = self._lock.writer
        self._sequencer: Sequencer | None = None
        # The loglet of `_sequencer`.
        self._led: Loglet | None = None
        self._epoch = 0
        # The segment that was last on its way to the chain: when storing it failed or was
        # cancelled, it may be there, and is ours.
        self._proposed: Segment | None = None
        self._recovering = 0
        self._looking = False
        self._listener: LogListener | None = None
        self._on_open: Callable[[], None] = _nothing
        self._on_sealed: Callable[[], None] = _nothing
        self._on_closed: Callable[[], None] = _nothing

    # The lead ------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The epoch under which this process orders the appends, 0 while it does not."""
        return 0 if self._sequencer is None else self._epoch

    @property
    def open_segment(self) -> int:
        """The index of the segment whose appends this process orders, 0 when there is none."""
        return 0 if self._sequencer is None else self._sequencer.segment.index

    @property
    def committed_tail_lsn(self) -> int:
        """The first LSN that is not committed, as this process's sequencer knows it; else 0."""
        return 0 if self._sequencer is None else self._sequencer.committed_tail_lsn

    def listen(
        self,
        listener: LogListener,
        *,
        on_open: Callable[[], None] | None = None,
        on_sealed: Callable[[], None] | None = None,
        on_closed: Callable[[], None] | None = None,
    ) -> None:
        """Have somebody told of what this process's sequencer does.

        Args:
            listener: of each committed batch.
            on_open: appends are taken, in a new segment or again after a change of the chain; what
                was held back may be enqueued. May be called when nothing was held back.
            on_sealed: somebody else sealed the segment; `recover` is called for. Called once per
                segment, by `recover_soon`.
            on_closed: the log as a whole is sealed; what was held back waits for an operator.
        """
        self._listener = listener
        self._on_open = on_open or _nothing
        self._on_sealed = on_sealed or _nothing
        self._on_closed = on_closed or _nothing

    async def lead(self, epoch: int | None = None, *, kind: str | None = None) -> int:
        """Order the appends from here on: seal the last segment and add one of our own.

        A log that was sealed as a whole is opened again. Nobody else is asked: their appends are
        refused as Sealed. Gives the epoch.

        Args:
            epoch: from 1, not below that of any segment; None takes the next one. Two processes
                must not take the same one.
            kind: of the new segment's provider; None keeps that of the last segment.

        Raises StaleEpochError, UnknownProviderError, ChainFullError, ReconfigurationError and what
        loglets and metadata raise. Cancelling may leave the log sealed; doing it again goes on.
        """
        assert epoch is None or epoch >= 1, f"epochs count from 1, not {epoch}"
        async with self._exclusive():
            await self._extend(epoch, kind)
            return self._epoch

    async def reconfigure(self, kind: str | None = None, *, sequencer: str = "") -> Segment:
        """Seal the last segment and go on in a new one, of another provider if wanted.

        Nothing is lost and nothing changes its order; appends wait meanwhile. Only who leads may do
        it: raises NotSequencerError, what `lead` raises, and SequencerUnavailableError. Cancelling
        may leave the log sealed; the next append, or doing it again, goes on.

        Args:
            sequencer: the node that is to give out the offsets of this one segment, while appends
                are admitted here as ever; empty for this node. When it fails, or anything else ends
                the segment, the next one is ordered here again.
        """
        elsewhere: SequencerNode | None = None
        if sequencer:
            elsewhere = await self._provider(kind or self.chain.tail.kind).meet(sequencer)
        async with self._exclusive():
            await self.refresh()
            await self._extend_own(kind, elsewhere)
            return self.chain.tail

    async def recover(self) -> None:
        """Open a new segment after somebody sealed the last one; nothing to do if it is open.

        A log that is sealed as a whole stays so. Raises NotSequencerError when somebody else leads
        now, and what `lead` raises. Cancelling is safe.
        """
        async with self._exclusive():
            if self._sequencer is None or self._led is None:
                raise self._not_sequencer()
            if not self._sequencer.sealed and not (await self._led.find_tail()).sealed:
                return
            await self.refresh()
            if self.sealed and self._is_ours(self.chain.tail):
                await self._retire()
                return
            await self._extend_own(None)

    async def wait_until_open(self) -> None:
        """Wait for a change of the chain that is under way, and `recover` if the segment is sealed.

        Afterwards the log takes appends, unless it was sealed as a whole or the next change has
        begun already. Raises what `recover` raises and LogClosedError. Cancelling is safe.
        """
        async with self._lock.reader:
            sequencer = self._ordering()
        if sequencer.sealed:
            await self.recover()

    async def seal(self, segment: int | None = None) -> LogTail:
        """Seal the whole log: it takes nothing until somebody leads or reconfigures it again.

        Args:
            segment: the index that is believed to be the last one; UnknownSegmentError if not.

        Gives the final tail. Doing it again does nothing. Raises what loglets and metadata raise.
        Cancelling leaves it open or sealed.
        """

        async with self._exclusive():
            tail_lsn = await self._seal_chain(segment)
            if self._is_ours(self.chain.tail):
                await self._retire()
            return LogTail(tail_lsn, True)

    def resign(self) -> None:
        """Order no appends any more, and tell nobody of commits; the segment stays as it is.

        For who leads no longer: what is in flight may still be committed, and is then read like
        anybody else's. A change of the chain that is under way goes on. `lead` begins anew.
        """
        sequencer, self._sequencer, self._led = self._sequencer, None, None
        self._listener = None
        self._on_open = self._on_sealed = self._on_closed = _nothing
        if sequencer is not None:
            sequencer.close(lost=False, reason="this process does not order the appends any more")

    @asynccontextmanager
    async def _exclusive(self) -> AsyncIterator[None]:
        """The chain lock; what was held back meanwhile is called for again, whatever happened."""
        try:
            async with self._change_lock:
                yield
        finally:
            if self.accepting:
                self._on_open()
            elif self.sealed:
                self._on_closed()
            else:
                self.recover_soon()

    async def _extend(
        self, epoch: int | None, kind: str | None, elsewhere: SequencerNode | None = None
    ) -> None:
        """With the lock held exclusively: a new last segment, ordered here."""
        if self._failure is not None:
            raise self._failure
        if kind is not None:
            self._provider(kind)
        taken = 0

        async def extended(chain: Chain) -> Chain:
            nonlocal taken
            last = chain.tail
            taken = last.params.epoch + 1 if epoch is None else epoch
            if taken < last.params.epoch:
                raise StaleEpochError(self.log, taken, last.params.epoch)
            if len(chain.segments) >= SEGMENTS_MAX:
                # Before anything is sealed, so that a log which cannot grow goes on as it is.
                raise ChainFullError(self.log, len(chain.segments))
            provider = self._provider(kind or last.kind)
            # Likewise a log whose next segment could be placed nowhere.
            provider.params(self.log, last.index + 1, taken, last.params.record_time_ns)
            tail_lsn, record_time_ns = await self._seal_segment(last)
            params = provider.params(self.log, last.index + 1, taken, record_time_ns, elsewhere)
            longer = chain.extend(self.log, tail_lsn, provider.kind, params)
            self._proposed = longer.tail
            return longer

        self._show(await self._chains.change(extended))
        await self._retire()
        self._install(taken)

    async def _extend_own(self, kind: str | None, elsewhere: SequencerNode | None = None) -> None:
        """`_extend`, if nobody else has taken the lead; the chain was read just now."""
        if self._sequencer is None:
            raise self._not_sequencer()
        if self._is_ours(self.chain.tail):
            try:
                await self._extend(self._epoch, kind, elsewhere)
                return
            except StaleEpochError:
                await self.refresh()
        await self._retire()
        self._sequencer = self._led = None
        raise self._not_sequencer() from None

    def _is_ours(self, segment: Segment) -> bool:
        """Whether the segment was added to the chain from here."""
        sequencer = self._sequencer
        if sequencer is None:
            return False
        return segment.index == sequencer.segment.index or segment == self._proposed

    def _install(self, epoch: int) -> None:
        segment = self.chain.tail
        loglet = self._led = self._loglet(segment)
        sequencer = self._sequencer = Sequencer(segment, loglet, self._limits, self.refusals)
        self._epoch = epoch
        loglet.listen(
            lambda batch: self._committed(sequencer, batch), lambda: self._sealed_here(sequencer)
        )

    def _sealed_here(self, sequencer: Sequencer) -> None:
        """The segment takes nothing more, by whomever: who waits must not wait for the next append.

        Where the chain is being changed from here, that goes on anyway.
        """
        if sequencer is self._sequencer:
            sequencer.sealed_below()
            self.recover_soon()

    def _committed(self, sequencer: Sequencer, batch: Batch) -> None:
        """A batch of a segment that is ordered here is durable."""
        if sequencer is not self._sequencer:
            return  # The lead was given up; whoever follows reads it.
        if sequencer.segment.lsn_of(batch.last_offset) < sequencer.committed_tail_lsn:
            return  # Read from the sealed loglet before the loglet came to tell of it.
        sequencer.committed(batch)
        if self._listener is not None:
            self._listener(LogBatch(sequencer.segment.base_lsn, batch))

    async def _retire(self) -> None:
        """Our segment is sealed: tell everybody who waits what became of their records.

        A loglet may commit something while it is sealed without telling who enqueued it; what is
        below its final tail is in the log for ever, and nothing else ever will be.
        """
        sequencer, loglet = self._sequencer, self._led
        if sequencer is None or loglet is None:
            return
        segment = sequencer.segment
        lost, reason = True, ""
        known = sequencer.committed_tail_lsn
        try:
            state = await loglet.find_tail()
            assert state.sealed, "the chain goes on behind a loglet that is open"
            while sequencer.committed_tail_lsn < segment.lsn_of(state.offset):
                offset = segment.offset_of(sequencer.committed_tail_lsn)
                batches = await loglet.read(offset, READ_BYTES_MAX)
                assert batches, "a loglet does not give what is below its tail"
                for batch in batches:
                    self._committed(sequencer, batch)
        except (LogError, StorageError) as error:
            lost, reason = False, f"the end of segment {segment.index} cannot be read: {error}"
        if sequencer.committed_tail_lsn > known:
            self._on_turn()  # Before anything is enqueued that rests on it.
        sequencer.close(lost=lost, reason=reason)

    # Appending -----------------------------------------------------------------------------------

    def enqueue(
        self,
        record: Record,
        condition: NotChangedSince | None = None,
        refused: AnswerListener | None = None,
    ) -> int | None:
        """Append one record without waiting; its LSN, or None when it was not taken.

        For the leader, who sees its records come back through `listen`. Afterwards `accepting`
        tells why it was not taken: the log is being reconfigured (hold it back until `on_open`), or
        its condition does not hold, and then `refused` hears the answer when it is final.

        The record is trusted to be within the limits and to carry its condition. Raises
        FuturePositionError, LogClosedError, NotSequencerError.
        """
        sequencer = self._sequencer
        if sequencer is None or self._failure is not None:
            sequencer = self._ordering()
        if self._change_lock.locked:
            return None
        return sequencer.admit_own(record, condition, refused)

    def offer(self, append: Append, listener: AnswerListener) -> int | None:
        """Append without waiting; the first LSN it will have, or None for a refusal.

        For whoever pipelines: `listener` hears the answer, whatever it is, possibly before this
        returns. Only while `accepting`, and the append must have passed `check_append`. Raises
        FuturePositionError, NotSequencerError, LogClosedError.
        """
        assert not self._change_lock.locked, "offered while the chain is being changed"
        return self._ordering().admit(append, listener)

    def settle(self, segment: int, producer: bytes, epoch: int, listener: SettledListener) -> None:
        """See `Sequencer.settle`. Raises NotSequencerError, LogClosedError."""
        self._ordering().settle(segment, producer, epoch, listener)

    def recover_soon(self) -> None:
        """Have `recover` called for if the segment was sealed by somebody else."""
        sequencer = self._sequencer
        if (
            sequencer is not None
            and sequencer.sealed
            and not self.sealed
            and self._failure is None
            and self._recovering != sequencer.segment.index
            and not self._change_lock.locked
        ):
            self._recovering = sequencer.segment.index
            self._on_sealed()

    @property
    def is_own_affair(self) -> bool:
        """Whether appends are this process's own: it orders them, or takes none at all."""
        return self._sequencer is not None or self._failure is not None

    @property
    def changing(self) -> bool:
        """Whether this process is changing the chain, and `offer` has to wait."""
        return self._change_lock.locked

    @property
    def accepting(self) -> bool:
        """Whether `enqueue` takes records now instead of having them held back."""
        return (
            self._sequencer is not None
            and not self._sequencer.sealed
            and not self._change_lock.locked
        )

    async def append(
        self,
        records: Sequence[Record],
        *,
        conditions: Sequence[NotChangedSince] = (),
        fence: Fence | None = None,
        producer: Producer | None = None,
        segment: int | None = None,
    ) -> Answer:
        """Append records as one group: contiguous, all or nothing, if the conditions hold.

        The answer comes when it is final; `Committed` means durable. Reconfigurations are waited
        for; `Sealed` comes only when the log as a whole is sealed. Where another node orders the
        appends and there is a way to it (`elsewhere`), it goes there, and back comes the same, or
        Indeterminate when the connection is lost before the answer is here.

        Args:
            records: 1 to 1000, 4 MiB together, or one longer one.
            conditions: what must not have changed; one of their keys must be written, or the
                append numbered by a producer.
            segment: the index of the segment it is meant for; any if None. It may be Sealed.

        Raises MalformedAppendError, RecordTooLargeError, BatchTooLargeError,
        UnguardedConditionError, FuturePositionError, NotSequencerError, LogClosedError, and what
        `recover` raises: then nothing was written. Cancelling leaves open whether it was.
        """
        append = Append(list(records), tuple(conditions), fence, producer, segment)
        check_append(append)
        while True:
            try:
                return await self._append_here(append)
            except NotSequencerError:
                if self.elsewhere is None:
                    raise
            answer = await self.elsewhere.append(self, append)
            if answer is not None:
                return answer

    async def _append_here(self, append: Append) -> Answer:
        """`append` on the node that orders the appends."""
        while True:
            chain = self.chain
            pending: PendingAnswer[Answer] = PendingAnswer(self._loop)
            async with self._lock.reader:
                self._ordering().admit(append, pending.settle)
            while (answer := await pending.answer_within(POLL_SECONDS)) is None:
                await self.look_for_seal()
            if type(answer) is not Sealed or append.segment is not None:
                return answer
            if self.sealed and self.chain is not chain:
                return answer  # It was sealed after this append began.
            if self._sequencer is None or self._sequencer.sealed:
                await self.recover()
            if self.sealed:
                return answer

    def _ordering(self) -> Sequencer:
        """Our sequencer. Raises LogClosedError, NotSequencerError."""
        if self._failure is not None:
            raise self._failure
        if self._sequencer is None:
            raise self._not_sequencer()
        return self._sequencer

    async def look_for_seal(self) -> None:
        """No answer for a long time: our segment may have been sealed, and what is in flight lost.

        Whatever goes wrong here is tried again at the next look; who waits is told by `_retire`.
        Cancelling is safe.
        """
        if self._looking or self._led is None:
            return
        self._looking = True
        try:
            if (await self._led.find_tail()).sealed:
                await self.recover()
        except PerdureError:
            pass
        finally:
            self._looking = False

    # Trimming ------------------------------------------------------------------------------------

    async def trim(self, last_lsn: int) -> int:
        """Remove what lies at or below `last_lsn`, in whole batches and segments.

        Never more than what is committed, whatever is asked for. Gives the trim point, the last
        LSN that is gone: it may be less than asked for, where that lies within a batch, and more
        when more was trimmed before. Cancelling leaves open how far it came.
        """
        wanted = min(last_lsn, (await self.find_tail()).lsn - 1)
        if self.chain.trim(wanted) is not self.chain:
            async with self._exclusive():
                await self._trim_chain(wanted)
        first = self.chain.segments[0]
        if wanted >= first.base_lsn:
            await self._loglet(first).trim(first.offset_of(wanted))
        return self.trim_point_lsn

    # The rest ------------------------------------------------------------------------------------

    def fail(self, error: Exception) -> None:
        """The disk failed or the process stops: nothing more is taken or acknowledged here."""
        if self._failure is None:
            self._failure = LogClosedError(f"the log takes no more records: {error}")
            if self._sequencer is not None:
                self._sequencer.close(lost=False, reason=str(error))
            self._changed.wake()


def _nothing() -> None:
    return None
