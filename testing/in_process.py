"""A node and its workers in one process: the real engine over stores and a transport of choice.

Nothing here stands in for product code; only the ports are other ones, so what runs in a test is
what runs in production, minus sockets and disks.
"""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Final

from ..core.clock import Clock, SystemClock
from ..core.errors import PerdureError
from ..core.metrics import Metrics
from ..core.net.inproc import InProcListener, InProcNetwork, InProcTransport
from ..core.options import Assignment
from ..core.pauses import pause
from ..core.protocol.session import SESSION_SERVICE
from ..core.random import Random, SystemRandom
from ..core.storage.files import Files
from ..core.storage.kv import KvStore
from ..core.storage.memory import MemoryStore
from ..core.tasks import TaskScope
from ..ingress.errors import NotLeaderError
from ..ingress.requests import (
    Accepted,
    CallReply,
    Completed,
    InvocationRequest,
    Rejected,
    SendReply,
)
from ..node.engine import NodeEngine
from ..node.options import NodeOptions, load_node_options
from ..sdk.run_worker import run_worker
from ..sdk.service import App
from ..sdk.worker import ATTEMPTS_MAX_DEFAULT

NODE_ADDRESS: Final = "node:5122"


class InProcessNode:
    """A node that an ``async with`` starts and stops; workers join with `add_worker`.

    Attributes:
        engine: the node's insides, for tests that look at them.
        stores: its stores by name; give them to a second node to restart on them.
        failures: why the engine stopped by itself, if it did.
    """

    def __init__(
        self,
        *,
        options: Sequence[str] = (),
        stores: dict[str, KvStore] | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
        files: Files | None = None,
    ) -> None:
        """Prepare a node.

        Args:
            options: assignments such as ``partitions.count=1``.
            stores: of an earlier node; memory stores that are made on demand otherwise.
            files: where snapshots are kept; the system's unless given.
        """
        assignments = [Assignment(*text.split("=", 1)) for text in options]
        self._options: NodeOptions = load_node_options(assignments=assignments)
        self.stores: dict[str, KvStore] = {} if stores is None else stores
        self.failures: list[PerdureError] = []
        self._worker_failures: list[BaseException] = []
        self.metrics = Metrics()
        self.network = InProcNetwork()
        self._transport = InProcTransport(self.network)
        self._files = files
        self._clock = clock or SystemClock()
        self._random = random or SystemRandom()
        self._scope = TaskScope("workers", on_failure=self._worker_failures.append)
        self._stop_workers: list[asyncio.Event] = []
        self._listener: InProcListener | None = None
        self.engine: NodeEngine

    async def __aenter__(self) -> "InProcessNode":
        """Start; every partition leads on return. Raises PerdureError."""
        self.engine = NodeEngine(
            self._options,
            open_store=self._open_store,
            clock=self._clock,
            random=self._random,
            metrics=self.metrics,
            on_failure=self.failures.append,
            files=self._files,
        )
        await self.engine.start()
        self._listener = await self._transport.listen(
            NODE_ADDRESS, {SESSION_SERVICE: self.engine.reception.serve}
        )
        return self

    def _open_store(self, name: str) -> KvStore:
        return self.stores.setdefault(name, MemoryStore())

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the workers, then the node."""
        for stop in self._stop_workers:
            stop.set()
        await self._scope.close()
        self.engine.stop(NotLeaderError("this node is shutting down"))
        if self._listener is not None:
            await self._listener.close()
        self.engine.close()

    async def add_worker(
        self, app: App, *, name: str = "worker", attempts_max: int = ATTEMPTS_MAX_DEFAULT
    ) -> None:
        """Connect a worker that runs `app`; it is welcomed when this returns.

        It takes `attempts_max` attempts at once.

        Raises what ended the worker before that.
        """
        stop = asyncio.Event()
        self._stop_workers.append(stop)
        invoker = self.engine.manager.invoker
        connected = len(invoker.sessions)
        self._scope.spawn(
            run_worker(
                app,
                [NODE_ADDRESS],
                transport=self._transport,
                clock=self._clock,
                random=self._random,
                name=name,
                stop=stop,
                attempts_max=attempts_max,
            ),
            name=name,
        )
        loop = asyncio.get_running_loop()
        while len(invoker.sessions) == connected:
            if self._worker_failures:
                raise self._worker_failures.pop()
            await pause(loop, 0.001)

    async def stop_workers(self) -> None:
        """Have every worker finish what it does and leave."""
        for stop in self._stop_workers:
            stop.set()
        loop = asyncio.get_running_loop()
        while self.engine.manager.invoker.sessions:
            await pause(loop, 0.001)

    def submit(self, request: InvocationRequest) -> "asyncio.Future[CallReply]":
        """Start a call; the future gets its reply. Raises what `Dispatcher.call` raises."""
        future: asyncio.Future[CallReply] = asyncio.get_running_loop().create_future()

        def settle(reply: CallReply) -> None:
            if not future.done():
                future.set_result(reply)

        self.engine.dispatcher.call(request, settle)
        return future

    async def call(
        self,
        service: str,
        handler: str,
        body: bytes = b"",
        *,
        key: str | None = None,
        idempotency_key: str | None = None,
    ) -> Completed:
        """Call a handler and wait for its result. Raises the error of a rejection."""
        reply = await self.submit(
            InvocationRequest(service, handler, key, body, idempotency_key=idempotency_key)
        )
        if isinstance(reply, Rejected):
            raise reply.error
        return reply

    async def send(
        self, service: str, handler: str, body: bytes = b"", *, key: str | None = None
    ) -> Accepted:
        """Start a handler and wait until that is durable. Raises the error of a rejection."""
        future: asyncio.Future[SendReply] = asyncio.get_running_loop().create_future()
        self.engine.dispatcher.send(
            InvocationRequest(service, handler, key, body), future.set_result
        )
        reply = await future
        if isinstance(reply, Rejected):
            raise reply.error
        return reply
