"""The trace: one line per event of a world, kept in memory and shown when a seed fails."""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import structlog

from .loop import SimulationLoop
from .processes import PROCESS

_LOGGERS: Final = ("perdure", "asyncio")


class Trace:
    """What happened, in order: virtual time, actor, event.

    Attributes:
        lines: all of them; each starts with the virtual time in milliseconds.
    """

    def __init__(self, loop: SimulationLoop) -> None:
        """Start empty; times are those of `loop`."""
        self.lines: list[str] = []
        self._loop = loop

    def add(self, actor: str, what: str) -> None:
        """Note an event."""
        self.lines.append(f"{self._loop.now_ns / 1e6:11.3f} {actor:<9} {what}")

    def digest(self, *more: bytes) -> str:
        """A hash over all lines and over what else must come out alike, such as stores."""
        hashed = hashlib.sha256("\n".join(self.lines).encode())
        for item in more:
            hashed.update(len(item).to_bytes(8, "big"))
            hashed.update(item)
        return hashed.hexdigest()

    def tail(self, count: int) -> list[str]:
        """The last `count` lines."""
        return self.lines[-count:]


class _IntoTrace(logging.Handler):
    """Takes what the SDK and asyncio log."""

    def __init__(self, trace: Trace) -> None:
        super().__init__(logging.INFO)
        self._trace = trace

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f" ({record.exc_info[1]!r})"
        self._trace.add("worker", f"{record.levelname.lower()}: {text}")


@contextmanager
def logs_in_trace(trace: Trace) -> Iterator[None]:
    """While inside, what the product logs goes into `trace` and nowhere else."""

    def take(_logger: Any, method: str, event: structlog.typing.EventDict) -> str:
        facts = " ".join(f"{key}={value}" for key, value in event.items() if key != "event")
        process = PROCESS.get()
        actor = "node" if process is None else process.name
        trace.add(actor, f"{method}: {event.get('event')} {facts}".rstrip())
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[take],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=False,
    )
    handler = _IntoTrace(trace)
    former = []
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        former.append((logger, logger.handlers[:], logger.level, logger.propagate))
        logger.handlers[:] = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False
    try:
        yield
    finally:
        structlog.configure(**before)
        for logger, handlers, level, propagate in former:
            logger.handlers[:] = handlers
            logger.setLevel(level)
            logger.propagate = propagate
