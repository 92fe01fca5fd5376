"""PurgeExpired: what has been kept long enough is forgotten, a bounded number at a time."""

from ...log.types import Record
from ..context import ApplyContext
from ..lifecycle.complete import forget, forget_journal
from ..records import PurgeExpired
from ..tables import keys
from ..tables.invocations import STATUS_COMPLETED

PURGED_MAX = 512
"""No record purges more, whatever it says."""


def apply_purge_expired(context: ApplyContext, command: PurgeExpired, _record: Record) -> None:
    """Work off the expiry rows that are due, in their order."""
    transaction = context.transaction
    prefix = keys.EXPIRY + context.range.first
    start = prefix + keys.pack_number(max(0, command.from_ns))
    end = prefix + keys.pack_number(max(0, command.before_ns))
    count = max(0, min(command.count_max, PURGED_MAX))
    for row, _ in transaction.scan(start, end, count):
        transaction.delete(row)
        due_ns, invocation_id = keys.read_expiry_row(row)
        invocation = transaction.invocation(invocation_id)
        assert invocation is not None, "something forgotten is to be forgotten"
        assert invocation.status == STATUS_COMPLETED, "something that runs is to be forgotten"
        if due_ns >= invocation.expires_ns:
            forget(context, invocation_id, invocation)
        else:
            emptied = forget_journal(context, invocation_id, invocation)
            transaction.put_invocation(invocation_id, emptied)
