"""What can go wrong with a log."""

from ..core.errors import PerdureError, StorageCorruptError


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
