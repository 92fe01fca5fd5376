"""The read barrier: no answer that was read leaves a node that another one has deposed by then.

What a leader has applied is the truth only while nobody else leads. Where others can seal the
log's segment, reads wait for one check that began after they came: the log's own, linearizable
tail, which lies in this node's segment only if no later one can have taken anything before. All
reads that come while a check is on its way share the next, so there is at most one per turn.
"""

from asyncio import AbstractEventLoop, Future
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Protocol

from ..core.errors import PerdureError
from ..core.tasks import TaskScope
from ..core.waiters import settle
from ..log.chain_view import ChainView
from ..log.virtual_log import VirtualLog
from .errors import NotLeadingError

_Waiting = tuple[Callable[[], None], Callable[[PerdureError], object]]


class Led(Protocol):
    """A partition that this node may lead.

    Attributes:
        log: None before it is opened.
        epoch: under which it was led last.
    """

    log: VirtualLog | None
    epoch: int

    @property
    def leading(self) -> bool:
        """Whether this node leads it, as far as it knows."""
        ...


class ReadBarrier:
    """What the reads of one partition wait at."""

    def __init__(
        self,
        check: Callable[[], Awaitable[bool]],
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        loop: AbstractEventLoop,
    ) -> None:
        """Do nothing before the first read.

        Args:
            check: whether this node led after the call began.
            spawn: runs one check.
        """
        self._check = check
        self._spawn = spawn
        self._loop = loop
        self._waiting: list[_Waiting] = []
        self._running = False

    @staticmethod
    def needed(log: ChainView | None) -> bool:
        """Whether reads have to wait; not where nobody but this process can seal the segment."""
        return log is not None and log.shared

    def read(self, proceed: Callable[[], None], refuse: Callable[[PerdureError], object]) -> None:
        """Have `proceed` called once reading is safe, or `refuse` when it is not; both on the loop.

        Neither may raise.
        """
        self._waiting.append((proceed, refuse))
        if not self._running:
            self._running = True
            self._loop.call_soon(self._start)

    async def passed(self) -> None:
        """Wait until reading is safe. Raises NotLeadingError. Cancelling is safe."""
        outcome: list[PerdureError] = []
        future: Future[None] = self._loop.create_future()

        def refuse(error: PerdureError) -> None:
            outcome.append(error)
            settle(future)

        self.read(lambda: settle(future), refuse)
        await future
        if outcome:
            raise outcome[0]

    def refuse(self, error: PerdureError) -> None:
        """Refuse everybody who waits now."""
        waiting, self._waiting = self._waiting, []
        for _, refuse in waiting:
            refuse(error)

    def _start(self) -> None:
        self._spawn(self._run())

    async def _run(self) -> None:
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                try:
                    safe = await self._check()
                    reason = "another node has taken the lead"
                except PerdureError as error:
                    safe, reason = False, str(error)
                except BaseException:
                    self._waiting = waiting + self._waiting
                    raise
                for proceed, refuse in waiting:
                    if safe:
                        proceed()
                    else:
                        refuse(NotLeadingError(f"what was read may be out of date: {reason}"))
        finally:
            self._running = False
            self.refuse(NotLeadingError("the node is shutting down"))


def barrier_for(processor: Led, *, scope: TaskScope, loop: AbstractEventLoop) -> ReadBarrier:
    """The barrier of a partition, whose checks run in `scope`."""

    def spawn(check: Coroutine[Any, Any, None]) -> None:
        scope.spawn(check, name="read-barrier")

    return ReadBarrier(partial(leads_surely, processor), spawn=spawn, loop=loop)


async def leads_surely(processor: Led) -> bool:
    """Whether the node led the partition after the call began: its segment was the last one.

    Raises what finding the tail does. Cancelling is safe.
    """
    log, epoch = processor.log, processor.epoch
    if log is None or not processor.leading:
        return False
    await log.find_tail()
    same_reign = processor.leading and processor.epoch == epoch
    # That it is sealed does not matter: nothing counts elsewhere before there is another segment.
    return same_reign and log.open_segment == log.chain.tail.index
