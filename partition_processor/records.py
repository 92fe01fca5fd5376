"""The commands of a partition's log: everything that can change its state.

Each command is the body of one record, MessagePack array in field order; the record's ``kind``
says which. Numbers and fields are listed here once: numbers are never reused, new fields go to the
end with a default. What apply needs to know and may not ask (kinds, limits, delays) is inside.

Some commands also travel *inside* others: what one invocation asks of another is a command that
names its target first, applied in the same record where the target lives in the same partition,
and otherwise carried there by `Deliver`. `DELIVERED_KINDS` lists them.
"""

from typing import Final, TypeAlias

import msgspec

from ..core.hashing import key_hash
from ..core.ids import InvocationId
from .tables.invocations import RETENTION_NS_BEFORE, Failure, Sink

DELAY_NS_MAX: Final = 366 * 24 * 3600 * 10**9
"""No back-off is longer; apply cuts what is, so that no due time leaves 64 bits."""

KIND_SERVICE: Final = 0
KIND_OBJECT_EXCLUSIVE: Final = 1
KIND_OBJECT_SHARED: Final = 2
KIND_WORKFLOW_RUN: Final = 3
KIND_WORKFLOW_SHARED: Final = 4


class Invoke(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A new invocation; known already if its id exists.

    Attributes:
        target_kind: one of the ``KIND_`` numbers; decides about key, lock and state.
        input_frames: the INPUT command as a frame, stored and handed to the code unchanged.
        start_ns: when it is to start; 0 is at once.
        completion_retention_ns: how long its result stays known after completion.
        journal_retention_ns: how long its journal does; never longer than the result.
        sink: the invocation that waits for the result, None when none does.
        parent: the invocation that asked for this one, None for a front door.
        held: objects, as `object_key` names them, whose locks the callers that wait for the result
            hold: a call of one of them can never start.
        expires_ns: applied later than this, by record time, it is refused; 0 never. An id that
            chance made may have been forgotten by then, and must not run twice.
        traceparent: of a called invocation; those of front doors have it in the record.
        request_id: of one client's request that its node may send again after a leader was lost,
            8 bytes; what it finds then under the same request id is its own. None tells nothing.
    """

    invocation_id: InvocationId
    service: str
    handler: str
    key: str | None
    target_kind: int
    input_frames: bytes
    idempotency_key: str | None = None
    start_ns: int = 0
    completion_retention_ns: int = RETENTION_NS_BEFORE
    journal_retention_ns: int = RETENTION_NS_BEFORE
    sink: Sink | None = None
    parent: InvocationId | None = None
    held: tuple[bytes, ...] = ()
    expires_ns: int = 0
    traceparent: str | None = None
    request_id: bytes | None = None


class CallTarget(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the appender found out about one CALL or ONE_WAY_CALL command of a chunk."""

    invocation_id: InvocationId
    target_kind: int
    completion_retention_ns: int
    journal_retention_ns: int


class AttemptChunk(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Frames that one attempt sent together, in order; END or SUSPENSION ends the attempt.

    Attributes:
        deployment: what the attempt runs on; the first chunk pins the invocation to it.
        frames: whole frames of commands, run completions, and END or SUSPENSION.
        calls: one for each CALL and ONE_WAY_CALL among the frames, in order.
        born_lsn: of the invocation; with another one of the same id it has nothing to do.
    """

    invocation_id: InvocationId
    attempt: int
    deployment: str
    frames: bytes
    calls: tuple[CallTarget, ...] = ()
    born_lsn: int = 0


class AttemptFailed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The attempt ended without an answer.

    Attributes:
        delay_ns: how long to wait before the next attempt, at most DELAY_NS_MAX; None ends the
            invocation with the error, or pauses it.
        counts: whether the policy counts it; failures of the runtime's own making do not.
        pause: instead of ending the invocation, wait for somebody to resume it.
        related_index: command that it happened at, -1 when none is named.
        related_type: that command's frame type.
        born_lsn: as in `AttemptChunk`.
    """

    invocation_id: InvocationId
    attempt: int
    code: int
    message: str
    delay_ns: int | None
    counts: bool
    pause: bool = False
    related_index: int = -1
    related_name: str = ""
    related_type: int = 0
    stacktrace: str = ""
    born_lsn: int = 0


class AttemptStarted(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A waiting invocation gets its next attempt."""

    invocation_id: InvocationId
    attempt: int


class AnnounceLeader(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The record's epoch leads from here on; whatever a lower one still writes has no effect.

    Attributes:
        skipped: the LSNs that this leader has skipped; a replica that has applied one stops here.
        lsn: how far the leader has applied the log.
        digest: of the leader at that LSN; empty when an older release has written this.
    """

    node: str
    generation: int
    skipped: tuple[int, ...] = ()
    lsn: int = 0
    digest: bytes = b""


class Timer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One timer, as the timers table names it.

    Attributes:
        number: completion id of the SLEEP; 0 is the invocation's own start.
    """

    due_ns: int
    invocation_id: InvocationId
    number: int


class TimersFired(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The time of these has come; those that do not exist any more are skipped."""

    timers: tuple[Timer, ...]


class Signal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A signal for an invocation: a cancellation, an awakeable's completion or a named one.

    Attributes:
        index: `messages.SIGNAL_CANCEL` or an awakeable's; 0 when it has a name.
        value: its value, None for none.
        failure: instead of a value.
    """

    invocation_id: InvocationId
    index: int
    name: str
    value: bytes | None
    failure: Failure | None


class Respond(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A completion for a command of another invocation.

    Attributes:
        frame_type: of the notification that it becomes.
        value: with `failure` None too, the result is void.
        born_lsn: of the invocation that asked; one that has its id now did not ask. 0 is whichever.
    """

    invocation_id: InvocationId
    completion_id: int
    frame_type: int
    value: bytes | None
    failure: Failure | None
    born_lsn: int = 0


def respond_to(sink: Sink, value: bytes | None, failure: Failure | None) -> Respond:
    """What a waiting invocation is told."""
    return Respond(
        sink.invocation_id, sink.completion_id, sink.frame_type, value, failure, sink.born_lsn
    )


class Attach(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Another invocation wants this one's result.

    Attributes:
        wait: until there is one; otherwise the answer comes at once, void when there is none yet.
    """

    invocation_id: InvocationId
    sink: Sink
    wait: bool


class Kill(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """End the invocation at once, and those that it called."""

    invocation_id: InvocationId


class Pause(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Take the attempt away and start none until the invocation is resumed."""

    invocation_id: InvocationId


class Resume(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Go on with a paused invocation, or at once with one that backs off or is suspended.

    Attributes:
        deployment: pin the invocation to this one; None keeps what it has.
    """

    invocation_id: InvocationId
    deployment: str | None = None


class Purge(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Forget a completed invocation, or only its journal."""

    invocation_id: InvocationId
    journal_only: bool = False


class Restart(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Run a completed invocation again under a new id of the same partition key.

    Attributes:
        entries: so many journal entries of the old one are kept, the Input included, and with them
            the completions of the commands among them.
        deployment: pin the new one to this; None lets it start where new invocations do.
    """

    invocation_id: InvocationId
    new_id: InvocationId
    entries: int
    deployment: str | None
    completion_retention_ns: int
    journal_retention_ns: int


class PatchState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Change an object's state from outside, in its turn among the object's invocations.

    Attributes:
        partition_key: where the object lives, 8 bytes.
        changes: key and new value; None clears.
        replace: whether everything that is not in `changes` is cleared.
        expected: `state_version` that the state must have when the turn comes, None for any.
    """

    partition_key: bytes
    service: str
    key: str
    changes: tuple[tuple[bytes, bytes | None], ...]
    replace: bool
    expected: bytes | None


class PurgeExpired(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Forget what has been kept long enough.

    Attributes:
        before_ns: everything that expires earlier.
        count_max: so many at most; more take another record.
        from_ns: nothing that is due before this is left, so the search starts here.
    """

    before_ns: int
    count_max: int
    from_ns: int = 0


class Deliver(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What another partition's outbox holds for this one, in its order.

    Attributes:
        source: number of that partition.
        first: number of the first message; the numbers of one source have no gaps.
        messages: (kind, body) of commands, see `DELIVERED_KINDS`.
    """

    source: int
    first: int
    messages: tuple[tuple[int, bytes], ...]


class TruncateOutbox(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The destination has taken everything up to the message `last`."""

    destination: int
    last: int


class CompareDigest(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The leader's digest at an LSN; a replica that had another one stops here."""

    lsn: int
    digest: bytes


class Once(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An operation that its node may send again after a leader was lost; applied once.

    Attributes:
        operation_id: 16 bytes: wall clock of the node that took it in ns, u64 big-endian, then 8
            of chance.
        kind: of the operation's command, one of `OPERATION_KINDS`.
        body: that command.
    """

    operation_id: bytes
    kind: int
    body: bytes


Command: TypeAlias = (
    Invoke
    | AttemptChunk
    | AttemptFailed
    | AttemptStarted
    | AnnounceLeader
    | TimersFired
    | Signal
    | Respond
    | Attach
    | Kill
    | Pause
    | Resume
    | Purge
    | Restart
    | PatchState
    | PurgeExpired
    | Deliver
    | TruncateOutbox
    | Once
    | CompareDigest
)

DeliveredCommand: TypeAlias = Invoke | Signal | Respond | Attach | Kill

INVOKE: Final = 1
ATTEMPT_CHUNK: Final = 2
ATTEMPT_FAILED: Final = 3
ATTEMPT_STARTED: Final = 4
ANNOUNCE_LEADER: Final = 5
TIMERS_FIRED: Final = 6
SIGNAL: Final = 7
RESPOND: Final = 8
ATTACH: Final = 9
KILL: Final = 10
PAUSE: Final = 11
RESUME: Final = 12
PURGE: Final = 13
RESTART: Final = 14
PATCH_STATE: Final = 15
PURGE_EXPIRED: Final = 16
DELIVER: Final = 17
TRUNCATE_OUTBOX: Final = 18
ONCE: Final = 19
COMPARE_DIGEST: Final = 20

COMMAND_TYPES: Final[dict[int, type[Command]]] = {
    INVOKE: Invoke,
    ATTEMPT_CHUNK: AttemptChunk,
    ATTEMPT_FAILED: AttemptFailed,
    ATTEMPT_STARTED: AttemptStarted,
    ANNOUNCE_LEADER: AnnounceLeader,
    TIMERS_FIRED: TimersFired,
    SIGNAL: Signal,
    RESPOND: Respond,
    ATTACH: Attach,
    KILL: Kill,
    PAUSE: Pause,
    RESUME: Resume,
    PURGE: Purge,
    RESTART: Restart,
    PATCH_STATE: PatchState,
    PURGE_EXPIRED: PurgeExpired,
    DELIVER: Deliver,
    TRUNCATE_OUTBOX: TruncateOutbox,
    ONCE: Once,
    COMPARE_DIGEST: CompareDigest,
}

KIND_NAMES: Final[dict[int, str]] = {kind: type_.__name__ for kind, type_ in COMMAND_TYPES.items()}
KINDS: Final[dict[type[Command], int]] = {type_: kind for kind, type_ in COMMAND_TYPES.items()}

DELIVERED_KINDS: Final = frozenset((INVOKE, SIGNAL, RESPOND, ATTACH, KILL))
"""The commands that one invocation may have for another; each starts with its target's id."""

OPERATION_KINDS: Final = frozenset((SIGNAL, KILL, PAUSE, RESUME, PURGE, RESTART, PATCH_STATE))
"""The commands that somebody outside may have applied `Once`."""

encode_command: Final = msgspec.msgpack.Encoder().encode


def attempt_key(invocation_id: InvocationId) -> bytes:
    """The key that only records which give or take an attempt carry."""
    return key_hash(b"attempt", invocation_id)


def object_key(service: str, key: str) -> bytes:
    """The key of everything that touches one virtual object."""
    return key_hash(b"object", service.encode(), key.encode())
