"""A due-queue: what must happen at some time, and the one loop timer that waits for it."""

import heapq
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from typing import Final

from ..core.clock import Clock
from ..core.ids import InvocationId

Due = tuple[int, int, InvocationId, int]
"""Due time in ns, a number that keeps equal times in order, invocation, attempt that ended."""


class DueQueue:
    """Pure: entries by due time. Whoever fires them drops those that lost their reason."""

    def __init__(self) -> None:
        """Start empty."""
        self._heap: list[Due] = []
        self._number = 0

    def __len__(self) -> int:
        """How many wait."""
        return len(self._heap)

    def add(self, due_ns: int, invocation_id: InvocationId, attempt: int) -> None:
        """Wait until `due_ns`."""
        self._number += 1
        heapq.heappush(self._heap, (due_ns, self._number, invocation_id, attempt))

    def next_due_ns(self) -> int | None:
        """When the first entry is due, or None."""
        return self._heap[0][0] if self._heap else None

    def take(self, now_ns: int, count_max: int) -> list[tuple[InvocationId, int]]:
        """Up to `count_max` entries that are due now, in order."""
        taken: list[tuple[InvocationId, int]] = []
        heap = self._heap
        while heap and heap[0][0] <= now_ns and len(taken) < count_max:
            _, _, invocation_id, attempt = heapq.heappop(heap)
            taken.append((invocation_id, attempt))
        return taken


class Timers:
    """Drives a DueQueue: one loop timer for the first entry, bounded work each time it fires."""

    FIRED_PER_TURN_MAX: Final = 500
    # The loop's clock and ours may drift apart; looking again now and then bounds the error.
    LOOK_AGAIN_SECONDS: Final = 10.0

    def __init__(
        self,
        loop: AbstractEventLoop,
        clock: Clock,
        fire: Callable[[InvocationId, int], None],
    ) -> None:
        """Call `fire` on the loop for each entry once its time has come."""
        self._loop = loop
        self._clock = clock
        self._fire = fire
        self._queue = DueQueue()
        self._handle: TimerHandle | None = None
        self._armed_ns: int | None = None

    def add(
        self, due_ns: int, record_time_ns: int, invocation_id: InvocationId, attempt: int
    ) -> None:
        """Fire at `due_ns`, as told by a clock that shows at least `record_time_ns` now.

        Record time never goes back, the wall clock may: measured against it alone, a wait would
        grow by whatever the clock was set back. So the wait is fixed here, on the monotonic clock.
        """
        wait_ns = max(0, due_ns - max(record_time_ns, self._clock.time_ns()))
        deadline_ns = self._clock.monotonic_ns() + wait_ns
        self._queue.add(deadline_ns, invocation_id, attempt)
        if self._armed_ns is None or deadline_ns < self._armed_ns:
            self._arm()

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._armed_ns = due_ns = self._queue.next_due_ns()
        if due_ns is None:
            self._handle = None
            return
        wait_seconds = max(0.0, (due_ns - self._clock.monotonic_ns()) / 1e9)
        self._handle = self._loop.call_later(min(wait_seconds, self.LOOK_AGAIN_SECONDS), self._look)

    def _look(self) -> None:
        self._handle = None
        try:
            now_ns = self._clock.monotonic_ns()
            for _ in range(self.FIRED_PER_TURN_MAX):
                # One at a time: when firing one raises, the others are still in the queue.
                if not (due := self._queue.take(now_ns, 1)):
                    break
                self._fire(*due[0])
        finally:
            self._arm()

    def close(self) -> None:
        """Fire nothing any more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
