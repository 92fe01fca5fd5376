"""The segment's side of the model: the real Sequencer over a small replicated loglet."""

from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from perdure.log.answers import Answer
from perdure.log.chain import Segment
from perdure.log.errors import FuturePositionError, LogletSealedError
from perdure.log.sequencer import Append, Sequencer
from perdure.log.staging import Staging
from perdure.log.types import Batch, Record

from .checkers import Violation
from .servers import F_MAJORITY

if TYPE_CHECKING:
    from .clients import Request
    from .world import World

RETRY = 14.0


class InFlight:
    """A batch and the servers that have it."""

    __slots__ = ("acks", "batch")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.acks: set[int] = set()


class SequencerNode:
    """Orders one segment. Is the Sequencer's loglet at the same time.

    Attributes:
        alive: False once its process has died.
        cut: it reaches no server and hears none.
        stubborn: it goes on admitting although servers say that the segment is sealed.
        order: every record in the order in which it was given an offset.
    """

    def __init__(self, world: "World", segment: Segment) -> None:
        self.world = world
        self.segment = segment
        self.committed_tail = 1
        self.alive = True
        self.cut = False
        self.closed = False
        self.stubborn = world.chance(0.4)
        self.order: list[Record] = []
        self._staging = Staging(
            next_offset=1,
            record_time_ns=segment.params.record_time_ns,
            epoch=segment.params.epoch,
        )
        self._flushing = False
        self._retrying = False
        self._in_flight: deque[InFlight] = deque()
        self._seals: set[int] = set()
        self.sequencer = Sequencer(segment, self, world.limits)  # type: ignore[arg-type]

    # The loglet ----------------------------------------------------------------------------------

    def enqueue(self, records: list[Record]) -> int:
        if self.closed:
            raise LogletSealedError(self.segment.index)
        if not self._flushing:
            self._flushing = True
            self.world.later(self.world.random.random() * 2, self._flush)
        self.order += records
        return self._staging.add(records)

    def _flush(self) -> None:
        self._flushing = False
        if self.closed or not self.alive:
            return
        for batch in self._staging.take(int(self.world.now)):
            in_flight = InFlight(batch)
            self._in_flight.append(in_flight)
            self._wave(in_flight)
        if not self._retrying:
            self._retrying = True
            self.world.later(RETRY, self._retry)

    def _wave(self, in_flight: InFlight) -> None:
        world = self.world
        if self.cut:
            return
        index, known, batch = self.segment.index, self.committed_tail, in_flight.batch
        for server in world.servers:
            if server.number not in in_flight.acks:
                world.send(server.store, index, batch, known, False, self._stored)

    def _retry(self) -> None:
        self._retrying = False
        if self.closed or not self.alive or not self._in_flight:
            return
        for in_flight in self._in_flight:
            self._wave(in_flight)
        self._retrying = True
        self.world.later(RETRY, self._retry)

    def _stored(self, number: int, first: int, sealed: bool) -> None:
        if self.closed or self.cut or not self.alive:
            return
        if sealed:
            self._seals.add(number)
            if len(self._seals) >= F_MAJORITY and not (self.stubborn and self.world.faults):
                self.close(lost=False)
            return
        for in_flight in self._in_flight:
            if in_flight.batch.first_offset == first:
                in_flight.acks.add(number)
                if len(in_flight.acks) >= self.world.rules.write_quorum:
                    # No server has holes, so whatever comes before has a quorum too.
                    self._commit(in_flight.batch.last_offset)
                return

    def _commit(self, last_offset: int) -> None:
        world = self.world
        while self._in_flight and self._in_flight[0].batch.last_offset <= last_offset:
            batch = self._in_flight.popleft().batch
            self.committed_tail = batch.last_offset + 1
            world.log("segment {} commits up to offset {}", self.segment.index, batch.last_offset)
            world.history.committed(self.segment, batch)
            self.sequencer.committed(batch)
            table = self.sequencer._conditions
            if table.floor >= self.sequencer.committed_tail_lsn:
                world.report("C8", f"floor {table.floor} is not committed")
        if not self.cut:
            for server in world.servers:
                world.send(server.release, self.segment.index, self.committed_tail)

    # Its end -------------------------------------------------------------------------------------

    def finish(self, final_tail: int) -> None:
        """The reconfiguration that this process ran itself is done: the tail is known."""
        if self.closed or not self.alive:
            return
        # What is still being gathered was never sent, so it cannot be below the tail.
        self._commit(final_tail - 1)
        if self.committed_tail != final_tail:
            raise Violation("prefix", f"the final tail {final_tail} is not the end of a batch")
        self.close(lost=True)

    def close(self, *, lost: bool) -> None:
        """Admit nothing more and tell everybody who waits."""
        if not self.closed and self.alive:
            self.closed = True
            self.world.log("segment {} closes its sequencer, lost={}", self.segment.index, lost)
            self.sequencer.close(lost=lost, reason="the segment is sealed")

    # Its clients ---------------------------------------------------------------------------------

    def append(self, append: Append, request: "Request", attempt: int) -> None:
        """An append has come over the network."""
        self.admit(append, self.listener(append, request, attempt))

    def admit(self, append: Append, listener: partial[None]) -> int | None:
        """Admit it if this process lives."""
        if not self.alive:
            return None
        try:
            return self.sequencer.admit(append, listener)
        except FuturePositionError as error:
            raise Violation("C1", f"a position from the future was sent: {error}") from None

    def listener(self, append: Append, request: "Request", attempt: int) -> partial[None]:
        """Checks the answer, then sends it."""
        return partial(self._answered, append, request, attempt)

    def _answered(self, append: Append, request: "Request", attempt: int, answer: Answer) -> None:
        world = self.world
        world.history.told(self.segment, append, request, answer)
        known = self.sequencer.committed_tail_lsn
        world.send(request.client.answered, request, attempt, answer, known)
