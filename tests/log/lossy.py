"""A loglet that keeps the contract and no more: what is in flight at a seal is lost by chance."""

import asyncio
from asyncio import Future
from collections.abc import Callable

from perdure.core.errors import StorageError
from perdure.core.ids import LogId
from perdure.core.random import Random
from perdure.log.at_home import ProviderAtHome
from perdure.log.chain import Segment, SegmentParams
from perdure.log.errors import LogletSealedError, TrimmedError
from perdure.log.loglet import CommitListener
from perdure.log.types import Batch, Record, TailState


class LossyLoglet:
    """Commits what the test lets go; `seal` keeps a random prefix of the rest.

    Of what it keeps it tells a part at once, and the rest when the test says so or never.
    """

    def __init__(self, params: SegmentParams, random: Random, *, held: bool) -> None:
        self.params = params
        self.held = held
        self._random = random
        self._batches: list[Batch] = []
        self._in_flight: list[Batch] = []
        self._late: list[Batch] = []
        self._next = 1
        self._tail = 1
        # What this loglet's own process knows; trails the truth after a seal.
        self._known_tail = 1
        self._sealed = False
        self._trim_point = 0
        self._time_ns = params.record_time_ns
        self._listener: CommitListener | None = None
        self._waiters: list[Future[None]] = []
        self.told = 0
        self.failing_reads = 0

    @property
    def committed_tail(self) -> int:
        return self._known_tail

    @property
    def trim_point(self) -> int:
        return self._trim_point

    @property
    def in_flight(self) -> int:
        """Groups that were enqueued and not committed."""
        return len(self._in_flight)

    def listen(self, listener: CommitListener, on_sealed: Callable[[], None] | None = None) -> None:
        self._listener = listener

    def enqueue(self, records: list[Record]) -> int:
        if self._sealed:
            raise LogletSealedError(self.params.loglet)
        offset = self._next
        self._time_ns += 1
        self._in_flight.append(Batch(offset, self._time_ns, self.params.epoch, list(records)))
        self._next += len(records)
        if not self.held:
            asyncio.get_running_loop().call_soon(self._commit_some)
        return offset

    def _commit_some(self) -> None:
        if not self.held and self._in_flight:
            self.commit(1 + int(self._random.fraction() * len(self._in_flight)))
            if self._in_flight:
                asyncio.get_running_loop().call_soon(self._commit_some)

    def commit(self, count: int | None = None) -> None:
        """Make so many groups durable and tell of them; all of them for None."""
        for batch in self._take(len(self._in_flight) if count is None else count):
            self._tell(batch)
        self._wake()

    def _take(self, count: int) -> list[Batch]:
        taken, self._in_flight = self._in_flight[:count], self._in_flight[count:]
        self._batches += taken
        if taken:
            self._tail = taken[-1].last_offset + 1
        return taken

    def _tell(self, batch: Batch) -> None:
        self._known_tail = batch.last_offset + 1
        self.told += 1
        if self._listener is not None:
            self._listener(batch)

    def tell_late(self) -> None:
        """Tell of what the seal kept, which whoever reads has known for long."""
        late, self._late = self._late, []
        for batch in late:
            self._tell(batch)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def find_tail(self) -> TailState:
        await asyncio.sleep(0)
        return TailState(self._tail, self._sealed, self._time_ns)

    async def seal(self) -> None:
        await asyncio.sleep(0)
        if not self._sealed:
            self._sealed = True
            kept = self._take(int(self._random.fraction() * (len(self._in_flight) + 1)))
            self._in_flight.clear()
            told = int(self._random.fraction() * (len(kept) + 1))
            for batch in kept[:told]:
                self._tell(batch)
            self._late = kept[told:]
            self._wake()
        await asyncio.sleep(0)

    async def read(self, first_offset: int, bytes_max: int = 1 << 20) -> list[Batch]:
        await asyncio.sleep(0)
        if self.failing_reads:
            self.failing_reads -= 1
            raise StorageError("the servers of this loglet do not answer")
        if first_offset <= self._trim_point:
            raise TrimmedError(first_offset, self._trim_point)
        found = [batch for batch in self._batches if batch.last_offset >= first_offset]
        return found[: 1 + int(self._random.fraction() * len(found))]

    async def wait_for_tail(self, above: int) -> TailState:
        while self._tail <= above and not self._sealed:
            waiter: Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        return TailState(self._tail, self._sealed)

    async def trim(self, last_offset: int) -> int:
        await asyncio.sleep(0)
        for batch in self._batches:
            if batch.last_offset <= min(last_offset, self._tail - 1):
                self._trim_point = max(self._trim_point, batch.last_offset)
        return self._trim_point


class LossyProvider(ProviderAtHome):
    """Makes lossy loglets, which commit by themselves unless `held`."""

    def __init__(self, random: Random, *, held: bool = False, kind: str = "lossy") -> None:
        super().__init__(kind, "lossy")
        self._random = random
        self.held = held
        self.loglets: dict[int, LossyLoglet] = {}

    def open(self, segment: Segment) -> LossyLoglet:
        found = self.loglets.get(segment.params.loglet)
        if found is None:
            found = LossyLoglet(segment.params, self._random, held=self.held)
            self.loglets[segment.params.loglet] = found
        return found

    async def delete(self, log: LogId, segments: tuple[Segment, ...], first_kept: int) -> None:
        for segment in segments:
            await self.open(segment).trim(1 << 60)

    def forget(self, log: LogId, first_kept: int) -> None:
        pass
