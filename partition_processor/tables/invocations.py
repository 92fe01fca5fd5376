"""The invocations table: one row per invocation, from Invoke until it is purged."""

from typing import Final

import msgspec

from ...core.ids import InvocationId

STATUS_PENDING: Final = 0
"""Waits in an object's inbox."""
STATUS_RUNNING: Final = 1
"""Has an attempt, on a worker or waiting for one."""
STATUS_BACKING_OFF: Final = 2
"""Its last attempt failed; the next one starts at `retry_at_ns`."""
STATUS_COMPLETED: Final = 3
STATUS_SCHEDULED: Final = 4
"""Starts at `start_ns`."""
STATUS_SUSPENDED: Final = 5
"""Has no attempt until something that it waits for comes."""
STATUS_PAUSED: Final = 6
"""Has no attempt until somebody resumes it."""

STATUS_NAMES: Final = (
    "pending",
    "running",
    "backing-off",
    "completed",
    "scheduled",
    "suspended",
    "paused",
)


RETENTION_NS_BEFORE: Final = 24 * 3600 * 10**9
"""Of rows from before retention was recorded."""


class Failure(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A terminal failure, as the handler or the runtime gave it."""

    code: int
    message: str
    metadata: tuple[tuple[str, str], ...] = ()


class Sink(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An invocation that waits for the result of another.

    Attributes:
        completion_id: of the command that waits.
        frame_type: of the notification that the result becomes.
        born_lsn: of the invocation, whose id may have been another's before or be another's by
            then; 0 in what an earlier release wrote.
    """

    invocation_id: InvocationId
    completion_id: int
    frame_type: int
    born_lsn: int = 0


class Waiting(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a suspended invocation waits for: any one of these wakes it."""

    completions: tuple[int, ...]
    signals: tuple[int, ...]
    names: tuple[str, ...]


class Invocation(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is known of one invocation. The fields' order is the stored format.

    Attributes:
        attempt: number of the current or last attempt, from 1; 0 while pending.
        entries: journal length, commands and notifications, INPUT included.
        head: the first chunks, kept in the row while they are short together.
        rows: how many chunks are in the journal table; from the first one on, all later ones are.
        deployment: what the first stored entry pinned it to.
        failed_attempts: failures that the retry policy counted.
        failures_since_entry: failures since an entry was last stored.
        last_entry_ns: record time of the last stored entry.
        retry_at_ns: when the next attempt is due, 0 when none is.
        last_failure: text of the last failed attempt.
        output: the handler's value, kept from OUTPUT on.
        failure: instead of `output`.
        start_ns: when it was to start, 0 for at once.
        expires_ns: when the row is forgotten, 0 before completion.
        sinks: invocations that wait for the result.
        parent: the invocation that asked for this one, None for a front door.
        held: see `records.Invoke`.
        inbox_number: its place in the object's inbox while pending, -1 otherwise.
        issued: set of the completion ids that something outside of the handler completes.
        notified: set of the completion ids that have their completion.
        signals: indexes of the awakeables that have been completed, and indexes and names of the
            other signals that have come since the attempt began, which has read all before.
        waiting: what it waits for while suspended.
        timers: how many rows it has in the timers table.
        events: how many it ever had in the events table.
        restarted_from: the invocation that this one repeats.
        seed: what the handler's chance starts from; 0 takes the id.
        modified_ns: record time of the last change of status, for people.
        born_lsn: of the record that made it, which tells it from a forgotten one of the same id; 0
            in rows that an earlier release wrote.
        request_id: of the client's request that made it, see `records.Invoke`.
    """

    status: int
    service: str
    handler: str
    key: str | None
    target_kind: int
    attempt: int
    created_ns: int
    entries: int
    head: tuple[bytes, ...]
    rows: int = 0
    idempotency_key: str | None = None
    traceparent: str | None = None
    deployment: str | None = None
    failed_attempts: int = 0
    failures_since_entry: int = 0
    last_entry_ns: int = 0
    retry_at_ns: int = 0
    last_failure: str | None = None
    output: bytes | None = None
    failure: Failure | None = None
    completed_ns: int = 0
    start_ns: int = 0
    completion_retention_ns: int = RETENTION_NS_BEFORE
    journal_retention_ns: int = RETENTION_NS_BEFORE
    expires_ns: int = 0
    sinks: tuple[Sink, ...] = ()
    parent: InvocationId | None = None
    held: tuple[bytes, ...] = ()
    inbox_number: int = -1
    issued: bytes = b""
    notified: bytes = b""
    signals: tuple[int | str, ...] = ()
    waiting: Waiting | None = None
    timers: int = 0
    events: int = 0
    restarted_from: InvocationId | None = None
    seed: int = 0
    modified_ns: int = 0
    born_lsn: int = 0
    request_id: bytes | None = None


HEAD_BYTES_MAX: Final = 4096
"""First chunks up to this length together stay in the row, which saves the journal its puts."""

encode_invocation: Final = msgspec.msgpack.Encoder().encode
decode_invocation: Final = msgspec.msgpack.Decoder(Invocation).decode
