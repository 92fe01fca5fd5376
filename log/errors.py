"""What can go wrong with a log."""

from ..core.errors import PerdureError, StorageCorruptError, StorageError


class LogError(PerdureError):
    """A log could not do what was asked."""

    code = "PD0801"


class LogClosedError(LogError):
    """The log was closed, or a write to its disk failed: nothing more is taken or acknowledged."""

    code = "PD0802"


class RecordTooLargeError(LogError):
    """One record is over the limit."""

    code = "PD0803"


class CorruptBatchError(StorageCorruptError):
    """A stored batch does not match its checksum.

    Attributes:
        loglet: which loglet.
        last_offset: the batch's place, the offset of its last record.
    """

    code = "PD0804"

    def __init__(self, loglet: int, last_offset: int, reason: str) -> None:
        """Name the place and what does not fit."""
        super().__init__(
            f"loglet {loglet}, batch that ends at offset {last_offset}: {reason}. The bytes on "
            "disk changed after they were written; restore this node from a backup or a replica"
        )
        self.loglet = loglet
        self.last_offset = last_offset


class LogletSealedError(LogError):
    """The loglet takes no more records, for ever; nothing was written.

    Attributes:
        loglet: which one.
    """

    code = "PD0805"

    def __init__(self, loglet: int) -> None:
        """Name the loglet."""
        super().__init__(f"loglet {loglet} is sealed: append to the log's next segment")
        self.loglet = loglet


class TrimmedError(LogError):
    """What was to be read has been trimmed.

    Attributes:
        position: the offset or LSN that was asked for.
        trim_point: the last position that is gone.
    """

    code = "PD0806"

    def __init__(self, position: int, trim_point: int) -> None:
        """Name both positions."""
        super().__init__(
            f"position {position} has been trimmed, as everything up to {trim_point} has: read "
            f"from {trim_point + 1} on"
        )
        self.position = position
        self.trim_point = trim_point


class FuturePositionError(LogError):
    """A position lies beyond the tail: nothing can have been read up to there.

    Attributes:
        position: what was given.
        tail: the first position not written.
    """

    code = "PD0807"

    def __init__(self, position: int, tail: int) -> None:
        """Name the position and the tail."""
        super().__init__(
            f"position {position} is not written yet, the log ends before {tail}: give the last "
            "position that was read"
        )
        self.position = position
        self.tail = tail


class UnguardedConditionError(LogError):
    """No key that is conditioned on is written, and no producer numbers the append.

    A copy of such an append that arrives twice would be admitted twice.
    """

    code = "PD0808"

    def __init__(self) -> None:
        """Name the two ways out."""
        super().__init__(
            "the append writes none of the keys that its conditions name: let one of its records "
            "carry such a key, or give the append a producer"
        )


class MalformedAppendError(LogError):
    """An append does not keep to the limits of keys, records or numbers."""

    code = "PD0809"


class BatchTooLargeError(LogError):
    """The records of one append are together over the limit of a batch."""

    code = "PD0810"


class UnknownSegmentError(LogError):
    """The chain has no such segment, or the segment is not its last one.

    Attributes:
        log: which log.
        segment: the index that was asked for.
    """

    code = "PD0811"

    def __init__(self, log: int, segment: int, there: str) -> None:
        """Name log, segment and what is there instead."""
        super().__init__(f"log {log} has no segment {segment} to do this with: {there}")
        self.log = log
        self.segment = segment


class StaleEpochError(LogError):
    """A segment with a higher leader epoch is in the chain: somebody else has the lead.

    Attributes:
        log: which log.
        epoch: the one that was tried.
        current: the one in the chain.
    """

    code = "PD0812"

    def __init__(self, log: int, epoch: int, current: int) -> None:
        """Name the epochs."""
        super().__init__(
            f"log {log} is led under epoch {current}, so epoch {epoch} may not extend it: take a "
            "newer epoch or leave it to the leader"
        )
        self.log = log
        self.epoch = epoch
        self.current = current


class UnknownLogError(LogError):
    """There is no log of this number."""

    code = "PD0813"


class UnknownProviderError(LogError):
    """No provider of this kind is here."""

    code = "PD0814"


class CorruptChainError(StorageCorruptError):
    """The stored chain of a log does not make sense."""

    code = "PD0815"


class NotSequencerError(LogError):
    """Appends to this log are ordered elsewhere."""

    code = "PD0817"
    retryable = True


class ChainFullError(LogError):
    """The chain has as many segments as it may."""

    code = "PD0818"

    def __init__(self, log: int, segments: int) -> None:
        """Name the log and how many segments it has."""
        super().__init__(
            f"log {log} has {segments} segments, as many as it may: trim it, and its old segments "
            "go"
        )


class LogletLostError(LogError):
    """A segment's records are gone: its loglet lived in the memory of a process that has ended."""

    code = "PD0819"


class ReconfigurationError(LogError):
    """The chain could not be changed because others kept changing it."""

    code = "PD0820"
    retryable = True


class LogUnavailableError(LogError):
    """Too few of a segment's log-servers answer, or none has what is asked for."""

    code = "PD0821"
    retryable = True


class ForeignStorageError(StorageError):
    """The directory belongs to another node or another cluster."""

    code = "PD0822"


class SequencerUnreachableError(NotSequencerError):
    """The node that orders the appends could not be reached in time; nothing was written."""

    code = "PD0823"


class RefusedElsewhereError(LogError):
    """The node that orders the appends could not take one; nothing was written.

    Attributes:
        cause_code: the code of the error there.
    """

    code = "PD0824"
    retryable = True

    def __init__(self, node: str, cause_code: str, message: str) -> None:
        """Name the node and what it says."""
        super().__init__(f"node {node} did not take the append ({cause_code}): {message}")
        self.cause_code = cause_code


class UnfitSequencerError(LogError):
    """The node that is to order a log's next segment cannot do that, or not now."""

    code = "PD0827"
    retryable = True
