"""Purge: a completed invocation, or its journal, is forgotten before its time."""

from ...log.types import Record
from .. import outcomes
from ..context import ApplyContext
from ..lifecycle.complete import forget, forget_journal
from ..records import Purge
from ..tables import keys
from ..tables.invocations import STATUS_COMPLETED


def apply_purge(context: ApplyContext, command: Purge, record: Record) -> None:
    """Forget it now; the rows that would have had it forgotten later go as well."""
    invocation_id = command.invocation_id
    invocation = context.transaction.invocation(invocation_id)
    if invocation is None:
        outcome = outcomes.NOT_FOUND
    elif invocation.status != STATUS_COMPLETED:
        outcome = outcomes.NOT_COMPLETED
    else:
        transaction = context.transaction
        first = context.range.first
        journal_ns = invocation.completed_ns + invocation.journal_retention_ns
        if journal_ns < invocation.expires_ns:
            transaction.delete(keys.expiry_row(first, journal_ns, invocation_id))
        if command.journal_only:
            emptied = forget_journal(context, invocation_id, invocation)
            transaction.put_invocation(invocation_id, emptied)
        else:
            transaction.delete(keys.expiry_row(first, invocation.expires_ns, invocation_id))
            forget(context, invocation_id, invocation)
        outcome = outcomes.DONE
    context.done(record, outcome)
