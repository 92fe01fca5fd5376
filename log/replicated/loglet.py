"""The replicated loglet where its sequencer is: offsets are given out here.

Batches are committed by the answers of a write quorum of log-servers. Everything else is as in
every other process, see `view` and `ordered`.
"""

from ..chain import Segment
from ..staging import Staging
from ..types import Record
from .members import Members
from .messages import Decided
from .ordered import OrderedLoglet
from .replicator import Replicator
from .view import LogletResources


class ReplicatedLoglet(OrderedLoglet):
    """One loglet that this process is the sequencer of. It is empty when it is opened."""

    def __init__(
        self,
        segment: Segment,
        members: Members,
        resources: LogletResources,
        *,
        sequencer: str,
    ) -> None:
        """Connect to the members.

        Args:
            sequencer: names this opening of the loglet; the servers take batches of no other.
        """
        super().__init__(segment, members, resources)
        self._clock = resources.clock
        self._staging = Staging(
            next_offset=1, record_time_ns=segment.params.record_time_ns, epoch=segment.params.epoch
        )
        self._replicator = Replicator(
            self.loglet,
            members,
            sequencer=sequencer,
            loop=resources.loop,
            on_commit=self._committed,
            on_sealed=self._seal_soon,
        )
        self._replicator.start()

    @property
    def next_offset(self) -> int:
        """The first offset that is not given out."""
        return self._staging.next_offset

    def fail(self, reason: str) -> None:
        """Take and acknowledge nothing any more."""
        super().fail(reason)
        self._replicator.stop()

    def _take(self, records: list[Record]) -> int:
        return self._staging.add(records)

    def _send(self) -> None:
        self._replicator.add(self._staging.take(self._clock.time_ns()))

    def _ended(self, final: Decided) -> None:
        """Tell of what was committed by whoever ended it, then say that it is sealed."""
        if self._final is not None:
            return
        rest = [item for item in self._replicator.stop() if item.last_offset < final.tail]
        if rest and self._failure is None:
            self._committed(rest)
        if self._failure is not None:
            return
        if self._committed_tail > final.tail:
            # Only an operator can do that, who has given servers up for lost.
            self.fail("records that were acknowledged were given up with the disks that had them")
            return
        assert self._committed_tail == final.tail, (self._committed_tail, final)
        super()._ended(final)
