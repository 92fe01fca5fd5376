"""Lane: how an appender's appends get to the sequencer, which is here or on another node.

Here an append is decided at once. To another node it is sent, and the LSN that it will have is not
known: of it there is a lower bound, from which on the log is read should the answer not come.
"""

from functools import partial

from ..core.errors import PerdureError
from .answers import Committed, Sealed, Settled
from .elsewhere import AppendSearch, AppendTarget, NotHere, Outcome, Told
from .errors import LogError, NotSequencerError
from .sequencer import Append
from .virtual_log import VirtualLog


class Lane:
    """The way of one appender into a log."""

    def __init__(self, log: VirtualLog) -> None:
        """Begin at home; `open` finds the other node where there is one."""
        self._log = log
        self._search: AppendSearch | None = None
        self._target: AppendTarget | None = None
        self._segment = 0
        self._hint = ""
        self._lower_lsn = 1

    @property
    def is_away(self) -> bool:
        """Whether appends go to another node."""
        return self._target is not None

    @property
    def ready(self) -> bool:
        """Whether `offer` can be called; `open` makes it so."""
        if self._target is None:
            return self._log.accepting
        return self._target.is_connected and not self._log.is_own_affair

    @property
    def segment(self) -> int:
        """The index of the segment that appends get into now."""
        return self._log.open_segment if self._target is None else self._segment

    def offer(self, append: Append, told: Told) -> int | None:
        """Send an append behind those before; see `VirtualLog.offer`. Only while `ready`.

        Gives its first LSN, or, if it goes to another node, one that is not above it; None when it
        was refused at once, which only happens here. `told` hears Sealed also when nothing was
        written because it did not get to whoever orders the log. Raises what `VirtualLog.offer`
        raises, and RecordTooLargeError.
        """
        if self._target is None:
            return self._log.offer(append, told)
        self._target.offer(self._log.log, append, partial(self._told, self._target, append, told))
        return self._lower_lsn

    def _told(self, target: AppendTarget, append: Append, told: Told, outcome: Outcome) -> None:
        if isinstance(outcome, NotHere):
            self._hint = outcome.node
            if target is self._target:
                self._target = None
            outcome = Sealed(append.segment or 0)
        elif isinstance(outcome, PerdureError) and outcome.retryable:
            outcome = Sealed(append.segment or 0)  # Its log could not be opened again.
        elif isinstance(outcome, Committed):
            # What this appender sends from now on comes behind that.
            self._lower_lsn = max(self._lower_lsn, outcome.last_lsn + 1)
            if target is self._target and self._search is not None:
                self._search.found()
        told(outcome)

    async def open(self, *, overdue: bool) -> None:
        """Have the log take appends again, here or elsewhere, unless it is sealed as a whole.

        Args:
            overdue: there were no answers for a while.

        Raises what `VirtualLog.recover` and `AppendSearch.next` raise. Cancelling is safe.
        """
        log = self._log
        if self._target is not None and overdue and self.ready:
            # Whoever waits sees whether the segment has ended, and where to send from now on.
            await log.refresh()
            self._segment = log.chain.tail.index
            return
        try:
            if overdue:
                await log.recover()
            else:
                await log.wait_until_open()
        except NotSequencerError:
            if log.elsewhere is None:
                raise
        else:
            self._target = self._search = None
            return
        assert log.elsewhere is not None
        search = self._search = self._search or log.elsewhere.search(log)
        hint, self._hint = self._hint, ""
        self._target = await search.next(hint)
        if self._target is None:
            self._search = None
        else:
            self._lower_lsn = max(self._lower_lsn, await self._tail_lsn())
            self._segment = log.chain.tail.index

    async def _tail_lsn(self) -> int:
        """An LSN that nothing that is sent from now on is below."""
        log = self._log
        await log.refresh()
        try:
            return (await log.find_tail()).lsn
        except LogError:
            return log.chain.tail.base_lsn

    async def end_lsn(self, segment: int, producer: bytes, epoch: int) -> int:
        """An LSN that all is below what was sent to a segment under epochs below `epoch`.

        None of it gets into the log any more, once this returns. Raises PerdureError when nobody
        can tell. Cancelling is safe.
        """
        log = self._log
        search: AppendSearch | None = None
        hint = ""
        while not (end := log.chain.end_of_index(segment)):
            if log.elsewhere is None:
                raise LogError("the segment was not sealed before the log was closed")
            search = search or log.elsewhere.search(log)
            target = await search.next(hint)
            hint = ""
            if target is None:
                if not log.chain.end_of_index(segment):
                    raise LogError("the log was closed before the segment was sealed")
                continue
            outcome = await target.settle(log.log, segment, producer, epoch)
            match outcome:
                case Settled(tail_lsn):
                    return tail_lsn
                case NotHere(node):
                    hint = node
                case PerdureError():
                    raise outcome
                case _:
                    pass  # The segment has ended, and the chain, read again, tells where.
        return end
