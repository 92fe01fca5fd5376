"""Running a node as a process: event loop, signals, garbage collection, exit code."""

import asyncio
import gc
import signal
import sys
from pathlib import Path
from typing import Final

import structlog
import uvloop

from ..core.errors import PerdureError
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


def run_server(options: NodeOptions) -> int:
    """Run a node until SIGTERM or SIGINT and give the process's exit code.

    Raises PerdureError when the node cannot start or has to stop.
    """
    configure_logging(options.logging)
    _refuse_bare_names()
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(options))
    return 0


async def _run(options: NodeOptions) -> None:
    server = NodeServer(options)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.request_stop)
    # What lives as long as the process need not be looked at by every collection.
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS_MAX, 20, 100)
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
