"""What every process can do with a log, whoever orders its appends: find the tail and read."""

from asyncio import AbstractEventLoop
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..core.errors import StorageError
from ..core.ids import LogId
from ..core.waiters import Waiters
from ..metadata.api import MetadataStore
from .chain import Chain, Segment
from .chain_store import ChainStore
from .errors import (
    CorruptBatchError,
    FuturePositionError,
    LogError,
    LogletLostError,
    NotSequencerError,
    TrimmedError,
    UnknownProviderError,
    UnknownSegmentError,
)
from .loglet import Loglet, LogletProvider
from .sequencer import SequencerLimits
from .types import LogBatch, LogTail

READ_BYTES_MAX: Final = 1024 * 1024

POLL_SECONDS: Final = 0.5
"""How long a change made by another process may stay unnoticed by who only waits."""

OF_ONE_PROCESS: Final = ("local", "memory")
"""Kinds of loglets that only the process which has them can seal."""

_SUCCESSOR_POLL_SECONDS: Final = 0.05
"""The same after the last segment was sealed alone: its successor is about to come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogResources:
    """What the logs of one process share.

    Attributes:
        metadata: where chains are kept.
        providers: of loglets, by kind.
        loop: on which everything happens.
        limits: of the sequencers.
        on_turn: follows when `LedLog.listen` was told of what a seal had kept back.
    """

    metadata: MetadataStore
    providers: dict[str, LogletProvider]
    loop: AbstractEventLoop
    limits: SequencerLimits | None = None
    on_turn: Callable[[], None] | None = None


class ChainView:
    """A log's chain as this process has last seen it, and the loglets behind it.

    The chain is read again only when a sealed loglet, or one that is gone, says that it may have
    changed.

    Attributes:
        log: its number.
        chain: as it was last seen.
    """

    def __init__(self, log: LogId, chain: Chain, resources: LogResources) -> None:
        """Show the log whose chain was read from the metadata."""
        self.log = log
        self.chain = chain
        self._chains = ChainStore(log, resources.metadata)
        self._providers = resources.providers
        self._loop = resources.loop
        self._failure: LogError | None = None
        self._changed = Waiters()

    @property
    def segment_count(self) -> int:
        """How many segments the chain has."""
        return len(self.chain.segments)

    @property
    def sealed(self) -> bool:
        """Whether the log as a whole was sealed, as far as this process knows."""
        return self.chain.sealed_tail is not None

    @property
    def is_own_affair(self) -> bool:
        """Whether appends are this process's own: it orders them, or takes none at all."""
        return self._failure is not None

    @property
    def shared(self) -> bool:
        """Whether other processes can seal the last segment: who leads may be deposed unnoticed."""
        return self.chain.tail.kind not in OF_ONE_PROCESS

    @property
    def trim_point_lsn(self) -> int:
        """The last LSN that was trimmed, 0 when nothing was. Raises what opening a loglet does."""
        first = self.chain.segments[0]
        return first.lsn_of(self._loglet(first).trim_point)

    async def refresh(self) -> bool:
        """Read the chain again; whether it has changed. Raises what metadata raises."""
        first = shown = self.chain
        while True:
            chain = await self._chains.load()
            if self.chain is shown:
                break
            # Somebody has shown another one meanwhile, and this one may be older.
            shown = self.chain
        if chain != shown:
            self._show(chain)
        return self.chain is not first

    async def find_tail(self) -> LogTail:
        """The tail, linearizable: above every LSN acknowledged before the call.

        Costs nothing but the loglet's own `find_tail` while the last segment is open. Raises what
        loglets and metadata raise. Cancelling is safe.
        """
        while True:
            segment = self.chain.tail
            loglet = await self._present(segment)
            if loglet is None:
                continue
            state = await loglet.find_tail()
            lsn = segment.lsn_of(state.offset)
            if not state.sealed:
                return LogTail(lsn, False)
            # Only the chain knows whether anything follows a sealed segment. Somebody else may have
            # read it meanwhile, so what counts is whether the segment is still the last one.
            await self.refresh()
            if self.chain.tail == segment:
                return LogTail(lsn, self.sealed)

    async def is_sealed(self, segment: Segment) -> bool:
        """Whether a segment takes nothing more, though the log as a whole may be open.

        Raises what loglets raise. Cancelling is safe.
        """
        return (await self._loglet(segment).find_tail()).sealed

    async def read(self, lsn: int, bytes_max: int = READ_BYTES_MAX) -> list[LogBatch]:
        """Committed batches from the one that holds `lsn`, of one segment, at least one if any.

        Empty means that `lsn` is the tail. Raises TrimmedError, FuturePositionError,
        CorruptBatchError and what metadata raises. Cancelling is safe.
        """
        while True:
            chain = self.chain
            if lsn < chain.first_lsn:
                raise TrimmedError(lsn, max(chain.first_lsn - 1, self._trim_point_if_present()))
            position = chain.position_of(lsn)
            segment = chain.segments[position]
            end = chain.end_of(position)
            loglet = await self._present(segment)
            if loglet is None:
                continue
            try:
                batches = await loglet.read(segment.offset_of(lsn), bytes_max)
            except TrimmedError as error:
                trim_point = segment.lsn_of(error.trim_point)
                await self.refresh()
                if self.chain is not chain:
                    continue  # Whole segments went: more is gone than this one knows of.
                raise TrimmedError(lsn, trim_point) from None
            found = [LogBatch(segment.base_lsn, batch) for batch in batches]
            if end is not None:
                found = [item for item in found if item.first_lsn < end]
            if found:
                return found
            if end is not None and lsn < end:
                if await self.refresh() or self.chain is not chain:
                    continue  # It was trimmed, and deleted, by another process.
                raise CorruptBatchError(
                    segment.params.loglet,
                    segment.offset_of(end - 1),
                    f"the chain says that segment {segment.index} reaches this offset, but its "
                    f"records from offset {segment.offset_of(lsn)} on are missing",
                )
            tail = await self.find_tail()
            if tail.lsn == lsn:
                return []
            if tail.lsn < lsn:
                raise FuturePositionError(lsn, tail.lsn)
            # Written meanwhile, here or in a segment that was not known before.

    async def wait_for_tail(self, above: int) -> None:
        """Wait until `read(above)` may give something. Raises LogClosedError and what metadata
        raises. Cancelling is safe.
        """
        segment = self.chain.tail
        if above < segment.base_lsn:
            return
        loglet = await self._present(segment)
        if loglet is None:
            return
        state = await loglet.wait_for_tail(segment.offset_of(above))
        if segment.lsn_of(state.offset) > above:
            return
        await self.refresh()
        if self._failure is not None:
            raise self._failure
        if self.chain.tail == segment:
            # Others change the chain without telling this process.
            await self._changed.wait(POLL_SECONDS if self.sealed else _SUCCESSOR_POLL_SECONDS)

    def _show(self, chain: Chain) -> None:
        """This is the chain now; wake those who wait for a change of it."""
        first_kept = chain.segments[0].index
        if first_kept > self.chain.segments[0].index:
            for provider in self._providers.values():
                provider.forget(self.log, first_kept)
        self._use(chain)

    def _use(self, chain: Chain) -> None:
        self.chain = chain
        self._changed.wake()

    async def _present(self, segment: Segment) -> Loglet | None:
        """The segment's loglet; None when the chain was read again and no longer has it.

        Raises LogletLostError when it is gone and yet in the chain.
        """
        try:
            return self._loglet(segment)
        except LogletLostError:
            # Trimmed by another process, perhaps.
            await self.refresh()
            if segment in self.chain.segments:
                raise
            return None

    def known_tail_lsn(self, index: int) -> int:
        """What will be appended to a segment comes at this LSN or above, by what is known here."""
        segment = next((item for item in self.chain.segments if item.index == index), None)
        if segment is None:
            return self.chain.first_lsn
        try:
            return segment.lsn_of(self._loglet(segment).committed_tail)
        except (LogError, StorageError):
            return segment.base_lsn

    def _trim_point_if_present(self) -> int:
        try:
            return self.trim_point_lsn
        except LogletLostError:
            return 0  # Whoever reads on there hears of it.

    def _loglet(self, segment: Segment) -> Loglet:
        return self._provider(segment.kind).open(segment)

    def _provider(self, kind: str) -> LogletProvider:
        provider = self._providers.get(kind)
        if provider is None:
            raise UnknownProviderError(
                f"log {self.log}: no provider of kind {kind!r} here; there are "
                f"{', '.join(sorted(self._providers))}"
            )
        return provider

    async def _seal_segment(self, segment: Segment) -> tuple[int, int]:
        """Seal a segment's loglet; its final tail as LSN and its last record time."""
        loglet = self._loglet(segment)
        await loglet.seal()
        state = await loglet.find_tail()
        assert state.sealed, "a loglet is open after it was sealed"
        return segment.lsn_of(state.offset), state.record_time_ns

    async def _seal_chain(self, segment: int | None) -> int:
        """Seal the last segment, and in the chain the log as a whole; gives the final tail."""

        async def sealed(chain: Chain) -> Chain | None:
            if segment is not None and chain.tail.index != segment:
                there = f"its last one is {chain.tail.index}"
                raise UnknownSegmentError(self.log, segment, there)
            if chain.sealed_tail is not None:
                return None
            return chain.seal((await self._seal_segment(chain.tail))[0])

        self._show(await self._chains.change(sealed))
        assert self.chain.sealed_tail is not None
        return self.chain.sealed_tail

    async def _trim_chain(self, last_lsn: int) -> None:
        """Take whole segments out of the chain, and delete them; nobody else changes it here."""
        before = self.chain

        async def trimmed(chain: Chain) -> Chain | None:
            nonlocal before
            before = chain
            shorter = chain.trim(last_lsn)
            return None if shorter is chain else shorter

        # First the chain, then the data: a crash in between leaves data that nobody reads,
        # which the next deletion takes along.
        # Not `_show`: what is known of the loglets is needed to delete them.
        self._use(await self._chains.change(trimmed))
        first_kept = self.chain.segments[0].index
        gone = tuple(item for item in before.segments if item.index < first_kept)
        for kind in dict.fromkeys(item.kind for item in gone):
            of_kind = tuple(item for item in gone if item.kind == kind)
            await self._provider(kind).delete(self.log, of_kind, first_kept)

    def _not_sequencer(self) -> NotSequencerError:
        return NotSequencerError(
            f"log {self.log} is ordered by {self.chain.tail.params.sequencer or 'another process'} "
            f"under epoch {self.chain.tail.params.epoch}: append there, or take the lead"
        )
