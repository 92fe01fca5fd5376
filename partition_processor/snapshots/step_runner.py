"""Runs what waits for a repository beside the event loop, a bounded step at a time."""

from asyncio import AbstractEventLoop, Future
from collections.abc import Callable
from typing import Final, TypeVar

from ...core.errors import StorageError
from ...log.local.sync_runner import SyncRunner
from .errors import SnapshotRefusedError, SnapshotRepositoryError

_Result = TypeVar("_Result")


class StepRunner:
    """One step after the other, each with a result or an exception."""

    STEP_SECONDS_MAX: Final = 60.0
    """A repository that takes longer for one step counts as out of reach: a mount that hangs must
    not keep a node from starting that can do without it."""

    def __init__(self, loop: AbstractEventLoop, runner: SyncRunner, place: str) -> None:
        """Report on `loop`; `place` is the repository's, for the text of an error."""
        self._loop = loop
        self._runner = runner
        self._place = place
        self._stopped = False

    async def step(self, work: Callable[[], _Result]) -> _Result:
        """Run a step of the repository's. Cancelling leaves it running.

        Raises what it does, SnapshotRepositoryError when it takes too long, or
        SnapshotRefusedError after `stop`.
        """
        waiting = self.begin(work)
        timer = self._loop.call_later(self.STEP_SECONDS_MAX, self._give_up, waiting)
        try:
            return await waiting
        finally:
            timer.cancel()

    def _give_up(self, waiting: "Future[_Result]") -> None:
        if not waiting.done():
            waiting.set_exception(
                SnapshotRepositoryError(
                    f"snapshots in {self._place}: no answer within {self.STEP_SECONDS_MAX:g} s; "
                    "look whether it is mounted and its server runs, the node tries again"
                )
            )

    def begin(self, work: Callable[[], _Result]) -> "Future[_Result]":
        """Run something, however long it takes. Raises SnapshotRefusedError after `stop`."""
        if self._stopped:
            raise SnapshotRefusedError("the node is shutting down")
        future: Future[_Result] = self._loop.create_future()
        results: list[_Result] = []
        failures: list[Exception] = []

        def run() -> int:
            try:
                results.append(work())
            except Exception as error:
                failures.append(error)
            return 0

        def done(_: int | StorageError) -> None:
            if future.done():
                return
            if failures:
                future.set_exception(failures[0])
            else:
                future.set_result(results[0])

        self._runner.run(run, done)
        return future

    def stop(self) -> None:
        """Take no more; what is running ends by itself."""
        self._stopped = True
        self._runner.close()
