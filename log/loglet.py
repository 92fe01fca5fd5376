"""The Loglet port: one segment of a log."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

from .types import Batch, Record, TailState

CommitListener: TypeAlias = Callable[[Batch], None]
"""Told of every batch once it is durable, in order; must not raise."""


class Loglet(Protocol):
    """A sequence of records at offsets 1, 2, 3 …::

              first                          committed tail    next offset
                v                                   v               v
        | 1 | 2 | 3 | … readable by anybody … | n-1 | n … in flight | …

    Contract (the conformance suite runs for every implementation):

    - `enqueue` assigns the next offset at once, without waiting; records enqueued within one turn
      of the event loop become one batch where the limits allow. The order of `enqueue` calls is the
      order of the log.
    - A batch is told to the listener only when it is durable, whole, after every batch before it;
      nothing above the committed tail MUST be visible to anybody in any way.
    - The record time of a batch is max(the last one's, the clock's).
    - When the disk fails, no batch in flight is ever told as committed, `enqueue` raises
      LogClosedError from then on, and the failure listener is called once.
    - No answer does not mean not written: a batch in flight at a crash may be there afterwards,
      whole, or not at all; what is there is a prefix of what was enqueued.
    """

    def enqueue(self, record: Record) -> int:
        """Take one record and give its offset. Raises LogClosedError or RecordTooLargeError."""
        ...

    def find_tail(self) -> TailState:
        """The committed tail: the first offset that no durable record has."""
        ...

    def read(self, first_offset: int, bytes_max: int) -> list[Batch]:
        """Durable batches from the one that holds `first_offset`, at least one if there is any.

        Raises CorruptBatchError naming the place when a batch is damaged.
        """
        ...
