"""The invocations table: one row per invocation, from Invoke until it is purged."""

from typing import Final

import msgspec

STATUS_PENDING: Final = 0
"""Waits in an object's inbox."""
STATUS_RUNNING: Final = 1
"""Has an attempt, on a worker or waiting for one."""
STATUS_BACKING_OFF: Final = 2
"""Its last attempt failed; the next one starts at `retry_at_ns`."""
STATUS_COMPLETED: Final = 3

STATUS_NAMES: Final = ("pending", "running", "backing-off", "completed")


class Failure(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A terminal failure, as the handler or the runtime gave it."""

    code: int
    message: str
    metadata: tuple[tuple[str, str], ...] = ()


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


HEAD_BYTES_MAX: Final = 4096
"""First chunks up to this length together stay in the row, which saves the journal its puts."""

encode_invocation: Final = msgspec.msgpack.Encoder().encode
decode_invocation: Final = msgspec.msgpack.Decoder(Invocation).decode
