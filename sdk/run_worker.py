"""Runs a worker: in an event loop that is there, or as the whole life of a process."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from ..core.clock import Clock, SystemClock
from ..core.net.choice import make_transport
from ..core.net.transport import Transport
from ..core.random import Random, SystemRandom
from .attempt import Attempt
from .handler_threads import HANDLER_THREADS_MAX_DEFAULT
from .loading import LoadedApp, code_hash_of_app, deployment_of, load_app
from .service import App
from .step_runner import THREADS_MAX_DEFAULT
from .worker import ATTEMPTS_MAX_DEFAULT, DRAIN_SECONDS_DEFAULT, Worker

# A thread that comes back from a blocking call waits this long for the loop's thread at most.
SWITCH_INTERVAL_SECONDS: Final = 0.0005
# Calls make and drop objects without circles; looking for circles often finds nothing.
COLLECTOR_THRESHOLDS: Final = (50_000, 20, 50)

logger = logging.getLogger("perdure.sdk")


def make_worker(
    app: App,
    *,
    deployment: str | None = None,
    code_hash: str | None = None,
    transport: Transport,
    clock: Clock,
    random: Random,
    name: str | None = None,
    attempts_max: int = ATTEMPTS_MAX_DEFAULT,
    step_threads_max: int = THREADS_MAX_DEFAULT,
    handler_threads_max: int = HANDLER_THREADS_MAX_DEFAULT,
    drain_seconds: float = DRAIN_SECONDS_DEFAULT,
    make_attempt: Callable[..., Attempt] = Attempt,
) -> Worker:
    """A worker of an app.

    `code_hash` defaults to that of the handlers' own files, `deployment` to a name made of it.
    """
    if code_hash is None:
        code_hash = code_hash_of_app(app)
    deployment = deployment or deployment_of(code_hash)
    logger.info("deployment %s offers %s", deployment, ", ".join(app.services))
    return Worker(
        app,
        deployment=deployment,
        code_hash=code_hash,
        name=name or f"{socket.gethostname()}:{os.getpid()}",
        transport=transport,
        clock=clock,
        random=random,
        attempts_max=attempts_max,
        step_threads_max=step_threads_max,
        handler_threads_max=handler_threads_max,
        drain_seconds=drain_seconds,
        make_attempt=make_attempt,
    )


async def run_worker(
    app: App, addresses: Sequence[str], *, stop: asyncio.Event | None = None, **options: Any
) -> None:
    """Offer an app to the nodes at `addresses` until `stop` is set; then finish what runs.

    The options are those of `make_worker`. Raises WorkerRefusedError when a node refuses the worker
    for good. Cancelling drops the sessions at once.
    """
    await make_worker(app, **options).run(addresses, stop)


def serve_app(
    path: str | Path,
    addresses: Sequence[str],
    deployment: str | None = None,
    transport: Transport | None = None,
) -> int:
    """Load an app file and serve it until SIGTERM or SIGINT; the whole life of a worker process.

    Returns the process's exit status, 0. Logs to stderr unless logging has been set up. Raises
    what `load_app` and `run_worker` raise.
    """
    if not logging.getLogger().handlers:
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
        logger.setLevel(logging.INFO)
    return serve_loaded(load_app(path), addresses, deployment, transport)


def serve_loaded(
    loaded: LoadedApp,
    addresses: Sequence[str],
    deployment: str | None = None,
    transport: Transport | None = None,
) -> int:
    """As `serve_app`, with an app that was loaded before. Raises what `run_worker` raises."""
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        chosen = transport if transport is not None else make_transport()
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECTOR_THRESHOLDS)
        await run_worker(
            loaded.app,
            addresses,
            deployment=deployment,
            code_hash=loaded.code_hash,
            transport=chosen,
            clock=SystemClock(),
            random=SystemRandom(),
            stop=stop,
        )

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main())
    logger.info("worker has ended")
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    # Faster where it is installed; not among the SDK's own dependencies.
    try:
        import uvloop
    except ImportError:
        return None
    factory: Any = uvloop.new_event_loop
    return factory  # type: ignore[no-any-return]
