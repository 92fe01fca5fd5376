"""A model of a replicated log: one store of loglets that several nodes reach, each with delays.

As a quorum would have it, a batch is committed at one moment, on its way and not known to anybody;
a seal is one moment, too. What a sequencer has sent and what has not arrived by then is lost.
"""

from asyncio import Future
from collections.abc import Callable
from functools import partial
from typing import Any

from perdure.core.ids import LogId
from perdure.log.at_home import ProviderAtHome
from perdure.log.chain import Segment
from perdure.log.errors import LogletSealedError, TrimmedError
from perdure.log.loglet import CommitListener
from perdure.log.staging import Staging
from perdure.log.types import Batch, Record, TailState
from perdure.metadata.api import MetadataStore, Precondition, Version, VersionedValue
from perdure.testing.simulation.chance import Chance

from .loops import Line, StepLoop, settle


class Core:
    """One loglet as the store has it."""

    def __init__(self, floor_ns: int) -> None:
        self.batches: list[Batch] = []
        self.tail = 1
        self.sealed = False
        self.record_time_ns = floor_ns
        self.trim_point = 0
        self.waiting: list[Callable[[], None]] = []

    def state(self) -> TailState:
        return TailState(self.tail, self.sealed, self.record_time_ns)

    def append(self, batch: Batch) -> bool:
        if self.sealed:
            return False
        assert batch.first_offset == self.tail, (batch.first_offset, self.tail)
        self.batches.append(batch)
        self.tail = batch.last_offset + 1
        self.record_time_ns = batch.record_time_ns
        self.wake()
        return True

    def seal(self) -> None:
        self.sealed = True
        self.wake()

    def wake(self) -> None:
        waiting, self.waiting = self.waiting, []
        for call in waiting:
            call()

    def read(self, first_offset: int) -> list[Batch]:
        if first_offset <= self.trim_point:
            raise TrimmedError(first_offset, self.trim_point)
        # Few at a time, so that reads end in the middle of things.
        return [batch for batch in self.batches if batch.last_offset >= first_offset][:5]

    def trim(self, last_offset: int) -> int:
        while self.batches and self.batches[0].last_offset <= min(last_offset, self.tail - 1):
            self.trim_point = self.batches.pop(0).last_offset
        return self.trim_point


class Reach:
    """How one node reaches the store; `cut` loses what it asks and what it is told."""

    def __init__(
        self, node: StepLoop, servers: StepLoop, chance: Chance, delay_ns: tuple[int, int]
    ) -> None:
        self.node = node
        self.there = Line(node, servers, chance, delay_ns)
        self.back = Line(servers, node, chance, delay_ns)

    async def ask(self, action: Callable[[], Any]) -> Any:
        future: Future[Any] = self.node.create_future()

        def run() -> None:
            try:
                outcome = action()
            except Exception as error:
                outcome = error
            self.back.post(lambda: settle(future, outcome))

        self.there.post(run)
        return await future


class NodeLoglet:
    """A loglet as one node has it: its sequencer, or a reader that may seal."""

    def __init__(
        self, core: Core, segment: Segment, provider: "NodeProvider", *, owner: bool
    ) -> None:
        self._core = core
        self._segment = segment
        self._provider = provider
        self._owner = owner
        self._staging = Staging(
            next_offset=1, record_time_ns=segment.params.record_time_ns, epoch=segment.params.epoch
        )
        self._known_tail = 1
        self._sealed = False
        self._scheduled = False
        self._listener: CommitListener | None = None

    @property
    def committed_tail(self) -> int:
        return self._known_tail

    @property
    def trim_point(self) -> int:
        return self._core.trim_point

    def listen(self, listener: CommitListener, on_sealed: Callable[[], None] | None = None) -> None:
        self._listener = listener

    def enqueue(self, records: list[Record]) -> int:
        assert self._owner, "appended by a node that is not the sequencer"
        if self._sealed:
            raise LogletSealedError(self._segment.params.loglet)
        offset = self._staging.add(records)
        if not self._scheduled:
            self._scheduled = True
            self._provider.loop.call_soon(self._send)
        return offset

    def _send(self) -> None:
        self._scheduled = False
        for batch in self._staging.take(self._provider.time_ns()):
            self._provider.reach.there.post(partial(self._arrived, batch))

    def _arrived(self, batch: Batch) -> None:
        if self._core.append(batch):
            self._provider.reach.back.post(lambda: self._committed(batch))
        else:
            self._provider.reach.back.post(self._refused)

    def _committed(self, batch: Batch) -> None:
        self._known_tail = batch.last_offset + 1
        if self._listener is not None:
            self._listener(batch)
        self._provider.on_turn()

    def _refused(self) -> None:
        self._sealed = True

    async def find_tail(self) -> TailState:
        state: TailState = await self._provider.reach.ask(self._core.state)
        self._sealed = self._sealed or state.sealed
        return state

    async def seal(self) -> None:
        await self._provider.reach.ask(self._core.seal)
        self._sealed = True

    async def read(self, first_offset: int, bytes_max: int) -> list[Batch]:
        found: list[Batch] = await self._provider.reach.ask(lambda: self._core.read(first_offset))
        return found

    async def wait_for_tail(self, above: int) -> TailState:
        future: Future[TailState] = self._provider.loop.create_future()
        core, reach = self._core, self._provider.reach

        def look() -> None:
            if core.tail > above or core.sealed:
                state = core.state()
                reach.back.post(lambda: settle(future, state))
            elif not future.done():
                core.waiting.append(look)

        reach.there.post(look)
        return await future

    async def trim(self, last_offset: int) -> int:
        trim_point: int = await self._provider.reach.ask(lambda: self._core.trim(last_offset))
        return trim_point


class SharedLog:
    """All loglets of a world."""

    def __init__(self) -> None:
        self.cores: dict[int, Core] = {}


class NodeProvider(ProviderAtHome):
    """The provider of one node."""

    def __init__(
        self, log: SharedLog, name: str, loop: StepLoop, reach: Reach, time_ns: Callable[[], int]
    ) -> None:
        super().__init__("shared", name)
        self.reach = reach
        self.loop = loop
        self.time_ns = time_ns
        self.on_turn: Callable[[], None] = lambda: None
        self._log = log
        self._loglets: dict[int, NodeLoglet] = {}

    def open(self, segment: Segment) -> NodeLoglet:
        number = segment.params.loglet
        loglet = self._loglets.get(number)
        if loglet is None:
            core = self._log.cores.setdefault(number, Core(segment.params.record_time_ns))
            owner = segment.params.sequencer == self._node
            loglet = self._loglets[number] = NodeLoglet(core, segment, self, owner=owner)
        return loglet

    async def delete(self, log: LogId, segments: tuple[Segment, ...], first_kept: int) -> None:
        """Leave them: readers that come late find them sealed and trimmed all the same."""

    def forget(self, log: LogId, first_kept: int) -> None:
        """Leave them."""


class NodeMetadata:
    """The metadata store as one node reaches it."""

    def __init__(self, store: MetadataStore, reach: Reach) -> None:
        self._store = store
        self._reach = reach

    async def get(self, key: str) -> VersionedValue | None:
        found: VersionedValue | None = await self._reach.ask(lambda: _now(self._store.get(key)))
        return found

    async def put(self, key: str, value: bytes, precondition: Precondition = None) -> Version:
        version: Version = await self._reach.ask(
            lambda: _now(self._store.put(key, value, precondition))
        )
        return version

    async def delete(self, key: str, precondition: Precondition = None) -> None:
        await self._reach.ask(lambda: _now(self._store.delete(key, precondition)))

    async def keys(self, prefix: str) -> list[str]:
        found: list[str] = await self._reach.ask(lambda: _now(self._store.keys(prefix)))
        return found


def _now(coroutine: Any) -> Any:
    """What a coroutine that never waits gives."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the store in memory has waited")
