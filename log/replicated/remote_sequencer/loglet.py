"""The replicated loglet at the node that appends to it, where another one gives out its offsets.

There is one writer, so it knows the offsets itself: it says with each group which one it expects,
and a sequencer that would give another one refuses. Records are kept here until they are told to be
committed, which takes no more than their offsets. Whatever goes wrong on the way, a lost
connection, a refusal, a sequencer that is silent, seals the loglet, and the log-servers say where
it ends; nothing is sent twice.
"""

import logging
from asyncio import TimerHandle
from collections import deque
from itertools import islice
from typing import Final

from ....core.errors import MalformedMessageError
from ...chain import Segment
from ...types import BATCH_BYTES_MAX, Batch, Record
from ..members import LogletGoneError, Members
from ..messages import Decided
from ..ordered import OrderedLoglet
from ..reading import read_batches
from ..view import LogletResources
from .client import SequencerClient
from .messages import Enqueue, Open

_LOG: Final = logging.getLogger(__name__)


class RemoteLoglet(OrderedLoglet):
    """One loglet that this process alone appends to, by way of its sequencer. It is a `Writer`."""

    def __init__(
        self,
        segment: Segment,
        members: Members,
        resources: LogletResources,
        client: SequencerClient,
    ) -> None:
        """Ask nothing of the sequencer, whose node `client` asks, before there is an append."""
        super().__init__(segment, members, resources)
        assert segment.params.placement is not None, segment
        self._segment = segment
        self._generation = segment.params.placement.generation
        self._epoch = segment.params.epoch
        self._client = client
        self._opened = False
        self._next_offset = 1
        # What is not known to be committed, from the committed tail on.
        self._records: deque[Record] = deque()
        # Of this turn.
        self._groups: list[list[Record]] = []
        self._patience: TimerHandle | None = None
        self._refused = False
        self._ending = False

    def fail(self, reason: str) -> None:
        """Take and acknowledge nothing any more."""
        super().fail(reason)
        self._let_go()

    def _let_go(self) -> None:
        self._client.forget(self.loglet)
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    # Appending -----------------------------------------------------------------------------------

    def _check_taking(self) -> None:
        super()._check_taking()
        if not self._client.is_met(self._generation):
            self.refused("it is not connected")
            super()._check_taking()

    def _take(self, records: list[Record]) -> int:
        offset = self._next_offset
        self._next_offset += len(records)
        self._records += records
        self._groups.append(records)
        return offset

    def _send(self) -> None:
        groups, self._groups = self._groups, []
        offset = self._next_offset - sum(map(len, groups))
        if not self._opened:
            self._opened = True
            self._client.register(self.loglet, self)
            self._client.send(Open(self._segment))
        part: list[list[Record]] = []
        size = 0
        for group in groups:
            part.append(group)
            size += sum(len(record.body) for record in group)
            if size >= BATCH_BYTES_MAX:
                self._client.send(Enqueue(self.loglet, offset, part))
                offset += sum(map(len, part))
                part, size = [], 0
        if part:
            self._client.send(Enqueue(self.loglet, offset, part))
        if self._patience is None:
            self._be_patient()

    def ordered(self, batches: list[tuple[int, int]]) -> None:
        """A write quorum has these batches. Told by the sequencer."""
        if self._final is not None or self._failure is not None:
            return
        offset, found = self._committed_tail, []
        position = 0
        for last_offset, record_time_ns in batches:
            count = last_offset - offset + 1
            if not 0 < count <= len(self._records) - position:
                self.refused(str(MalformedMessageError(f"it tells of offset {last_offset}")))
                return
            records = list(islice(self._records, position, position + count))
            found.append(Batch(offset, record_time_ns, self._epoch, records))
            offset += count
            position += count
        self._committed(found)

    def _committed(self, batches: list[Batch]) -> None:
        for batch in batches:
            for _ in batch.records:
                self._records.popleft()
        super()._committed(batches)

    def _be_patient(self) -> None:
        """A sequencer that is silent for too long is taken for dead."""
        seen = self._committed_tail

        def look() -> None:
            self._patience = None
            if self._records and self._final is None and self._failure is None:
                if self._committed_tail == seen:
                    self.refused("nothing was committed for too long")
                self._be_patient()

        self._patience = self._loop.call_later(self._options.silent_after, look)

    # Sealing -------------------------------------------------------------------------------------

    def refused(self, reason: str) -> None:
        """The sequencer takes nothing any more, or is out of reach: find out where it ends."""
        if not self._refused and self._final is None and self._failure is None:
            _LOG.info("%s is not ordered by %s any more: %s", self, self._client.node, reason)
        self._refused = True
        self._events.wake()
        self._seal_soon()

    async def _decide(self) -> None:
        """As at home, what is under way goes before the seal, here as long as that is told."""
        deadline = self._loop.time() + self._options.answer
        while self._records and not self._refused and self._failure is None:
            left = deadline - self._loop.time()
            if left <= 0:
                break
            await self._events.wait(left)
        await super()._decide()

    def __str__(self) -> str:
        return self._described

    def _ended(self, final: Decided) -> None:
        """Tell of what was committed and not told, then say that it is sealed."""
        if self._final is not None or self._failure is not None:
            return
        if self._committed_tail > final.tail:
            # Only an operator can do that, who has given servers up for lost.
            self.fail("records that were acknowledged were given up with the disks that had them")
        elif self._committed_tail == final.tail:
            self._let_go()
            self._records.clear()
            super()._ended(final)
        elif not self._ending:
            self._ending = True
            self._sealing = True
            self._scope.spawn(self._read_end(final), name=f"end of loglet {self.loglet}")

    async def _read_end(self, final: Decided) -> None:
        """Read what is in the log beyond what was told; only the log-servers know its batches."""
        tries = 0
        while self._committed_tail < final.tail and self._failure is None:
            try:
                found = await read_batches(
                    self.members,
                    self.loglet,
                    self._committed_tail,
                    bytes_max=BATCH_BYTES_MAX,
                    known_tail=final.tail,
                    turn=self._turn + tries,
                    seconds=self._options.answer,
                )
            except LogletGoneError:
                self._gone()
                return
            # The sequencer may have told of some meanwhile.
            batches = [
                batch
                for batch in found.batches or ()
                if self._committed_tail <= batch.first_offset and batch.last_offset < final.tail
            ]
            if batches and batches[0].first_offset == self._committed_tail:
                self._committed(batches)
            else:
                await self._pause(tries)
                tries += 1
        self._ending = False
        self._ended(final)
