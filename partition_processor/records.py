"""The commands of a partition's log: everything that can change its state.

Each command is the body of one record, MessagePack array in field order; the record's ``kind``
says which. Numbers and fields are listed here once: numbers are never reused, new fields go to the
end with a default. What apply needs to know and may not ask (kinds, limits, delays) is inside.
"""

from typing import Final, TypeAlias

import msgspec

from ..core.hashing import key_hash
from ..core.ids import InvocationId

DELAY_NS_MAX: Final = 366 * 24 * 3600 * 10**9
"""No back-off is longer; apply cuts what is, so that no due time leaves 64 bits."""

KIND_SERVICE: Final = 0
KIND_OBJECT_EXCLUSIVE: Final = 1
KIND_OBJECT_SHARED: Final = 2


class Invoke(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A new invocation; known already if its id exists.

    Attributes:
        target_kind: one of the ``KIND_`` numbers; decides about key, lock and state.
        input_frames: the INPUT command as a frame, stored and handed to the code unchanged.
    """

    invocation_id: InvocationId
    service: str
    handler: str
    key: str | None
    target_kind: int
    input_frames: bytes
    idempotency_key: str | None = None


class AttemptChunk(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Frames that one attempt sent together, in order; ends the invocation when END is among them.

    Attributes:
        deployment: what the attempt runs on; the first chunk pins the invocation to it.
        frames: whole frames of commands, run completions and END.
    """

    invocation_id: InvocationId
    attempt: int
    deployment: str
    frames: bytes


class AttemptFailed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The attempt ended without an answer.

    Attributes:
        delay_ns: how long to wait before the next attempt, at most DELAY_NS_MAX; None ends the
            invocation with the error.
        counts: whether the policy counts it; failures of the runtime's own making do not.
    """

    invocation_id: InvocationId
    attempt: int
    code: int
    message: str
    delay_ns: int | None
    counts: bool


class AttemptStarted(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A waiting invocation gets its next attempt."""

    invocation_id: InvocationId
    attempt: int


class AnnounceLeader(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The record's epoch leads from here on; whatever a lower one still writes has no effect."""

    node: str
    generation: int


Command: TypeAlias = Invoke | AttemptChunk | AttemptFailed | AttemptStarted | AnnounceLeader

INVOKE: Final = 1
ATTEMPT_CHUNK: Final = 2
ATTEMPT_FAILED: Final = 3
ATTEMPT_STARTED: Final = 4
ANNOUNCE_LEADER: Final = 5

COMMAND_TYPES: Final[dict[int, type[Command]]] = {
    INVOKE: Invoke,
    ATTEMPT_CHUNK: AttemptChunk,
    ATTEMPT_FAILED: AttemptFailed,
    ATTEMPT_STARTED: AttemptStarted,
    ANNOUNCE_LEADER: AnnounceLeader,
}

KIND_NAMES: Final[dict[int, str]] = {
    INVOKE: "Invoke",
    ATTEMPT_CHUNK: "AttemptChunk",
    ATTEMPT_FAILED: "AttemptFailed",
    ATTEMPT_STARTED: "AttemptStarted",
    ANNOUNCE_LEADER: "AnnounceLeader",
}

encode_command: Final = msgspec.msgpack.Encoder().encode


def attempt_key(invocation_id: InvocationId) -> bytes:
    """The key that only records which give or take an attempt carry."""
    return key_hash(b"attempt", invocation_id)


def object_key(service: str, key: str) -> bytes:
    """The key of everything that touches one virtual object."""
    return key_hash(b"object", service.encode(), key.encode())
