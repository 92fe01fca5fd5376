"""The MetadataStore port: a small linearizable map of versioned values."""

from dataclasses import dataclass
from typing import NewType, Protocol, TypeAlias

from ..core.errors import PerdureError

Version = NewType("Version", int)
"""Counts the puts of one key, from 1; only its order and equality mean anything."""

KEY_BYTES_MAX = 1024
"""No key may be longer, counted in UTF-8."""

VALUE_BYTES_MAX = 1024 * 1024
"""No value may be longer: this is where configurations live, not data."""


@dataclass(frozen=True, slots=True)
class VersionedValue:
    """A value and the version that it was stored as."""

    version: Version
    value: bytes


@dataclass(frozen=True, slots=True)
class DoesNotExist:
    """Holds while the key has no value: never put, or deleted."""


@dataclass(frozen=True, slots=True)
class MatchesVersion:
    """Holds while the key's value is the one stored as `version`."""

    version: Version


Precondition: TypeAlias = DoesNotExist | MatchesVersion | None
"""What must hold for a change to be made; None changes whatever is there."""


class PreconditionFailedError(PerdureError):
    """Somebody else changed the key first; read it again and decide anew.

    Attributes:
        key: the key.
        expected: the precondition that does not hold.
        actual: the version that is there, or None when the key has no value.
    """

    code = "PD0601"

    def __init__(
        self, key: str, expected: DoesNotExist | MatchesVersion, actual: Version | None
    ) -> None:
        """Take what was expected of which key and what is there."""
        wanted = "no value" if isinstance(expected, DoesNotExist) else f"version {expected.version}"
        found = "it has none" if actual is None else f"it has version {actual}"
        super().__init__(
            f"metadata key {key!r} was to have {wanted}, but {found}: read it again and retry"
        )
        self.key = key
        self.expected = expected
        self.actual = actual


class MetadataStore(Protocol):
    """A map from text keys to versioned values, changed under a precondition.

    Contract (`tests/conformance/metadata_store.py` runs for every implementation):

    - Each key is linearizable: every operation takes effect at one instant between call and
      return, and a read sees the last change before it. Nothing is promised across keys.
    - A change is durable before it returns. A precondition and the change it guards are one step.
    - The versions of a key strictly increase for ever, over delete and put too: a version that was
      seen once never comes back with another value, so MatchesVersion cannot be fooled.
    - Keys are 1 to `KEY_BYTES_MAX` bytes of UTF-8, values at most `VALUE_BYTES_MAX` bytes; both
      are refused otherwise with MessageTooLargeError. An empty key is a bug of the caller, and so
      is one that UTF-8 cannot carry. Any other text is a key, and no two texts are the same key.
    - When an operation raises StorageError or TransportError, or is cancelled, the change was made
      or will never be made; the caller finds out by reading.
    """

    async def get(self, key: str) -> VersionedValue | None:
        """The value of `key`, or None. Cancelling is safe."""
        ...

    async def put(self, key: str, value: bytes, precondition: Precondition = None) -> Version:
        """Store a value and give its version. Raises PreconditionFailedError.

        Cancelling leaves open whether it was stored.
        """
        ...

    async def delete(self, key: str, precondition: Precondition = None) -> None:
        """Remove the value; nothing happens when there is none. Raises PreconditionFailedError.

        Cancelling leaves open whether it was removed.
        """
        ...

    async def keys(self, prefix: str) -> list[str]:
        """The keys with a value that start with `prefix`, sorted; all of them for "".

        Not linearizable across keys: of each key the answer tells what holds at some instant
        between call and return, and for two keys these may differ. Cancelling is safe.
        """
        ...
