"""The lead of a log: one process takes it, orders the appends, changes the chain, gives it up.

Each change seals the last loglet and adds a segment behind it; see `virtual_log` for the whole.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import aiorwlock

from ..core.errors import StorageError
from ..core.ids import LogId
from .chain import SEGMENTS_MAX, Chain, Segment
from .chain_view import READ_BYTES_MAX, ChainView, LogResources
from .errors import ChainFullError, LogError, StaleEpochError
from .loglet import Loglet, SequencerNode
from .sequencer import Sequencer
from .types import Batch, LogBatch, LogTail

LogListener: TypeAlias = Callable[[LogBatch], None]
"""Told of every batch that the process's own sequencer commits, in order; must not raise."""


class LedLog(ChainView):
    """One log, which this process may lead.

    Locking: the chain lock is shared by whoever enqueues and exclusive for whoever changes the
    chain. An enqueue does not wait while it holds it, so where no task is at hand it is enough to
    see that nobody holds it exclusively. It is never held while waiting for a commit.

    Attributes:
        refusals: appends refused here so far, by the name of the answer.
    """

    def __init__(self, log: LogId, chain: Chain, resources: LogResources) -> None:
        """Show the log; it is not led yet."""
        super().__init__(log, chain, resources)
        self._limits = resources.limits
        self._on_turn = resources.on_turn or _nothing
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
        self._listener: LogListener | None = None
        self._on_open: Callable[[], None] = _nothing
        self._on_sealed: Callable[[], None] = _nothing
        self._on_closed: Callable[[], None] = _nothing

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
        it: raises NotSequencerError, what `lead` raises, and UnfitSequencerError. Cancelling
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

    # Whether it takes appends ---------------------------------------------------------------------

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

    def _ordering(self) -> Sequencer:
        """Our sequencer. Raises LogClosedError, NotSequencerError."""
        if self._failure is not None:
            raise self._failure
        if self._sequencer is None:
            raise self._not_sequencer()
        return self._sequencer


def _nothing() -> None:
    return None
