"""What every metadata store checks alike: sizes of keys and values, and preconditions."""

from typing import assert_never

from ..core.errors import MessageTooLargeError
from .api import (
    KEY_BYTES_MAX,
    VALUE_BYTES_MAX,
    DoesNotExist,
    MatchesVersion,
    Precondition,
    PreconditionFailedError,
    Version,
)


def checked_key(key: str) -> bytes:
    """The key in UTF-8. Raises MessageTooLargeError."""
    assert key, "a metadata key is not empty"
    encoded = encoded_text(key)
    if len(encoded) > KEY_BYTES_MAX:
        raise MessageTooLargeError(
            f"metadata key {key[:32]!r}… has {len(encoded)} bytes, over the limit of "
            f"{KEY_BYTES_MAX}: use a shorter name"
        )
    return encoded


def encoded_text(text: str) -> bytes:
    """A key or its beginning in UTF-8; half a character (a lone surrogate) is a bug."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise AssertionError(f"a metadata key is text that UTF-8 can carry: {text!r}") from error


def check_value(key: str, value: bytes) -> None:
    """Raise MessageTooLargeError when the value is over the limit."""
    if len(value) > VALUE_BYTES_MAX:
        raise MessageTooLargeError(
            f"the value of metadata key {key!r} has {len(value)} bytes, over the limit of "
            f"{VALUE_BYTES_MAX}: keep data elsewhere and its place here"
        )


def check_precondition(key: str, precondition: Precondition, actual: Version | None) -> None:
    """Raise PreconditionFailedError unless `precondition` holds for the version that is there."""
    match precondition:
        case None:
            return
        case DoesNotExist():
            holds = actual is None
        case MatchesVersion(version):
            holds = actual == version
        case _:
            assert_never(precondition)
    if not holds:
        raise PreconditionFailedError(key, precondition, actual)
