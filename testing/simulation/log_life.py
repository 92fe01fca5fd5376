"""A bare log in a world: the second log of the node, over all of the node's lives."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar

from ...core.errors import PerdureError
from ...core.ids import LogId
from ...core.tasks import FailureCallback, TaskScope
from ...log.chain import Segment
from ...log.types import LogBatch
from ...log.virtual_log import VirtualLog
from .chance import Chance
from .damage import Damage, lose_batch
from .disk import SimulationDisk
from .log_checkers import check_log_survival
from .log_history import LogHistory
from .loop import SimulationLoop
from .node import SimulatedNode
from .observer import LogObserver, LogRecord
from .trace import Trace
from .violation import InvariantViolation, require
from .workload import MS

T = TypeVar("T")

RAW_LOG: Final = LogId(1)
"""Beside the log of the one partition."""

_NAME: Final = "log 1"


class LogLife:
    """What one life of the node has of the log.

    Attributes:
        number: which life, from 1.
        log: led by this life.
        scope: of everything that runs in the node's process; ends with it.
    """

    def __init__(self, number: int, log: VirtualLog, on_failure: FailureCallback) -> None:
        """Take the log that was opened in this life."""
        self.number = number
        self.log = log
        self.scope = TaskScope(f"log life {number}", on_failure=on_failure)


class LogHome:
    """A process in which clients of a log run, over all of its lives.

    Attributes:
        life: the one that is up, None between two of them.
        history: what everybody was told.
    """

    loop: SimulationLoop
    trace: Trace
    scope: TaskScope
    life: LogLife | None
    history: LogHistory

    async def up(self) -> LogLife:
        """The life that is up; waits for one."""
        raise NotImplementedError

    def spawn(
        self, life: LogLife, work: Callable[[], Coroutine[Any, Any, T]], *, name: str
    ) -> "asyncio.Task[T | PerdureError]":
        """Have something run in the process; its result or the PerdureError it raised."""
        return life.scope.spawn(self._guarded(life, work), name=name)

    async def within(
        self, life: LogLife, work: Callable[[], Coroutine[Any, Any, T]]
    ) -> T | PerdureError | None:
        """`spawn` and wait; None when the process is gone first."""
        if life is not self.life:
            return None
        task = self.spawn(life, work, name="within")
        await asyncio.wait([task])
        if task.cancelled() or life is not self.life:
            return None
        return task.result()

    async def _guarded(
        self, life: LogLife, work: Callable[[], Coroutine[Any, Any, T]]
    ) -> T | PerdureError:
        try:
            return await work()
        except PerdureError as error:
            self.failed(life, error)
            return error

    def report(self, failure: BaseException) -> None:
        """Something went wrong within a call from the product, which must not see it."""
        raise NotImplementedError

    def failed(self, life: LogLife, error: PerdureError) -> None:
        """The log could not do something, which it may only for a reason."""
        raise NotImplementedError


class RawLog(LogHome):
    """The log and whoever works with it, from the first life of the node to its end.

    Attributes:
        life: of the node that is up, None between two of them.
        history: what everybody was told.
        on_life: what is started in each life.
        damage: what its disk has lost, None while all is there.
    """

    def __init__(
        self,
        loop: SimulationLoop,
        *,
        trace: Trace,
        scope: TaskScope,
        disks: Callable[[], dict[str, SimulationDisk]],
        on_failure: FailureCallback,
    ) -> None:
        """Prepare; `start` is called in each life of the node, `crashed` at its end."""
        self.loop = loop
        self.trace = trace
        self.scope = scope
        self.observer = LogObserver(RAW_LOG)
        self.history = LogHistory(self.observer, lambda: disks()["log"])
        self.life: LogLife | None = None
        self.on_life: list[Callable[[LogLife], Coroutine[Any, Any, None]]] = []
        self.damage: Damage | None = None
        self._disks = disks
        self._on_failure = on_failure
        self._lives = 0
        self._committed_lsn = 0
        self._up = asyncio.Event()

    # Lives ---------------------------------------------------------------------------------------

    async def start(self, node: SimulatedNode) -> None:
        """Open and lead the log in a new life of the node. Raises PerdureError."""
        assert node.engine is not None
        log = await node.engine.logs.open(RAW_LOG, create=True)
        self._lives += 1
        life = LogLife(self._lives, log, self._on_failure)
        self._committed_lsn = 0
        log.listen(partial(self._batch_committed, life), on_sealed=partial(self.recover_soon, life))
        self.life = life
        await log.lead()
        if self.life is not life:
            return
        self.trace.add(_NAME, f"led under epoch {log.epoch} from LSN {log.chain.tail.base_lsn} on")
        for work in self.on_life:
            self.spawn(life, partial(work, life), name="in each life")
        self._up.set()

    def crashed(self) -> None:
        """The node's process is gone, and with it everything that ran in it."""
        life, self.life = self.life, None
        self._up.clear()
        if life is not None:
            life.scope.cancel()

    async def up(self) -> LogLife:
        """The life that is up; waits for one."""
        while self.life is None or not self._up.is_set():
            await self._up.wait()
        return self.life

    def _batch_committed(self, life: LogLife, item: LogBatch) -> None:
        """The log's own word that a batch is committed."""
        if life is not self.life:
            return
        try:
            require(
                self._committed_lsn in (0, item.first_lsn - 1),
                "commits are told in order",
                f"LSN {item.first_lsn} after {self._committed_lsn}",
            )
            for lsn in range(item.first_lsn, item.last_lsn + 1):
                self.history.show(lsn, "its batch is committed")
        except InvariantViolation as violation:
            # The log's writer would take it for a failure of its own.
            self._on_failure(violation)
        self._committed_lsn = item.last_lsn

    def report(self, failure: BaseException) -> None:
        """Something went wrong within a call from the product, which must not see it."""
        self._on_failure(failure)

    def failed(self, life: LogLife, error: PerdureError) -> None:
        """The log could not do something, which it may only for a reason."""
        if life is not self.life:
            return
        self.trace.add(_NAME, f"fails: {error.code} {error}")
        if self.damage is not None and self.damage.explains(error):
            return
        require(
            any(disk.faulty for disk in self._disks().values()),
            "a log fails only with its disk",
            f"{error.code} {error}",
        )

    # What happens to it --------------------------------------------------------------------------

    def recover_soon(self, life: LogLife) -> None:
        """Somebody has sealed the segment: go on in a new one."""
        if life is self.life:
            self.spawn(life, life.log.recover, name="recover")

    async def change_segment(self, *, by_stranger: bool) -> None:
        """Have the log go on in a new segment; a stranger only seals the old one."""
        life = self.life
        if life is None or not self._up.is_set():
            return
        log = life.log
        work: Callable[[], Coroutine[Any, Any, Any]] = log.reconfigure
        if by_stranger:
            work = log._loglet(log.chain.tail).seal
        await self.within(life, work)

    async def close_for(self, duration_ns: int) -> None:
        """Seal the log as a whole and open it again a while later."""
        life = self.life
        if life is None or not self._up.is_set():
            return
        await self.within(life, life.log.seal)
        await self.loop.pause(duration_ns)
        await self.within(life, life.log.lead)

    def lose_batch(self, chance: Chance) -> None:
        """Let the disk lose one batch that is durable and not the last one of its loglet."""
        if self.damage is None and self.life is not None:
            self.damage = lose_batch(self._disks()["log"], self.observer, chance)

    def deleted(self, rows: dict[bytes, bytes]) -> None:
        """The log's store is about to delete rows. Raises InvariantViolation."""
        self.observer.log_deleted(rows, self.history.trim_asked)

    # Looking at it -------------------------------------------------------------------------------

    def committed(self) -> list[LogRecord]:
        """What the log has told to be committed, as its disk shows it."""
        if self.life is None:
            return []
        tail_lsn = self.life.log.committed_tail_lsn
        records = self.observer.read(self._disks()["log"].rows())
        return [item for item in records if item.lsn < tail_lsn]

    def check_survival(self, committed: list[LogRecord]) -> None:
        """After a crash. Raises InvariantViolation."""
        check_log_survival(committed, self.read_all(), self.history)

    def read_all(self) -> list[LogRecord]:
        """Every record that the log ever had, from the bare rows. Raises InvariantViolation."""
        return self.observer.read(self._disks()["log"].rows())


def end_of_segment(log: VirtualLog, index: int) -> int:
    """The tail LSN of a segment, 0 while it is open."""
    following: list[Segment] = [item for item in log.chain.segments if item.index > index]
    if following:
        return following[0].base_lsn
    return log.chain.sealed_tail or 0


class LogChannel:
    """The way from a client to the log and back: late, in any order, twice or not at all."""

    def __init__(self, raw: LogHome, chance: Chance) -> None:
        """Draw how bad it is."""
        self._raw = raw
        self._chance = chance
        self._loss = chance.pick((0.0, 0.02, 0.15))
        self._copies = chance.pick((0.0, 0.05, 0.2))
        self._delay_ns_max = chance.pick((1, 3, 20)) * MS // 4

    def send(self, deliver: Callable[[LogLife], None]) -> int:
        """Have `deliver` called in the process that is up then; how many copies were sent."""
        copies = 1 + self._chance.happens(self._copies)
        for _ in range(copies):
            self._later(partial(self._arrive, deliver))
        return copies

    def _arrive(self, deliver: Callable[[LogLife], None]) -> None:
        if self._raw.life is not None:
            deliver(self._raw.life)

    def reply(self, hear: Callable[[], None]) -> None:
        """Have an answer heard."""
        self._later(hear)

    def _later(self, what: Callable[[], None]) -> None:
        chance = self._chance
        if chance.happens(self._loss):
            return
        delay_ns = int(chance.fraction() * self._delay_ns_max)
        if chance.happens(0.05):
            delay_ns += int(chance.fraction() * 100 * MS)
        loop = self._raw.loop
        loop.call_at_ns(loop.now_ns + delay_ns, what)
