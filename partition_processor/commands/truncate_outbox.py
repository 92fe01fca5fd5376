"""TruncateOutbox: messages that their destination has taken need not be kept."""

from ...log.types import Record
from ..context import ApplyContext
from ..records import TruncateOutbox
from ..tables import keys


def apply_truncate_outbox(context: ApplyContext, command: TruncateOutbox, _record: Record) -> None:
    """Delete the messages up to the last one that was taken."""
    first = context.range.first
    start = keys.outbox_row(first, command.destination, 0)
    end = keys.outbox_row(first, command.destination, command.last + 1)
    for row, _ in context.transaction.scan(start, end):
        context.transaction.delete(row)
