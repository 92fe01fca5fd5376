"""Running a node as a process: event loop, signals, garbage collection, exit code."""

import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeAlias

import structlog
import uvloop

from ..core.errors import PerdureError
from ..core.tasks import TaskScope
from ..core.telemetry import configure_logging
from .options import NodeOptions
from .server import NodeServer

_log = structlog.get_logger("node")

SWITCH_INTERVAL_SECONDS: Final = 0.0005
"""How long a thread may keep the interpreter from one that waits: the one that synced the log, say.

With CPython's default of 5 ms a commit that is through waits 5.5 ms beside a busy loop."""

YOUNG_OBJECTS_MAX: Final = 50_000
"""Objects made between two collections of the youngest generation."""


PARTS: Final = (
    "admin",
    "core",
    "ingress",
    "log",
    "metadata",
    "node",
    "partition_processor",
    "proto",
    "sdk",
    "testing",
)


Beside: TypeAlias = Callable[[NodeServer, asyncio.Event], Coroutine[Any, Any, None]]
"""What runs beside a node: it ends when the event is set, and the node after it."""


def run_server(options: NodeOptions, beside: Beside | None = None) -> int:
    """Run a node until SIGTERM or SIGINT and give the process's exit code.

    Args:
        beside: runs along, from before the node is ready; cancelled when the node fails.

    Raises PerdureError when the node cannot start or has to stop, and what `beside` raises.
    """
    configure_logging(options.logging)
    _refuse_bare_names()
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(options, beside))
    return 0


async def _run(options: NodeOptions, beside: Beside | None) -> None:
    server = NodeServer(options)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.request_stop if beside is None else stop.set)
    # What lives as long as the process need not be looked at by every collection.
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS_MAX, 20, 100)
    if beside is None:
        await server.run()
        return

    async def along() -> None:
        try:
            await beside(server, stop)
        finally:
            server.request_stop()

    async with TaskScope("node") as scope:
        scope.spawn(along(), name="beside")
        await server.run()


def _refuse_bare_names() -> None:
    """Our folders must never be imported under their bare names: each module would exist twice."""
    ours = Path(__file__).resolve().parent.parent
    for name in PARTS:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is not None and Path(file).resolve().is_relative_to(ours / name):
            raise PerdureError(
                f"{name!r} of Perdure was imported as a top-level module: start with the "
                "'perdure' command"
            )
