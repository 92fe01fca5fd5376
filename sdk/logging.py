"""Loggers that say nothing while a handler only repeats what it did before."""

import logging

from .extensions import current_context

__all__ = ["RestateLoggingFilter", "getLogger"]


def getLogger(name: str | None = None) -> logging.Logger:
    """The logger of that name with a `RestateLoggingFilter` on it."""
    logger = logging.getLogger(name)
    if not any(isinstance(each, RestateLoggingFilter) for each in logger.filters):
        logger.addFilter(RestateLoggingFilter())
    return logger


class RestateLoggingFilter(logging.Filter):
    """Drops what a handler logs while it is replayed; it was logged the first time."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is of its logger and is new."""
        if not super().filter(record):
            return False
        context = current_context()
        return context is None or not context._attempt.machine.replaying
