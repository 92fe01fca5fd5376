"""Serving an app from a program of one's own: `connect` for all of it, `with_connection` beside it.

The names are those of the official SDK; a worker dials out to nodes here, as ``perdure worker``
does for an app file.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from ..core.clock import SystemClock
from ..core.net.choice import make_transport
from ..core.net.transport import Transport
from ..core.random import SystemRandom
from ..core.tasks import TaskScope
from .errors import UnsupportedOptionError, WorkerRefusedError
from .loading import DEPLOYMENT_HASH_CHARS, code_hash_of_app
from .run_worker import make_worker
from .service import App
from .worker import Worker

NODES_DEFAULT: Final = ("127.0.0.1:5122",)
EXIT_GRACE_SECONDS: Final = 10.0
SIGNAL_GRACE_SECONDS: Final = 120.0

ConnectError = WorkerRefusedError
"""Raised when a node refuses the worker for good."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Connection:
    """An app that is being served; `with_connection` makes one.

    Attributes:
        name: of the deployment.
    """

    def __init__(self, name: str, worker: Worker, running: "asyncio.Task[None]") -> None:
        """Take what serves, and the task that it does so in."""
        self.name = name
        self._worker = worker
        self._running = running

    async def wait(self) -> None:
        """Wait until the app is served no more. Cancelling is safe."""
        await asyncio.wait([self._running])

    async def shutdown(self, grace: float = 0.0) -> None:
        """Take no more work; what runs gets `grace` seconds to finish, then runs elsewhere.

        Returns when all of it is over. Cancelling is safe: it ends all the same.
        """
        self.stop(grace)
        await self.wait()

    def stop(self, grace: float = 0.0) -> None:
        """As `shutdown`, without waiting; without `grace` also where a shutdown is under way."""
        if grace > 0:
            self._worker.stop(grace)
        else:
            self._running.cancel()


@asynccontextmanager
async def with_connection(
    app: App,
    *,
    name: str | None = None,
    key: str | None = None,
    addresses: Sequence[str] = NODES_DEFAULT,
    transport: Transport | None = None,
) -> AsyncIterator[Connection]:
    """Serve an app to the nodes at `addresses` within the block, from the first welcome on.

    `name` begins the deployment's name, which the state of the code ends. What runs at the end of
    the block gets ten seconds to finish. Raises ConnectError, also into the block, when a node
    refuses the worker for good, and UnsupportedOptionError for a key.
    """
    if key is not None:
        raise UnsupportedOptionError("option key is not supported by this release; leave it out")
    code_hash = code_hash_of_app(app)
    deployment = None if name is None else f"{name}-{code_hash[:DEPLOYMENT_HASH_CHARS]}"
    worker = make_worker(
        app,
        deployment=deployment,
        code_hash=code_hash,
        transport=make_transport() if transport is None else transport,
        clock=SystemClock(),
        random=SystemRandom(),
        drain_seconds=EXIT_GRACE_SECONDS,
    )
    async with TaskScope("connection") as scope:
        running = scope.spawn(worker.run(addresses), name="worker")
        await worker.welcomed.wait()
        try:
            yield Connection(worker.deployment, worker, running)
        finally:
            worker.stop()


async def connect(
    app: App,
    *,
    name: str | None = None,
    key: str | None = None,
    addresses: Sequence[str] = NODES_DEFAULT,
    transport: Transport | None = None,
) -> None:
    """Serve an app to the nodes at `addresses` until SIGTERM or SIGINT.

    What runs then gets two minutes to finish; a second signal ends it at once. Raises as
    `with_connection`. Only for the main thread, whose signals it takes while it runs.
    """
    loop = asyncio.get_running_loop()
    graces = [0.0, SIGNAL_GRACE_SECONDS]
    async with with_connection(
        app, name=name, key=key, addresses=addresses, transport=transport
    ) as connection:

        def stop() -> None:
            connection.stop(graces.pop() if graces else 0.0)

        for number in _SIGNALS:
            loop.add_signal_handler(number, stop)
        try:
            await connection.wait()
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)
