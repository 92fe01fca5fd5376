"""What a node writes about itself: structured log lines on stderr, one setup for every logger.

Our own code logs with ``structlog.get_logger()``: an event name and facts as keywords. Libraries
that log through the standard library come out in the same form. Needs the ``server`` extra.
"""

import logging
import sys
from typing import Final, TextIO

import structlog

from .sections import LoggingSection

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_LIBRARY_LEVEL_MIN: Final = logging.WARNING
"""Libraries speak to their own developers below this level; ``debug`` lets them."""


def configure_logging(options: LoggingSection, stream: TextIO | None = None) -> None:
    """Set up logging for the whole process; called once, before anything is logged.

    Args:
        options: level and form.
        stream: where lines go, stderr unless told.
    """
    target = sys.stderr if stream is None else stream
    level = _LEVELS[options.level]
    text = options.format == "text" or (options.format == "auto" and target.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    ending: list[structlog.typing.Processor]
    if text:
        ending = [structlog.dev.ConsoleRenderer(colors=target.isatty())]
    else:
        ending = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(sort_keys=False),
        ]
    structlog.configure(
        processors=[*shared, structlog.processors.StackInfoRenderer(), *ending],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(target),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level if level == logging.DEBUG else max(level, _LIBRARY_LEVEL_MIN))
