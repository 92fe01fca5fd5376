"""The log: records in batches, in order, durable before anybody may see them.

A partition's log is a chain of segments, each kept by a loglet; so far a chain has one segment and
one kind of loglet, ``local``. Imports ``core`` and ``metadata``.
"""

from .errors import LogClosedError, LogError, RecordTooLargeError
from .loglet import CommitListener, Loglet
from .types import Batch, Record, TailState

__all__ = [
    "Batch",
    "CommitListener",
    "LogClosedError",
    "LogError",
    "Loglet",
    "Record",
    "RecordTooLargeError",
    "TailState",
]
