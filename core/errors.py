"""The root of the error tree: what every expected failure of Perdure carries.

Two kinds of failure exist. An *expected* one is a subclass of `PerdureError`: it has a stable code
that ``docs/errors.md`` explains, says in one sentence what happened and how to mend it, and tells
whether trying again can help. A *bug* is an AssertionError and is never caught by name.
"""

from typing import ClassVar


class PerdureError(Exception):
    """An expected failure.

    Attributes:
        code: stable identifier, listed in ``docs/errors.md``; never reused for another meaning.
        retryable: whether the same request may succeed later without anybody changing anything.
    """

    code: ClassVar[str] = "PD0000"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str) -> None:
        """Take the sentence that a user reads: what happened, where, and how to mend it."""
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        """Give the sentence without the code; front ends print the code beside it."""
        return self.message


class StorageError(PerdureError):
    """The disk refused a write, a sync or a read; what is not acknowledged yet never will be."""

    code = "PD0101"


class StorageCorruptError(StorageError):
    """Stored bytes do not match their checksum or cannot be decoded."""

    code = "PD0102"


class StorageFormatError(StorageError):
    """The stored format is newer than this program knows."""

    code = "PD0103"


class StorageLockedError(StorageError):
    """Another process, or another store of this one, has the directory open."""

    code = "PD0104"


class TransportError(PerdureError):
    """A connection could not be made or was lost; whether the last messages arrived is unknown."""

    code = "PD0201"
    retryable = True


class MessageTooLargeError(PerdureError):
    """A message, body or entry is over its limit."""

    code = "PD0202"


class AddressInUseError(PerdureError):
    """A listener could not bind because another process has the port."""

    code = "PD0203"


class MalformedMessageError(PerdureError):
    """Bytes that arrived do not follow the protocol."""

    code = "PD0204"


class NobodyListensError(TransportError):
    """The machine was reached and said that no process listens at the address."""

    code = "PD0206"


class OptionsError(PerdureError):
    """A configuration value is missing, unknown or out of range."""

    code = "PD0301"
