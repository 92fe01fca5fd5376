"""What apply asks for; only a leader carries it out.

Every effect but `Accepted` and `Answer` can be derived from the store again (`pending`), so a new
leader goes on where the old one stopped; those two speak to clients of this process only.
"""

import msgspec

from ..core.ids import InvocationId
from .tables.invocations import Invocation


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """An Invoke was applied: the record `sequence` of the leader `epoch`.

    `known` is the invocation that had the id already, None when it is new.
    """

    epoch: int
    sequence: int
    invocation_id: InvocationId
    known: Invocation | None


class StartAttempt(msgspec.Struct, frozen=True, gc=False):
    """Run the invocation's current attempt on a worker."""

    invocation_id: InvocationId
    invocation: Invocation


class Notify(msgspec.Struct, frozen=True, gc=False):
    """Send notifications to the running attempt."""

    invocation_id: InvocationId
    attempt: int
    record_time_ns: int
    frames: bytes


class EndAttempt(msgspec.Struct, frozen=True, gc=False):
    """The attempt is over; `abort` when the worker does not know it yet.

    `lsn` is the record's that took the attempt away.
    """

    invocation_id: InvocationId
    attempt: int
    abort: bool
    lsn: int


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The invocation has completed; whoever waits for it gets the result."""

    invocation_id: InvocationId
    invocation: Invocation


class ArmRetry(msgspec.Struct, frozen=True, gc=False):
    """Start the next attempt at this wall-clock time."""

    invocation_id: InvocationId
    attempt: int
    due_ns: int


class LeaderAnnounced(msgspec.Struct, frozen=True, gc=False):
    """An announcement was applied; the processor compares the epoch with its own."""

    epoch: int


Effect = Accepted | StartAttempt | Notify | EndAttempt | Answer | ArmRetry | LeaderAnnounced
