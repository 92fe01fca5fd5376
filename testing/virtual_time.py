"""Virtual time for an event loop that is there already: it jumps to the next timer when all wait.

Any selector loop will do, the one of ``asyncio.run`` or of a test runner. Its selector and its
clock are replaced while somebody uses virtual time, and go on as real ones afterwards, without ever
going back. Sockets and threads work: while a thread of the loop's executor is busy, or whatever
else counts as busy, time stands still.
"""

import asyncio
import math
import selectors
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from weakref import WeakKeyDictionary

from ..core.errors import PerdureError
from ..core.waiters import settle
from .errors import StalledError

SPINNING_TURNS: Final = 5_000
"""After so many turns in which something was ready, somebody spins until a timer fires."""
TURN_NS: Final = 20_000
"""What a turn costs from there on, so that the timer does; those before cost nothing."""
_MS: Final = 1_000_000
TOLERANCE_NS: Final = _MS
"""What is due so shortly after the end of an `advance` belongs to it: sleeps are in whole ms."""
STILL_SECONDS: Final = 1.0
"""So long in reality time stands still for what is busy; then it goes on as the one on the wall."""

START_DEFAULT: Final = datetime(2030, 1, 1, tzinfo=UTC)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_times: "WeakKeyDictionary[asyncio.AbstractEventLoop, VirtualTime]" = WeakKeyDictionary()


class UnsuitableLoopError(PerdureError):
    """The event loop that runs cannot be given another clock."""

    code = "PD1201"


class TimeUser:
    """What one user of a loop's virtual time tells it; the defaults tell nothing."""

    def busy(self) -> bool:
        """Whether something runs that the loop does not see: time stands still."""
        return False

    def before_jump(self) -> bool:
        """Nothing is ready: do what waits for that; whether there was something to do."""
        return False

    def stalled(self) -> bool:
        """Nothing will ever be ready again: wake somebody; False when nobody is left to wake."""
        return False


class VirtualTime:
    """The time of one event loop.

    Attributes:
        now_ns: what the loop's own clock shows, in ns.
        skipping: whether time jumps by itself; otherwise only `advance` moves it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take the loop over; use `virtual_time`. Raises UnsuitableLoopError."""
        taken: Any = loop
        real = getattr(taken, "_selector", None)
        if not isinstance(real, selectors.BaseSelector) or not hasattr(taken, "_scheduled"):
            raise UnsuitableLoopError(
                f"{type(loop).__name__} has no clock that can be replaced: run the test on "
                "asyncio's own loop, for instance with perdure.testing.run"
            )
        self._loop = taken
        self.now_ns = round(loop.time() * 1e9)
        self.skipping = True
        self._real_time = loop.time
        self._offset_ns = 0
        self._users: list[TimeUser] = []
        self._target: tuple[int, asyncio.Future[None]] | None = None
        self._executor_jobs = 0
        self._turns = 0
        self._run_in_executor = loop.run_in_executor
        self._stalls = 0
        taken._selector = _Selector(real, self)
        taken.time = self.time
        taken.run_in_executor = self._count_in_executor

    def time(self) -> float:
        """The loop's clock, in seconds."""
        if not self._users:
            return self._real_time() + self._offset_ns / 1e9
        return self.now_ns / 1e9

    def add(self, user: TimeUser) -> None:
        """From here on time is virtual."""
        if not self._users:
            self.now_ns = round(self.time() * 1e9)
            self.skipping = True
        self._users.append(user)

    def remove(self, user: TimeUser) -> None:
        """Without users, time passes by itself again."""
        self._users.remove(user)
        if not self._users:
            self._offset_ns = self.now_ns - round(self._real_time() * 1e9)

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Run a callback when `now_ns` is there."""
        handle: asyncio.TimerHandle = self._loop.call_at(when_ns / 1e9, callback)
        return handle

    async def advance(self, duration_ns: int) -> None:
        """Let so much time pass, to the millisecond, and everything happen that it brings about.

        Returns when nothing is ready any more. One at a time; cancelling is safe.
        """
        assert self._target is None, "advance is under way already"
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._target = (self.now_ns + duration_ns, reached)
        try:
            await reached
        finally:
            self._target = None

    def _count_in_executor(self, executor: Any, function: Any, *arguments: Any) -> Any:
        job = self._run_in_executor(executor, function, *arguments)
        self._executor_jobs += 1
        job.add_done_callback(self._executor_job_done)
        return job

    def _executor_job_done(self, _job: Any) -> None:
        self._executor_jobs -= 1

    # What the selector asks

    @property
    def in_use(self) -> bool:
        """Whether time is virtual now."""
        return bool(self._users)

    def turn(self) -> None:
        """Something is ready: a turn of the loop passes."""
        self._stalls = 0
        self._turns += 1
        if not self._loop._ready:
            # A timer is due; by the rounding of floats the loop may take it for a little early.
            self.now_ns += 1000
        if self._turns > SPINNING_TURNS and not self._busy():
            self.now_ns += TURN_NS

    def idle(self, timeout: float | None, wait: Callable[[float], Any]) -> Any:
        """Nothing is ready for `timeout` seconds, None for ever: what the selector is to give.

        `wait` waits in reality. Raises StalledError when nothing can ever be ready again.
        """
        self._turns = 0
        if self._busy():
            events = wait(STILL_SECONDS)
            if not events:
                self.now_ns += round(min(timeout or STILL_SECONDS, STILL_SECONDS) * 1e9)
            return events
        if any(user.before_jump() for user in self._users):
            return []
        due_ns = None
        if timeout is not None:
            due_ns = _whole_us(self.now_ns + math.ceil(timeout * 1e9))
        if self._target is not None:
            target_ns, reached = self._target
            if due_ns is None or due_ns > target_ns + TOLERANCE_NS:
                self.now_ns = max(self.now_ns, target_ns)
                settle(reached)
                return []
        elif due_ns is None or not self.skipping:
            self._stall()
            return []
        self._stalls = 0
        self.now_ns = due_ns
        return []

    def _busy(self) -> bool:
        return self._executor_jobs > 0 or any(user.busy() for user in self._users)

    def _stall(self) -> None:
        self._stalls += 1
        if self._stalls == 1 and any(user.stalled() for user in self._users):
            return
        raise StalledError(
            "everything waits, and nothing is left that could wake it"
            if self.skipping
            else "everything waits, and time stands still: let it pass with advance"
        )


class _Selector(selectors.BaseSelector):
    """The loop's own selector, which is asked without waiting for it."""

    def __init__(self, real: selectors.BaseSelector, time: VirtualTime) -> None:
        self._real = real
        self._time = time

    def select(self, timeout: float | None = None) -> Any:
        if not self._time.in_use:
            return self._real.select(timeout)
        events = self._real.select(0)
        if events or (timeout is not None and timeout <= 0):
            self._time.turn()
            return events
        return self._time.idle(timeout, self._real.select)

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def close(self) -> None:
        self._real.close()

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.get_key(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()


def _whole_us(time_ns: int) -> int:
    """The next whole microsecond, so that no timer seems to be early by the rounding of floats."""
    return ((time_ns + 200) // 1000 + 1) * 1000


def virtual_time(loop: asyncio.AbstractEventLoop) -> VirtualTime:
    """The virtual time of a loop, of which there is one. Raises UnsuitableLoopError."""
    time = _times.get(loop)
    if time is None:
        time = _times[loop] = VirtualTime(loop)
    return time


def sockets_open(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the loop watches anything besides its own way to be woken."""
    selector: Any = loop
    return len(selector._selector.get_map()) > 1


class VirtualClock:
    """The Clock port on a loop's virtual time, in whole milliseconds.

    Sleeps end at whole milliseconds. Read more finely, each would end a bit after its time, and so
    would begin what follows it: a year of months would be a few milliseconds longer.
    """

    def __init__(self, time: VirtualTime, start: datetime) -> None:
        """Show `start` now."""
        self._time = time
        self._wall_ns = (start - _EPOCH) // timedelta(milliseconds=1) * _MS
        self._start_ns = time.now_ns

    def time_ns(self) -> int:
        """Wall clock, nanoseconds since 1970."""
        return self._wall_ns + self.monotonic_ns()

    def monotonic_ns(self) -> int:
        """A clock that only goes forward, in ns."""
        return (self._time.now_ns - self._start_ns) // _MS * _MS

    def at(self, monotonic_ns: int) -> int:
        """What `VirtualTime.now_ns` is when this clock shows so much."""
        return self._start_ns + monotonic_ns
