"""One life of the node: the real partitions, invoker and front of a history, without a loop."""

from collections.abc import Sequence
from typing import Any, Final, cast

from ...core.clock import ManualClock
from ...core.errors import PerdureError, TransportError
from ...core.ids import InvocationId, partition_key_of
from ...core.net.transport import Connection
from ...core.protocol.messages import PROTOCOL_VERSION
from ...core.protocol.session import Hello
from ...core.random import Random
from ...core.storage.memory import MemoryStore
from ...partition_processor.deployments import Schema
from ...partition_processor.handling import HandlingDefaults
from ...partition_processor.invoker.session import WorkerSession
from ...partition_processor.machine import RecordFailedError
from ...partition_processor.manager import PartitionManager
from ...partition_processor.minting import Minter
from ...partition_processor.processor import PartitionProcessor
from ..simulation.violation import require
from .hand_loop import HandLoop, drive
from .log import HistoryLog
from .observer import APPLIES, ROWS_AGREE, SAME_DIGEST, Observer
from .worker import Link

NODE_NAME: Final = "node"
_BUCKETS: Final[dict[str, list[bytes]]] = {}


class HistoryNode:
    """The partitions from a start to the next crash.

    Attributes:
        loop: what its callbacks wait in.
        manager: the real one.
        store: the partition store.
    """

    def __init__(
        self,
        *,
        store: MemoryStore,
        logs: Sequence[HistoryLog],
        observers: Sequence[Observer],
        epoch: int,
        clock: ManualClock,
        random: Random,
        schema: Schema,
        defaults: HandlingDefaults,
    ) -> None:
        """Replay what the logs have beyond the store, and announce itself."""
        self.store = store
        self._observers = observers
        self.loop = HandLoop(clock)
        self.manager = PartitionManager(
            partition_count=len(logs),
            node=NODE_NAME,
            store=store,
            metadata=cast("Any", None),
            loop=self.loop.as_event_loop(),
            clock=clock,
            random=random,
            defaults=defaults,
            scope=cast("Any", None),
            on_failure=_failed,
            on_parked=_parked,
        )
        self.manager._use_schema(1, schema)
        keep_buckets(self.manager.minter)
        self._sessions: dict[int, WorkerSession] = {}
        for processor, log in zip(self.manager.processors, logs, strict=True):
            drive(processor.open(log.as_virtual_log(), epoch))
            while not drive(processor.replay_some()):
                pass
            self.finish_turn()
            processor.announce()

    def finish_turn(self) -> None:
        """Write and act on what was applied; then it is what the observers say it is."""
        processors = tuple(self.manager._dirty)
        self.manager.finish_turn()
        for processor in processors:
            self._check(processor)

    def _check(self, processor: PartitionProcessor) -> None:
        observer = self._observers[processor.own.number]
        progress = processor._machine.progress()
        expected = observer.progress[progress.applied_lsn]
        require(
            progress == expected,
            SAME_DIGEST,
            f"LSN {progress.applied_lsn}: leader {progress}, replay {expected}",
        )
        if not processor.leading or len(observer.progress) > progress.applied_lsn + 1:
            return
        running = observer.running()
        kept = {key: attempt.attempt for key, attempt in processor.keeper.attempts.items()}
        require(kept == running, ROWS_AGREE, f"the leader runs {kept}, the rows say {running}")

    @property
    def leading(self) -> bool:
        """Whether all partitions have got over the start."""
        return all(processor.leading for processor in self.manager.processors)

    def processor_of(self, invocation_id: InvocationId) -> PartitionProcessor:
        """The processor of an invocation."""
        return self.manager.processor_for(partition_key_of(invocation_id))

    # Workers -------------------------------------------------------------------------------------

    def accept(self, number: int, hello: Hello, link: Link) -> None:
        """Worker `number` has connected."""
        invoker = self.manager.invoker
        session = WorkerSession(
            hello,
            cast("Connection", link),
            self.loop.as_event_loop(),
            invoker.drain_waiting,
            invoker.ticks,
        )
        self._sessions[number] = session
        invoker.add(session)

    def received(self, number: int, message: bytes) -> None:
        """A message of worker `number` has arrived."""
        session = self._sessions[number]
        session.received(message)
        if session.draining:
            self.manager.invoker.drain(session)

    def lose(self, number: int) -> None:
        """The connection of worker `number` is gone."""
        session = self._sessions.pop(number)
        self.manager.invoker.remove(session)
        session.lost(TransportError("cut on purpose"))

    def pass_time(self, duration_ns: int) -> None:
        """So much time has passed: look for attempts that were quiet."""
        ticks = self.manager.invoker.ticks
        ticks.now += duration_ns // ticks.tick_ns
        self.manager.invoker.end_silent()
        self.loop.fire_due()


def keep_buckets(minter: Minter) -> None:
    """Have a minter use what was found for another one: services' buckets are costly to find."""
    minter._unkeyed = _BUCKETS


def _failed(error: PerdureError) -> None:
    require(False, APPLIES, error)


def _parked(_processor: PartitionProcessor, error: RecordFailedError) -> None:
    require(False, APPLIES, error)


def hello_of(deployment: str, attempts_max: int, manifest: tuple[Any, ...]) -> Hello:
    """A worker's greeting."""
    return Hello(deployment, "0" * 64, "worker", attempts_max, PROTOCOL_VERSION, manifest)
