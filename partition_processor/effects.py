"""What apply asks for; only a leader carries it out.

Every effect but `Accepted`, `Done` and `Answer` can be derived from the store again (`pending`),
so a new leader goes on where the old one stopped; those three, and `StateChanged`, speak to
clients of this process only, and `Delivered` and `LeaderAnnounced` tell what was applied.
"""

import msgspec

from ..core.ids import InvocationId
from .tables.invocations import Invocation


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """An Invoke was applied: the record `sequence` of the leader `epoch`.

    Attributes:
        known: the invocation that had the id already, None when it is new.
        expired: it came too late, and nothing was started.
    """

    epoch: int
    sequence: int
    invocation_id: InvocationId
    known: Invocation | None
    expired: bool = False


class Done(msgspec.Struct, frozen=True, gc=False):
    """An operation on an invocation or object was applied; `outcome` is one of `outcomes`.

    Attributes:
        queued_as: the inbox row of a change that waits for its turn; `StateChanged` follows.
    """

    epoch: int
    sequence: int
    outcome: str
    queued_as: bytes = b""


class StateChanged(msgspec.Struct, frozen=True, gc=False):
    """A change of state that waited in an inbox, in this row, has had its turn."""

    row: bytes
    outcome: str


class StartAttempt(msgspec.Struct, frozen=True, gc=False):
    """Run the invocation's current attempt on a worker."""

    invocation_id: InvocationId
    invocation: Invocation


class Notify(msgspec.Struct, frozen=True, gc=False):
    """Send notifications to the running attempt.

    `entries` is the journal's length with them: an attempt that was opened with as many has them.
    """

    invocation_id: InvocationId
    attempt: int
    record_time_ns: int
    frames: bytes
    entries: int


class EndAttempt(msgspec.Struct, frozen=True, gc=False):
    """The attempt is over; `abort` when the worker does not know it yet.

    `lsn` is the record's that took the attempt away.
    """

    invocation_id: InvocationId
    attempt: int
    abort: bool
    lsn: int


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The invocation has completed; whoever waits for it gets the result.

    Attributes:
        stored: it had completed before the result was asked for.
    """

    invocation_id: InvocationId
    invocation: Invocation
    stored: bool = False


class ArmRetry(msgspec.Struct, frozen=True, gc=False):
    """Start the next attempt at this wall-clock time."""

    invocation_id: InvocationId
    attempt: int
    due_ns: int


class ArmTimer(msgspec.Struct, frozen=True, gc=False):
    """Fire a row of the timers table at its time."""

    due_ns: int
    invocation_id: InvocationId
    number: int


class Ship(msgspec.Struct, frozen=True, gc=False):
    """Carry a message of the outbox to another partition: a command's kind and body."""

    destination: int
    number: int
    kind: int
    body: bytes


class Delivered(msgspec.Struct, frozen=True, gc=False):
    """Everything of a source up to the message `last` is applied: it need not be kept there.

    Attributes:
        gap: what came begins later than the message after that, and must come again.
    """

    source: int
    last: int
    gap: bool = False


class LeaderAnnounced(msgspec.Struct, frozen=True, gc=False):
    """An announcement was applied; the processor compares the epoch with its own."""

    epoch: int


class DigestMarked(msgspec.Struct, frozen=True, gc=False):
    """The partition's digest at an LSN that every replica keeps in mind for a while."""

    lsn: int
    digest: bytes


Effect = (
    Accepted
    | Done
    | StateChanged
    | StartAttempt
    | Notify
    | EndAttempt
    | Answer
    | ArmRetry
    | ArmTimer
    | Ship
    | Delivered
    | LeaderAnnounced
    | DigestMarked
)
