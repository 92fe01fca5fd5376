"""The log: records in batches, in order, durable before anybody may see them.

A log is a chain of segments; each is kept by a loglet of some provider: ``local`` (this node's
disk) or ``memory``. Appends may carry conditions on keys, which the segment's sequencer decides.
Imports ``core`` and ``metadata``; `docs/log.md` shows how to use it by itself.
"""

from .answers import (
    Answer,
    Committed,
    Conflict,
    Duplicate,
    Fence,
    Fenced,
    Indeterminate,
    NotChangedSince,
    OutOfOrder,
    Overloaded,
    Producer,
    Refusal,
    Sealed,
    StaleSnapshot,
    WrongSegment,
)
from .appender import Appender, AppenderOptions
from .chain import Chain, Segment, SegmentParams
from .errors import (
    BatchTooLargeError,
    CorruptBatchError,
    CorruptChainError,
    FuturePositionError,
    LogClosedError,
    LogError,
    MalformedAppendError,
    NotSequencerError,
    RecordTooLargeError,
    StaleEpochError,
    TrimmedError,
    UnguardedConditionError,
    UnknownLogError,
    UnknownProviderError,
    UnknownSegmentError,
)
from .loglet import CommitListener, Loglet, LogletProvider
from .logs import Logs
from .producers import ProducerFilter
from .reader import FilteredGap, LogEntry, LogReader, ReadItem, TrimGap
from .standalone import open_logs
from .types import Batch, LogBatch, LogTail, Record, TailState
from .virtual_log import VirtualLog

__all__ = [
    "Answer",
    "Appender",
    "AppenderOptions",
    "Batch",
    "BatchTooLargeError",
    "Chain",
    "CommitListener",
    "Committed",
    "Conflict",
    "CorruptBatchError",
    "CorruptChainError",
    "Duplicate",
    "Fence",
    "Fenced",
    "FilteredGap",
    "FuturePositionError",
    "Indeterminate",
    "LogBatch",
    "LogClosedError",
    "LogEntry",
    "LogError",
    "LogReader",
    "LogTail",
    "Loglet",
    "LogletProvider",
    "Logs",
    "MalformedAppendError",
    "NotChangedSince",
    "NotSequencerError",
    "OutOfOrder",
    "Overloaded",
    "Producer",
    "ProducerFilter",
    "ReadItem",
    "Record",
    "RecordTooLargeError",
    "Refusal",
    "Sealed",
    "Segment",
    "SegmentParams",
    "StaleEpochError",
    "StaleSnapshot",
    "TailState",
    "TrimGap",
    "TrimmedError",
    "UnguardedConditionError",
    "UnknownLogError",
    "UnknownProviderError",
    "UnknownSegmentError",
    "VirtualLog",
    "WrongSegment",
    "open_logs",
]
