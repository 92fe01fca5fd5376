"""The Loglet port: one segment of a log, and the port of what makes loglets."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

import msgspec

from ..core.ids import LogId
from .chain import Segment, SegmentParams
from .types import Batch, Record, TailState

CommitListener: TypeAlias = Callable[[Batch], None]
"""Told of every batch once it is durable, in order; must not raise."""


class SequencerNode(msgspec.Struct, frozen=True):
    """Another node that is to give out the offsets of a segment, in this life of its process."""

    node: str
    generation: int


class Loglet(Protocol):
    """A sequence of records at offsets 1, 2, 3 …::

            trim point  first readable            committed tail    next offset
                v         v                             v               v
        | gone … t | t+1 | … readable by anybody … | n-1 | n … in flight | …

    Contract (`tests/conformance/loglet.py` runs for every implementation):

    - `enqueue` assigns offsets at once, without waiting. The records of one call are contiguous and
      stored in one batch: after a crash all of them are there or none is. Calls within one turn of
      the event loop share a batch where the limits allow. The order of calls is the log's order.
    - A batch is told to the listener only when it is durable, whole, after every batch before it;
      what is at or above the committed tail MUST NOT be visible to anybody in any way.
    - The committed tail never goes back. Every committed record stays readable until trimmed.
    - The record time of a batch is max(the last one's, the clock's, the floor of the params).
    - `seal` is for ever and idempotent. After it `enqueue` raises LogletSealedError, also after a
      restart. Once `find_tail` says Sealed(n) it says so for ever, and nothing at or above n is
      ever acknowledged or shown. What was enqueued before the seal may be committed or not.
    - Before `find_tail` says Sealed(n) in the process that listens, the listener was told of every
      batch below n: whoever has not been told by then knows that his records are not there.
    - A batch in flight at a crash may be there afterwards, whole, or not at all; what is there is a
      prefix of what was enqueued.
    - When the disk fails, no batch in flight is ever told as committed. From then on `enqueue`
      raises LogClosedError, and so does what would have to write or to wait: `seal` unless sealed,
      `trim` above the trim point, `wait_for_tail` at the tail; also for those who wait already.
      What is committed stays readable, and `find_tail` MAY answer with it: as nothing is
      acknowledged any more, that is linearizable. An exception from the listener counts as such.
    """

    @property
    def committed_tail(self) -> int:
        """The first offset that no durable record has, as known here now; may trail the truth."""
        ...

    @property
    def trim_point(self) -> int:
        """The last offset that was trimmed, 0 when nothing was."""
        ...

    def listen(self, listener: CommitListener, on_sealed: Callable[[], None] | None = None) -> None:
        """Have `listener` told of every batch committed from now on; there is one listener.

        `on_sealed` is called once, where anybody else can have it sealed, when that has begun:
        nothing more is taken. Also when this process seals it.
        """
        ...

    def enqueue(self, records: list[Record]) -> int:
        """Take records as one atomic group and give the first one's offset.

        Raises LogletSealedError, LogClosedError, and nothing was taken.
        """
        ...

    async def find_tail(self) -> TailState:
        """The tail, linearizable: at or above every offset acknowledged before the call.

        Raises LogClosedError. Cancelling is safe.
        """
        ...

    async def seal(self) -> None:
        """Seal; on return `find_tail` says Sealed. Raises LogClosedError.

        Cancelling leaves open whether it is sealed, or will be.
        """
        ...

    async def read(self, first_offset: int, bytes_max: int) -> list[Batch]:
        """Durable batches from the one that holds `first_offset`, at least one if there is any.

        Raises TrimmedError at or below the trim point; StorageError, as CorruptBatchError naming
        the place when a batch is damaged or missing. Cancelling is safe.
        """
        ...

    async def wait_for_tail(self, above: int) -> TailState:
        """Wait until the committed tail is above `above` or the loglet is sealed; give the tail.

        A hint to wake up by, not linearizable. Raises LogClosedError. Cancelling is safe.
        """
        ...

    async def trim(self, last_offset: int) -> int:
        """Remove whole batches up to `last_offset`, at most what is committed; give the trim point.

        The trim point is durable before anything is removed and never goes back. Less than asked
        for is removed when `last_offset` lies within a batch. Raises LogClosedError, and
        CorruptBatchError when the batch at `last_offset` is damaged. Cancelling leaves open whether
        it was trimmed.
        """
        ...


class LogletProvider(Protocol):
    """Makes and finds the loglets of one kind.

    Within one process each loglet exists once: `open` gives the same object for the same segment
    until it is deleted, so that a reader sees what the sequencer commits.
    """

    @property
    def kind(self) -> str:
        """The name that segments carry, such as ``local``."""
        ...

    async def meet(self, node: str) -> SequencerNode | None:
        """Who is to give out offsets, if that is to be another node; None for this one.

        Raises UnfitSequencerError when it cannot be reached, or nobody else can do that.
        Cancelling is safe.
        """
        ...

    def params(
        self,
        log: LogId,
        index: int,
        epoch: int,
        record_time_ns: int,
        sequencer: SequencerNode | None = None,
    ) -> SegmentParams:
        """What a new segment of this kind is made with.

        Args:
            index: of the segment.
            epoch: leader epoch of who extends the chain.
            record_time_ns: the old tail's record time, the floor of the new segment's.
            sequencer: from `meet`.
        """
        ...

    def open(self, segment: Segment) -> Loglet:
        """The segment's loglet.

        Raises LogletLostError when it is gone (deleted here, or another process's memory) and
        StorageError.
        """
        ...

    async def delete(self, log: LogId, segments: tuple[Segment, ...], first_kept: int) -> None:
        """Remove the loglets of trimmed segments, and whatever is left of indices below them.

        Args:
            segments: those that left the chain, of this kind; they are sealed.
            first_kept: index of the chain's first segment now.

        Whoever still holds one of them finds it sealed and trimmed. Raises LogClosedError. Doing
        it again does nothing.
        """
        ...

    def forget(self, log: LogId, first_kept: int) -> None:
        """Another process has trimmed the chain, and deletes what lies below this index.

        So nobody here opens any of it again, and what is remembered of it may go.
        """
        ...
