"""What admin REST tells about partitions beyond their status; the command line reads it, too."""

import msgspec

from ...partition_processor.tables.skipped import Skip
from .log_answers import RecordView


class SkipAnswer(msgspec.Struct, frozen=True):
    """What was decided about a record, or would be.

    Attributes:
        skip: the decision; the first one stays where there were several.
        time: when it was made, ISO 8601.
        already: it had been decided before.
        dry_run: nothing was decided now.
        behind: how many records the log has behind it; None where the log did not tell.
        record: the record, without its place and time; None once the partition has gone on.
    """

    partition: int
    skip: Skip
    time: str
    already: bool
    dry_run: bool
    behind: int | None
    record: RecordView | None


class RefillAnswer(msgspec.Struct, frozen=True):
    """A copy that is to be filled anew.

    Attributes:
        node: whose copy it is.
        error: why it had stopped.
    """

    partition: int
    node: str
    error: str
