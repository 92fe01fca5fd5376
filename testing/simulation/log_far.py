"""Another process that appends to a bare log: it orders nothing, and outlives the node's crashes.

What it reads comes from the node that is up, as from log-servers; what it appends goes over the
network. Its metadata are the node's as well: while the node is down, neither can be had.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from ...core.errors import PerdureError, StorageError, TransportError
from ...core.ids import LogId
from ...core.net.peers import Peers
from ...core.retry import RetryPolicy
from ...log.chain import Segment, SegmentParams
from ...log.errors import (
    CorruptBatchError,
    LogClosedError,
    LogletLostError,
    LogUnavailableError,
    NotSequencerError,
    RefusedElsewhereError,
)
from ...log.loglet import CommitListener, Loglet, SequencerNode
from ...log.logs import Logs
from ...log.remote.appends import RemoteAppends
from ...log.remote.messages import SERVICE
from ...log.remote.search import AppendOptions
from ...log.types import Batch, Record, TailState
from ...metadata.api import MetadataStore, Precondition, Version, VersionedValue
from .chance import Chance
from .log_life import RAW_LOG, LogHome, LogLife, RawLog
from .network import SimulationNetwork
from .node import CLUSTER, NODE_ADDRESS
from .violation import InvariantViolation, require
from .workload import MS

T = TypeVar("T")

FAR: Final = "far"
"""What the network and the trace call the process."""

_RETRY: Final = RetryPolicy(
    initial_interval_ns=2 * MS, factor=2.0, interval_max_ns=40 * MS, attempts_max=None
)


class FarLog(LogHome):
    """The log as the other process has it; stands where its clients expect a `RawLog`.

    Attributes:
        loop, trace, scope, history: the world's.
        life: the one life of the process, None until it has opened the log.
    """

    def __init__(self, raw: RawLog, network: SimulationNetwork, chance: Chance) -> None:
        """Prepare; the log is opened once somebody wants it and the node is up."""
        self.loop = raw.loop
        self.trace = raw.trace
        self.scope = raw.scope
        self.history = raw.history
        self.life: LogLife | None = None
        self._raw = raw
        self._network = network
        self._chance = chance
        self._peers = Peers(
            transport=network.transport(FAR),
            service=SERVICE,
            cluster=CLUSTER,
            node=FAR,
            generation=1,
            address_of=lambda node: NODE_ADDRESS,
            loop=raw.loop,
            random=chance,
            retry=_RETRY,
        )
        elsewhere = RemoteAppends(
            self._peers,
            loop=raw.loop,
            random=chance,
            options=AppendOptions(
                search=chance.pick((0.02, 0.3, 5.0)), connect=0.02, retry=(0.001, 0.02)
            ),
        )
        self._logs = Logs(
            metadata=_FarMetadata(raw),
            providers=[_FarProvider(raw, kind) for kind in ("local", "memory")],
            loop=raw.loop,
            default_kind="local",
            elsewhere=elsewhere,
        )
        self._opening = asyncio.Lock()

    async def up(self) -> LogLife:
        """The life of the process; waits until it could open the log."""
        async with self._opening:
            while self.life is None:
                await self._raw.up()
                try:
                    log = await self._logs.open(RAW_LOG)
                except PerdureError as error:
                    self.trace.add(FAR, f"does not open the log: {error.code}")
                    await self.loop.pause(1 * MS)
                else:
                    self.life = LogLife(1, log, self._raw.report)
        return self.life

    def report(self, failure: BaseException) -> None:
        """Something went wrong within a call from the product, which must not see it."""
        self._raw.report(failure)

    def failed(self, life: LogLife, error: PerdureError) -> None:
        """Something could not be done, which is right while the node cannot be reached."""
        self.trace.add(FAR, f"fails: {error.code} {error}")
        if self._raw.damage is not None and self._raw.damage.explains(error):
            return
        if isinstance(error, RefusedElsewhereError) and error.cause_code == StorageError.code:
            return  # The node's disk has failed under it; its own end is on its way.
        require(
            isinstance(error, NotSequencerError | LogUnavailableError | TransportError),
            "another process fails only for want of the node",
            f"{error.code} {error}",
        )

    async def disturb(self) -> None:
        """Cut and freeze the process now and then, until cancelled."""
        chance = self._chance
        step_ns_max = chance.pick((20, 80, 300)) * MS
        for _ in range(chance.between(0, 8)):
            await self.loop.pause(int(chance.fraction() * step_ns_max))
            if chance.happens(0.7):
                late = chance.happens(0.5)
                self.trace.add(FAR, f"is cut off{', and hears of it late' if late else ''}")
                self._network.cut(FAR, late=late)
            else:
                self._network.freeze(FAR)
                await self.loop.pause(int(chance.fraction() * step_ns_max))
                self._network.thaw(FAR)

    async def end(self) -> None:
        """End the process, once its clients have nothing more to do."""
        self._network.thaw(FAR)
        if self.life is not None:
            self.life.scope.cancel()
        await self._peers.close()


class _FarMetadata:
    """The metadata of the node that is up."""

    def __init__(self, raw: RawLog) -> None:
        self._raw = raw

    def _store(self) -> MetadataStore:
        life = self._raw.life
        if life is None:
            raise TransportError("the metadata are where the node is, and that is down")
        return life.log._chains._metadata

    async def get(self, key: str) -> VersionedValue | None:
        try:
            return await self._store().get(key)
        except StorageError as error:
            raise TransportError(f"the metadata cannot be read: {error}") from None

    async def put(self, key: str, value: bytes, precondition: Precondition = None) -> Version:
        raise InvariantViolation("another process changes nothing by appending", key)

    async def delete(self, key: str, precondition: Precondition = None) -> None:
        raise InvariantViolation("another process changes nothing by appending", key)

    async def keys(self, prefix: str) -> list[str]:
        return await self._store().keys(prefix)


class _FarProvider:
    """The loglets of the node that is up."""

    def __init__(self, raw: RawLog, kind: str) -> None:
        self._raw = raw
        self.kind = kind

    async def meet(self, node: str) -> SequencerNode | None:
        raise InvariantViolation("another process changes nothing by appending", node)

    def params(
        self,
        log: LogId,
        index: int,
        epoch: int,
        record_time_ns: int,
        sequencer: SequencerNode | None = None,
    ) -> SegmentParams:
        raise InvariantViolation("another process changes nothing by appending", str(log))

    def open(self, segment: Segment) -> Loglet:
        if self._raw.life is not None:
            self.there(segment)  # It may have been deleted.
        return _FarLoglet(self, segment)

    def there(self, segment: Segment) -> Loglet:
        """The loglet of the life that is up. Raises LogUnavailableError."""
        life = self._raw.life
        if life is None:
            raise LogUnavailableError("the loglet is where the node is, and that is down")
        return life.log._providers[self.kind].open(segment)

    async def delete(self, log: LogId, segments: tuple[Segment, ...], first_kept: int) -> None:
        raise InvariantViolation("another process changes nothing by appending", str(log))

    def forget(self, log: LogId, first_kept: int) -> None:
        """Nothing is remembered."""


class _FarLoglet:
    """One of them: what cannot be had now is unavailable."""

    def __init__(self, provider: _FarProvider, segment: Segment) -> None:
        self._provider = provider
        self._segment = segment

    async def _ask(self, ask: Callable[[Loglet], Coroutine[Any, Any, T]]) -> T:
        try:
            return await ask(self._provider.there(self._segment))
        except CorruptBatchError:
            raise
        except (StorageError, LogClosedError, LogletLostError) as error:
            raise LogUnavailableError(f"the loglet cannot be read: {error}") from None

    @property
    def committed_tail(self) -> int:
        return self._provider.there(self._segment).committed_tail

    @property
    def trim_point(self) -> int:
        return self._provider.there(self._segment).trim_point

    def listen(self, listener: CommitListener, on_sealed: Callable[[], None] | None = None) -> None:
        raise InvariantViolation("another process orders nothing", str(self._segment.index))

    def enqueue(self, records: list[Record]) -> int:
        raise InvariantViolation("another process orders nothing", str(self._segment.index))

    async def find_tail(self) -> TailState:
        return await self._ask(lambda loglet: loglet.find_tail())

    async def seal(self) -> None:
        raise InvariantViolation("nobody is sealed for an append", str(self._segment.index))

    async def read(self, first_offset: int, bytes_max: int) -> list[Batch]:
        return await self._ask(lambda loglet: loglet.read(first_offset, bytes_max))

    async def wait_for_tail(self, above: int) -> TailState:
        return await self._ask(lambda loglet: loglet.wait_for_tail(above))

    async def trim(self, last_offset: int) -> int:
        raise InvariantViolation("another process changes nothing by appending", str(last_offset))
