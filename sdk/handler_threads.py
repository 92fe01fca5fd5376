"""The pool that `def` handlers run in: bounded, and never held up by handlers that only wait.

A handler that waits for something durable keeps its thread, because most waits are short. When
another one needs a thread and none is left, the one that has waited longest is asked to suspend:
its thread is unwound, and it is replayed later, once what it waits for is there. Without this,
callers that wait for callees could hold every thread that a callee needs.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final

from .blocking import BlockingRun, Ended

HANDLER_THREADS_MAX_DEFAULT: Final = 32


class HandlerThreads:
    """Shared by all attempts of a worker. Threads are daemons, started when they are needed.

    Attributes:
        threads: how many there are.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, threads_max: int = HANDLER_THREADS_MAX_DEFAULT
    ) -> None:
        """Start no thread yet."""
        self._loop = loop
        self._threads_max = threads_max
        self._jobs: SimpleQueue[BlockingRun | None] = SimpleQueue()
        self._waiting: deque[BlockingRun] = deque()
        self._blocked: dict[BlockingRun, None] = {}
        self._running: set[BlockingRun] = set()
        self._posts: deque[tuple[BlockingRun, Callable[[], Any] | Ended]] = deque()
        self._lock = threading.Lock()
        self._woken = False
        self._closed = False
        self.threads = 0

    # On the real loop

    def turn(self, run: BlockingRun) -> None:
        """A handler has begun, or its attempt has had a turn: it computes now, or waits."""
        if not run.begun:
            run.begun = True
            run.pool = self
            self._waiting.append(run)
        elif run.busy:
            self._blocked.pop(run, None)
        else:
            self._blocked.setdefault(run)
        self._assign()

    def forget(self, run: BlockingRun) -> None:
        """The handler's attempt has ended; its thread follows at its next call of the context."""
        self._blocked.pop(run, None)
        if run in self._waiting:
            self._waiting.remove(run)

    def close(self) -> None:
        """Let idle threads end and begin nothing more."""
        self._closed = True
        self._waiting.clear()
        for _ in range(self.threads):
            self._jobs.put(None)

    def _assign(self) -> None:
        while self._waiting and len(self._running) < self._threads_max:
            run = self._waiting.popleft()
            self._running.add(run)
            if len(self._running) > self.threads:
                self.threads += 1
                name = f"perdure-handler-{self.threads}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
            self._jobs.put(run)
        if self._waiting:
            stay = [run for run in self._blocked if not run.attempt.machine.suspend_requested]
            for run in stay[: len(self._waiting)]:
                run.attempt.give_way()

    def _take_posts(self) -> None:
        with self._lock:
            self._woken = False
        while self._posts:
            run, what = self._posts.popleft()
            if isinstance(what, Ended):
                self._running.discard(run)
                self._blocked.pop(run, None)
                self.threads -= what.left_behind
            run.take(what)
            self._assign()

    # In threads

    def post(self, run: BlockingRun, what: Callable[[], Any] | Ended) -> None:
        """Have `run.take(what)` called on the real loop. Does nothing once that is closed."""
        self._posts.append((run, what))
        with self._lock:
            wake, self._woken = not self._woken, True
        if wake and not self._closed:
            try:
                self._loop.call_soon_threadsafe(self._take_posts)
            except RuntimeError:
                return  # the loop has closed; nobody waits any more

    def _work(self) -> None:
        jobs = self._jobs
        while (run := jobs.get()) is not None:
            run.work()
            del run  # hold nothing while waiting for the next job
