"""AttemptFailed: the attempt ended without an answer; wait for the next one, or give up."""

from ...log.types import Record
from ..context import ApplyContext
from ..lifecycle.fail import AttemptFailure, fail_attempt
from ..records import AttemptFailed


def apply_attempt_failed(context: ApplyContext, command: AttemptFailed, record: Record) -> None:
    """Back off, pause or fail, unless the attempt was over already."""
    invocation = context.transaction.invocation(command.invocation_id)
    if context.is_of_another(invocation, command.born_lsn):
        return
    if invocation is None or not context.is_current(invocation, command.attempt):
        context.assert_superseded_elsewhere(invocation, command.attempt, record)
        return
    failure = AttemptFailure(
        command.code,
        command.message,
        command.delay_ns,
        command.counts,
        command.pause,
        command.related_index,
        command.related_name,
        command.related_type,
        command.stacktrace,
    )
    fail_attempt(context, command.invocation_id, invocation, failure)
