"""Identifiers: their types, text forms and how they are derived.

Ids are raw bytes inside and on the worker session; the text forms exist at the edges only. They
follow the public protocol bit for bit, so that other clients can compute them: base62 of the bytes
read as a little-endian integer, fixed width, no checksum.
"""

import base64
import hashlib
from functools import lru_cache
from typing import Final, NewType

from .errors import PerdureError
from .random import Random

NodeName = NewType("NodeName", str)
PartitionId = NewType("PartitionId", int)
PartitionKey = NewType("PartitionKey", int)
LogId = NewType("LogId", int)
LogletId = NewType("LogletId", int)
Lsn = NewType("Lsn", int)
LeaderEpoch = NewType("LeaderEpoch", int)
InvocationId = NewType("InvocationId", bytes)
"""24 raw bytes: the partition key, u64 big-endian, then 16 bytes that make it unique."""

INVOCATION_ID_BYTES: Final = 24
_INVOCATION_PREFIX: Final = "inv_1"
_AWAKEABLE_PREFIX: Final = "sign_1"
_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS: Final = {digit: value for value, digit in enumerate(_ALPHABET)}
# Two digits at a time: every answer at the front doors carries an id.
_PAIRS: Final = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_PAIR_BASE: Final = len(_PAIRS)
_FOUR_DIGITS: Final = _PAIR_BASE**2
_PARTITION_KEY_CHARS: Final = 11
_UUID_CHARS: Final = 22


class MalformedIdError(PerdureError):
    """A text is not an id of the kind that was asked for."""

    code = "PD0401"


def base62(raw: bytes, width: int) -> str:
    """`raw`, read little-endian, as `width` base62 digits, most significant first."""
    number = int.from_bytes(raw, "little")
    pairs: list[str] = []
    while number:
        number, rest = divmod(number, _PAIR_BASE)
        pairs.append(_PAIRS[rest])
    text = "".join(reversed(pairs))
    # An odd number of digits came out with a zero in front.
    return text.rjust(width, "0") if len(text) <= width else text[-width:]


def _unique_text(raw: bytes) -> str:
    """`base62` of 16 bytes in 22 digits. Every answer at the front doors carries one."""
    number = int.from_bytes(raw, "little")
    # Four digits at a time, so that all but few divisions are of the shortest integers.
    number, a = divmod(number, _FOUR_DIGITS)
    number, b = divmod(number, _FOUR_DIGITS)
    number, c = divmod(number, _FOUR_DIGITS)
    number, d = divmod(number, _FOUR_DIGITS)
    f, e = divmod(number, _FOUR_DIGITS)
    pairs, base = _PAIRS, _PAIR_BASE
    return (
        f"{pairs[f]}{pairs[e // base]}{pairs[e % base]}{pairs[d // base]}{pairs[d % base]}"
        f"{pairs[c // base]}{pairs[c % base]}{pairs[b // base]}{pairs[b % base]}"
        f"{pairs[a // base]}{pairs[a % base]}"
    )


def _unbase62(text: str, size: int) -> bytes:
    number = 0
    for digit in text:
        number = number * 62 + _DIGITS[digit]
    return number.to_bytes(size, "little")


def invocation_id_text(invocation_id: InvocationId) -> str:
    """The text form, ``inv_1`` and 33 base62 digits."""
    return _id_start_text(invocation_id[:8]) + _unique_text(invocation_id[8:])


@lru_cache(maxsize=4096)
def _id_start_text(partition_key: bytes) -> str:
    """The part of an id's text that all ids of one partition key share."""
    return _INVOCATION_PREFIX + base62(partition_key, _PARTITION_KEY_CHARS)


def parse_invocation_id(text: str) -> InvocationId:
    """The raw id of a text form. Raises MalformedIdError."""
    digits = text[len(_INVOCATION_PREFIX) :]
    if not text.startswith(_INVOCATION_PREFIX) or len(digits) != _PARTITION_KEY_CHARS + _UUID_CHARS:
        raise MalformedIdError(
            f"{text[:64]!r} is not an invocation id: it starts with {_INVOCATION_PREFIX} and has "
            f"{_PARTITION_KEY_CHARS + _UUID_CHARS} base62 digits after that"
        )
    try:
        return InvocationId(
            _unbase62(digits[:_PARTITION_KEY_CHARS], 8)
            + _unbase62(digits[_PARTITION_KEY_CHARS:], 16)
        )
    except (KeyError, OverflowError):
        raise MalformedIdError(
            f"{text[:64]!r} is not an invocation id: a digit is not base62 or the number is too "
            "large"
        ) from None


def partition_key_of(invocation_id: InvocationId) -> PartitionKey:
    """The key that decides which partition an invocation lives in."""
    return PartitionKey(int.from_bytes(invocation_id[:8], "big"))


def partition_of(partition_key: PartitionKey, partition_count: int) -> PartitionId:
    """The partition of a key: equal, contiguous ranges of the 64-bit key space."""
    return PartitionId(partition_key * partition_count >> 64)


def awakeable_id_text(invocation_id: InvocationId, signal_index: int) -> str:
    """The text form of the awakeable that signal `signal_index` of an invocation completes."""
    raw = invocation_id + signal_index.to_bytes(4, "big")
    return _AWAKEABLE_PREFIX + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def parse_awakeable_id(text: str) -> tuple[InvocationId, int]:
    """Invocation and signal index of an awakeable's text form. Raises MalformedIdError."""
    payload = text[len(_AWAKEABLE_PREFIX) :]
    try:
        raw = base64.b64decode(payload + "=" * (-len(payload) % 4), altchars=b"-_", validate=True)
    except (ValueError, UnicodeEncodeError):
        raw = b""
    if not text.startswith(_AWAKEABLE_PREFIX) or len(raw) != INVOCATION_ID_BYTES + 4:
        raise MalformedIdError(
            f"{text[:64]!r} is not an awakeable's id: it is what ctx.awakeable() gave, and starts "
            f"with {_AWAKEABLE_PREFIX}"
        )
    return InvocationId(raw[:INVOCATION_ID_BYTES]), int.from_bytes(raw[INVOCATION_ID_BYTES:], "big")


def workflow_part(workflow: str, key: str) -> bytes:
    """16 bytes that the run of a workflow under a key always has."""
    return hashlib.sha256(f"wf,{workflow},{key}".encode()).digest()[:16]


def unique_part(clock_time_ns: int, random: Random) -> bytes:
    """16 bytes that nobody else draws, ordered by time: 48 bits of milliseconds, 80 of chance."""
    milliseconds = clock_time_ns // 1_000_000 & 0xFFFFFFFFFFFF
    return (milliseconds << 80 | random.bits(80)).to_bytes(16, "big")


def minted_ns(invocation_id: InvocationId) -> int:
    """When an id from `unique_part` was drawn, in ns since 1970, rounded down to milliseconds."""
    return int.from_bytes(invocation_id[8:14], "big") * 1_000_000


def idempotent_part(service: str, key: str | None, handler: str, idempotency_key: str) -> bytes:
    """16 bytes that the same idempotency key on the same target always gives."""
    middle = f"{handler}" if key is None else f"{key},{handler}"
    return hashlib.sha256(f"ik,{service},{middle},{idempotency_key}".encode()).digest()[:16]
