"""Resume: a paused invocation goes on; one that waits tries again at once."""

import msgspec

from ...log.types import Record
from .. import outcomes
from ..context import ApplyContext
from ..lifecycle.start import start_attempt
from ..records import Resume
from ..tables.invocations import (
    STATUS_BACKING_OFF,
    STATUS_COMPLETED,
    STATUS_PAUSED,
    STATUS_SUSPENDED,
)

_WITHOUT_ATTEMPT = (STATUS_PAUSED, STATUS_BACKING_OFF, STATUS_SUSPENDED)


def apply_resume(context: ApplyContext, command: Resume, record: Record) -> None:
    """Start the next attempt of what has none; another deployment only where entries pin one."""
    invocation = context.transaction.invocation(command.invocation_id)
    if invocation is None:
        outcome = outcomes.NOT_FOUND
    elif invocation.status == STATUS_COMPLETED:
        outcome = outcomes.COMPLETED
    elif invocation.status not in _WITHOUT_ATTEMPT:
        outcome = outcomes.UNCHANGED
    else:
        if command.deployment is not None and invocation.deployment is not None:
            invocation = msgspec.structs.replace(invocation, deployment=command.deployment)
        resumed = msgspec.structs.replace(invocation, failed_attempts=0)
        start_attempt(context, command.invocation_id, resumed)
        outcome = outcomes.DONE
    context.done(record, outcome)
