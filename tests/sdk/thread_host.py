"""A host that runs `def` handlers and steps in real threads, on a loop of its own."""

import asyncio
from collections.abc import Callable
from typing import Any

from perdure.core.clock import ManualClock
from perdure.core.tasks import TaskScope
from perdure.sdk import Service
from perdure.sdk.attempt import Attempt
from perdure.sdk.blocking import BlockingRun
from perdure.sdk.handler_threads import HandlerThreads
from perdure.sdk.step_runner import StepRunner
from perdure.sdk.steps import Step

from .fake_node import Frame, Journal, frames_of


class Host:
    """Runs `def` handlers and steps for real, on the loop that it is made on."""

    def __init__(self, threads_max: int = 4) -> None:
        loop = asyncio.get_running_loop()
        self.scope = TaskScope("test")
        self.pool = HandlerThreads(loop, threads_max)
        self.steps = StepRunner(loop, self.scope, ManualClock())
        self.sent: dict[Attempt, bytes] = {}
        self.changed = asyncio.Event()

    def admit(self, attempt: Attempt) -> bool:
        return True

    def superseded(self, attempt: Attempt) -> None:
        raise AssertionError

    def start_step(self, step: Step) -> None:
        self.steps.start(step)

    def cancel_step(self, step: Step) -> None:
        self.steps.cancel(step)

    def handler_turn(self, run: BlockingRun) -> None:
        self.pool.turn(run)
        self.changed.set()

    def forget_handler(self, run: BlockingRun) -> None:
        self.pool.forget(run)

    def node_time_ns(self) -> int:
        return 0

    def output_ready(self, attempt: Attempt) -> None:
        self.sent[attempt] = self.sent.get(attempt, b"") + attempt.take_output()
        self.changed.set()

    def begin(self, handler: Any, journal: Journal | None = None) -> Attempt:
        """A new attempt, fed from a plain callback as the session does it."""
        attempt = Attempt(handler, self)
        self.feed(attempt, (journal or Journal()).opening())
        return attempt

    def feed(self, attempt: Attempt, frames: bytes) -> None:
        """Give an attempt frames in a callback of the loop."""

        def act() -> None:
            self.sent[attempt] = self.sent.get(attempt, b"") + attempt.feed(frames)
            self.changed.set()

        asyncio.get_running_loop().call_soon(act)

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until something has come about."""
        async with asyncio.timeout(60):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def frames(self, attempt: Attempt, count: int) -> list[Frame]:
        """What an attempt has sent, once these are `count` frames."""
        await self.until(lambda: len(frames_of(self.sent.get(attempt, b""))) >= count)
        return frames_of(self.sent[attempt])


def with_host(main: Callable[[Host], Any], threads_max: int = 4) -> Any:
    """Run a test on a loop with a host."""

    async def around() -> Any:
        host = Host(threads_max)
        try:
            return await main(host)
        finally:
            host.pool.close()
            host.steps.close()
            await host.scope.close()

    return asyncio.run(around())


def handler_of(function: Callable[..., Any]) -> Any:
    """The handler of a service that a function is."""
    service = Service("Service")
    service.handler("it")(function)
    return service.handlers["it"]
