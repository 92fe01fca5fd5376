"""What a reader makes of the log up to a position: a partition store in small."""

from typing import TYPE_CHECKING

from perdure.log.producers import ProducerFilter
from perdure.log.types import Batch

if TYPE_CHECKING:
    from .checkers import Group, History
    from .clients import Request


class View:
    """The log folded up to `next_lsn`, exclusive.

    Attributes:
        last: key to the LSN of its last record.
        wildcard: LSN of the last record that touches every key.
        seen: requests of which a record that counts was read.
    """

    def __init__(self, history: "History") -> None:
        self._groups: dict[bytes, Group] = history.groups
        self.next_lsn = 1
        self.last: dict[bytes, int] = {}
        self.wildcard = 0
        self.seen: dict[Request, int] = {}
        self.counts = ProducerFilter()

    @property
    def applied_lsn(self) -> int:
        """The last LSN that was read."""
        return self.next_lsn - 1

    def last_of(self, key: bytes) -> int:
        """LSN of the last record that touches the key."""
        return max(self.last.get(key, 0), self.wildcard)

    def apply(self, batch: Batch) -> None:
        """Read the next batch."""
        lsn = self.next_lsn
        for record in batch.records:
            group = self._groups[record.body]
            if record.keys is None:
                self.wildcard = lsn
            else:
                for key in record.keys:
                    self.last[key] = lsn
            if self.counts.accept(record):
                self.seen.setdefault(group.request, lsn)
            lsn += 1
        self.next_lsn = lsn

    def snapshot(self) -> "View":
        """A copy."""
        copy = object.__new__(View)
        copy._groups = self._groups
        copy.restore(self)
        return copy

    def restore(self, other: "View") -> None:
        """Become what another one is."""
        self.next_lsn = other.next_lsn
        self.last = dict(other.last)
        self.wildcard = other.wildcard
        self.seen = dict(other.seen)
        self.counts = ProducerFilter(dict(other.counts.state))
