"""The events table: what happened to an invocation's attempts, for people who look into it."""

from typing import Final

import msgspec

EVENTS_KEPT: Final = 32
"""So many of an invocation's last events are kept."""

FAILED: Final = "failed"
PAUSED: Final = "paused"


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One event.

    Attributes:
        kind: `FAILED` or `PAUSED`.
        time_ns: record time.
        entries: length of the journal then.
        related_index: command that it happened at, -1 when none was named.
        related_type: that command's frame type.
        retry_at_ns: when the next attempt was due, 0 when none was.
    """

    kind: str
    time_ns: int
    attempt: int
    entries: int
    code: int
    message: str
    related_index: int
    related_name: str
    related_type: int
    stacktrace: str
    retry_at_ns: int
    deployment: str | None


encode_event: Final = msgspec.msgpack.Encoder().encode
decode_event: Final = msgspec.msgpack.Decoder(Event).decode
