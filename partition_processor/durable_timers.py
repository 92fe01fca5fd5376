"""The timers table's driver: the next few timers in memory, all of them in the store.

A million sleeping invocations cost memory only for those that are due first. What is kept in memory
is a window at the front of the table: everything up to the row `_loaded_to`, or the whole table.
"""

import heapq
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from ..core.clock import Clock
from ..core.ids import InvocationId
from .effects import ArmTimer
from .records import Timer

_Due = tuple[int, InvocationId, int]


class DurableTimers:
    """Fires the rows of one partition's timers table, many per record."""

    WINDOW: Final = 4_096
    """So many are read from the store at once; up to three times as many are kept."""
    FIRED_PER_RECORD_MAX: Final = 500
    LOOK_AGAIN_SECONDS: Final = 10.0

    def __init__(
        self,
        loop: AbstractEventLoop,
        clock: Clock,
        read_after: Callable[[_Due | None], Iterator[ArmTimer]],
        fire: Callable[[tuple[Timer, ...]], None],
    ) -> None:
        """Do nothing before `start`.

        Args:
            read_after: gives the table's rows in order, from behind a timer on.
            fire: called with timers whose time has come; they stay in the table until they are
                applied as fired.
        """
        self._loop = loop
        self._clock = clock
        self._read_after = read_after
        self._fire = fire
        self._heap: list[_Due] = []
        # Nothing beyond this one is in memory; None when everything is.
        self._loaded_to: _Due | None = None
        self._handle: TimerHandle | None = None
        self._armed_ns: int | None = None
        self._now_ns = 0
        self._monotonic_ns = clock.monotonic_ns()
        self._running = False

    def __len__(self) -> int:
        """How many are in memory."""
        return len(self._heap)

    def start(self) -> None:
        """Read the first ones and wait for them."""
        self._running = True
        self._load(None)
        self._arm()

    def add(self, timer: ArmTimer, record_time_ns: int) -> None:
        """A timer was written, by a record of this time."""
        if not self._running:
            return
        # Record time never goes back, and neither does time here. What has passed until now is
        # counted first: added to the record's time later on, it would count twice.
        self._now_ns = max(self.now_ns(), record_time_ns)
        due = (timer.due_ns, timer.invocation_id, timer.number)
        if self._loaded_to is not None and due > self._loaded_to:
            return
        heapq.heappush(self._heap, due)
        if len(self._heap) > 3 * self.WINDOW:
            self._heap = heapq.nsmallest(self.WINDOW, self._heap)
            self._loaded_to = self._heap[-1]
        if self._armed_ns is None or timer.due_ns < self._armed_ns:
            self._arm()

    def _load(self, after: _Due | None) -> None:
        """Read the next window from behind `after`."""
        last: _Due | None = None
        count = 0
        for timer in islice(self._read_after(after), self.WINDOW):
            last = (timer.due_ns, timer.invocation_id, timer.number)
            heapq.heappush(self._heap, last)
            count += 1
        self._loaded_to = last if count == self.WINDOW else None

    def now_ns(self) -> int:
        """Wall clock time that never goes back, not even where the wall clock is set back."""
        monotonic_ns = self._clock.monotonic_ns()
        passed_ns = monotonic_ns - self._monotonic_ns
        self._monotonic_ns = monotonic_ns
        self._now_ns = max(self._now_ns + passed_ns, self._clock.time_ns())
        return self._now_ns

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if not self._heap or not self._running:
            self._armed_ns = None
            return
        self._armed_ns = due_ns = self._heap[0][0]
        wait_seconds = max(0.0, (due_ns - self.now_ns()) / 1e9)
        self._handle = self._loop.call_later(min(wait_seconds, self.LOOK_AGAIN_SECONDS), self._look)

    def _look(self) -> None:
        self._handle = None
        now_ns = self.now_ns()
        heap = self._heap
        due: list[Timer] = []
        while heap and heap[0][0] <= now_ns and len(due) < self.FIRED_PER_RECORD_MAX:
            due.append(Timer(*heapq.heappop(heap)))
        try:
            if due:
                self._fire(tuple(due))
            if not heap and self._loaded_to is not None:
                self._load(self._loaded_to)
        finally:
            self._arm()

    def close(self) -> None:
        """Fire nothing any more."""
        self._running = False
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
