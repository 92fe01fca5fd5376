"""LocalMetadataStore: the metadata store of a single node, on its own disk."""

import struct
from typing import Final

from ..core.errors import StorageCorruptError, StorageError, StorageFormatError
from ..core.storage.kv import KvStore
from .api import Precondition, Version, VersionedValue
from .checks import check_precondition, check_value, checked_key, encoded_text

# Layout of an entry, for ever: key = b"metadata/" + UTF-8 of the key;
# value = format u8 | kind u8 | version u64, big-endian | the value's bytes (none after a delete).
# An absent entry means that the key was never put. A deleted one stays, so that its versions never
# come back. Versions count from 1; the highest number is never reached.
_KEY_PREFIX: Final = b"metadata/"
_HEADER: Final = struct.Struct(">BBQ")
# Greater than every byte that a key goes on with, as UTF-8 has no such byte.
_AFTER_KEYS: Final = b"\xff"
_VERSION_END: Final = 2**64 - 1
_FORMAT: Final = 1
_KIND_VALUE: Final = 1
_KIND_DELETED: Final = 2


class LocalMetadataStore:
    """The MetadataStore port over a KvStore, which it may share with others: see its key prefix.

    The store has one user, so that a change between two awaits is linearizable by itself. Changes
    sync inline: they are rare, and nothing goes on without them. After a failed change every call
    raises StorageError until the store is opened again.
    """

    def __init__(self, store: KvStore) -> None:
        """Take an open store, which the caller closes, and sync it once. Raises StorageError."""
        self._store = store
        self._failure: str | None = None
        # What a process before this one wrote and did not sync must not be read and then lost.
        store.sync()

    async def get(self, key: str) -> VersionedValue | None:
        """The value of `key`, or None. Raises StorageError. Never waits."""
        version, value = self._read(key, _KEY_PREFIX + checked_key(key))
        return None if value is None else VersionedValue(version, value)

    async def put(self, key: str, value: bytes, precondition: Precondition = None) -> Version:
        """Store a value durably and give its version.

        Raises PreconditionFailedError and StorageError. Holds the event loop for one disk sync.
        """
        stored_key = _KEY_PREFIX + checked_key(key)
        check_value(key, value)
        version, current = self._read(key, stored_key)
        check_precondition(key, precondition, None if current is None else version)
        stored = Version(version + 1)
        self._write(stored_key, _HEADER.pack(_FORMAT, _KIND_VALUE, stored) + value)
        return stored

    async def delete(self, key: str, precondition: Precondition = None) -> None:
        """Remove the value durably, if any.

        Raises PreconditionFailedError and StorageError. Holds the event loop for one disk sync.
        """
        stored_key = _KEY_PREFIX + checked_key(key)
        version, current = self._read(key, stored_key)
        check_precondition(key, precondition, None if current is None else version)
        if current is not None:
            self._write(stored_key, _HEADER.pack(_FORMAT, _KIND_DELETED, version))

    async def keys(self, prefix: str) -> list[str]:
        """The keys with a value that start with `prefix`, sorted.

        Raises StorageError. Never waits: holds the event loop while it reads their values.
        """
        start = _KEY_PREFIX + encoded_text(prefix)
        self._check_settled()
        found: list[str] = []
        # Bytes of UTF-8 are in the order of the characters, so what is found is sorted.
        for stored_key, stored in self._store.scan(start, start + _AFTER_KEYS):
            key = _key_of(stored_key)
            _, has_value = _header_of(key, stored)
            if has_value:
                found.append(key)
        return found

    def _write(self, stored_key: bytes, entry: bytes) -> None:
        # A change that ends in any other way than by returning, an interrupt included, is one that
        # failed; so it counts as failed until it has returned.
        self._failure = "it did not end"
        try:
            self._store.write([(stored_key, entry)])
            self._store.sync()
        except StorageError as error:
            self._failure = error.message
            raise
        self._failure = None

    def _read(self, key: str, stored_key: bytes) -> tuple[Version, bytes | None]:
        self._check_settled()
        stored = self._store.get(stored_key)
        if stored is None:
            return Version(0), None
        version, has_value = _header_of(key, stored)
        return version, stored[_HEADER.size :] if has_value else None

    def _check_settled(self) -> None:
        if self._failure is not None:
            # Whether the last change is durable is unknown, so nobody may see it nor its absence.
            raise StorageError(
                f"metadata cannot be used after a failed change ({self._failure}): mend the disk "
                "and restart"
            )


def _key_of(stored_key: bytes) -> str:
    try:
        return stored_key[len(_KEY_PREFIX) :].decode()
    except UnicodeDecodeError as error:
        raise _corrupt(repr(stored_key), "has a name that is not UTF-8") from error


def _header_of(key: str, stored: bytes) -> tuple[Version, bool]:
    """The version of an entry and whether it has a value; everything but the value is checked."""
    if stored[:1] > bytes((_FORMAT,)):
        raise StorageFormatError(
            f"metadata key {key!r} is stored in format {stored[0]}, newer than this program's "
            f"{_FORMAT}: use the release that wrote it, or a later one"
        )
    if len(stored) < _HEADER.size:
        raise _corrupt(repr(key), f"is stored in {len(stored)} bytes, too few")
    form, kind, version = _HEADER.unpack_from(stored)
    if form != _FORMAT:
        raise _corrupt(repr(key), f"is stored in format {form}, which never existed")
    if kind not in (_KIND_VALUE, _KIND_DELETED):
        raise _corrupt(repr(key), f"is stored as kind {kind}, which does not exist")
    if not 0 < version < _VERSION_END:
        raise _corrupt(repr(key), f"is stored as version {version}, which no put ever gave")
    if kind == _KIND_DELETED and len(stored) > _HEADER.size:
        raise _corrupt(repr(key), "is stored as deleted and has a value")
    return Version(version), kind == _KIND_VALUE


def _corrupt(key: str, what: str) -> StorageCorruptError:
    return StorageCorruptError(
        f"metadata key {key} {what}: restore the metadata directory from a copy"
    )
