"""What the node inside of a test says goes to ``logging``, where test runners keep it in order."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog


@contextmanager
def node_logs_to_logging() -> Iterator[None]:
    """While inside, unless the program has set structlog up itself."""
    if structlog.is_configured():
        yield
        return
    structlog.configure(
        processors=[structlog.stdlib.add_log_level, _sentence],
        logger_factory=lambda *names: logging.getLogger(".".join(("perdure", *names))),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.reset_defaults()


def _sentence(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> tuple[tuple[str, ...], dict[str, object]]:
    facts = " ".join(
        f"{key}={value}" for key, value in event.items() if key not in ("event", "level")
    )
    return ("%s", f"{event.get('event')} {facts}".rstrip()), {}
