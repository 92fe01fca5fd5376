"""Running a sync beside the event loop: a port, and its adapter that uses one thread."""

import queue
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Protocol

from ...core.errors import StorageError

SyncDone = Callable[[int | StorageError], None]
"""Told on the loop how long the sync took in ns, or why it failed."""


class SyncRunner(Protocol):
    """Where the log's writer has its syncs done that it does not do itself."""

    def run(self, sync: Callable[[], int], done: SyncDone) -> None:
        """Call `sync` beside the loop and `done` on it afterwards; one at a time."""
        ...

    def close(self) -> None:
        """Take no more; what is running ends by itself, and closing its store waits for it."""
        ...


class ThreadSyncRunner:
    """One thread, started when it is first needed."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        """Report on `loop`."""
        self._loop = loop
        self._jobs: queue.SimpleQueue[tuple[Callable[[], int], SyncDone] | None] | None = None

    def run(self, sync: Callable[[], int], done: SyncDone) -> None:
        """Call `sync` in the thread and `done` on the loop."""
        if self._jobs is None:
            self._jobs = queue.SimpleQueue()
            threading.Thread(
                target=self._work, args=(self._jobs,), name="log-sync", daemon=True
            ).start()
        self._jobs.put((sync, done))

    def _work(self, jobs: "queue.SimpleQueue[tuple[Callable[[], int], SyncDone] | None]") -> None:
        while (job := jobs.get()) is not None:
            sync, done = job
            try:
                result: int | StorageError = sync()
            except StorageError as error:
                result = error
            except BaseException as error:
                # Whatever it is, the loop must hear of it: it waits for this sync.
                result = StorageError(f"the log could not be synced: {error!r}; restart the node")
            try:
                self._loop.call_soon_threadsafe(done, result)
            except RuntimeError:
                return  # The loop was closed: nobody is left to tell.

    def close(self) -> None:
        """End the thread after what it is at, which may take seconds and is not waited for."""
        if self._jobs is not None:
            self._jobs.put(None)
            self._jobs = None
