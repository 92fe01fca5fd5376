"""The virtual log: one sequence of LSNs over a chain of loglets.

After Delos' VirtualLog (OSDI 2020): the chain is a small value in metadata, touched only when the
log is reconfigured; between times appends and reads need nothing but the loglets. One process
orders the appends of a log, whoever added its last segment; others read it and may seal it.
"""

from collections.abc import Sequence

from ..core.errors import PerdureError
from ..core.ids import LogId
from .answers import Answer, Fence, NotChangedSince, Producer, Sealed, SettledListener
from .chain import Chain
from .chain_view import POLL_SECONDS, LogResources
from .elsewhere import Elsewhere
from .errors import LogClosedError, NotSequencerError
from .led_log import LedLog
from .pending_answer import PendingAnswer
from .sequencer import AnswerListener, Append, check_append
from .types import Record


class VirtualLog(LedLog):
    """One log. Get it from `Logs.open`; everything here runs on the event loop's thread.

    Attributes:
        elsewhere: takes appends to other nodes, None where they are only taken here.
    """

    def __init__(
        self,
        log: LogId,
        chain: Chain,
        resources: LogResources,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """Show the log; it is not led yet."""
        super().__init__(log, chain, resources)
        self.elsewhere = elsewhere
        self._looking = False

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
        Indeterminate when the connection is lost before the answer is here. With a producer it is
        asked for again then, and Indeterminate only when nobody can tell.

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
