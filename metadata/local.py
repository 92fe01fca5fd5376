"""LocalMetadataStore: the metadata store of a single node, on its own disk."""

import struct
from typing import Final

from ..core.errors import StorageCorruptError, StorageError, StorageFormatError
from ..core.storage.kv import KvStore
from .api import Precondition, Version, VersionedValue
from .checks import check_precondition, check_value, checked_key

# Layout of an entry, for ever: key = b"metadata/" + UTF-8 of the key;
# value = format u8 | kind u8 | version u64, big-endian | the value's bytes (none after a delete).
# An absent entry means that the key was never put. A deleted one stays, so that its versions never
# come back.
_KEY_PREFIX: Final = b"metadata/"
_HEADER: Final = struct.Struct(">BBQ")
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
        check_value(key, value)
        stored_key = _KEY_PREFIX + checked_key(key)
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

    def _write(self, stored_key: bytes, entry: bytes) -> None:
        try:
            self._store.write([(stored_key, entry)])
            self._store.sync()
        except StorageError as error:
            self._failure = error.message
            raise

    def _read(self, key: str, stored_key: bytes) -> tuple[Version, bytes | None]:
        if self._failure is not None:
            # Whether the last change is durable is unknown, so nobody may see it nor its absence.
            raise StorageError(f"metadata cannot be read after a failed change: {self._failure}")
        stored = self._store.get(stored_key)
        if stored is None:
            return Version(0), None
        if stored[:1] > bytes((_FORMAT,)):
            raise StorageFormatError(
                f"metadata key {key!r} is stored in format {stored[0]}, newer than this program's "
                f"{_FORMAT}: use the release that wrote it, or a later one"
            )
        if len(stored) < _HEADER.size:
            raise StorageCorruptError(
                f"metadata key {key!r} is stored in {len(stored)} bytes, too few: restore the "
                "metadata directory from a copy"
            )
        _, kind, version = _HEADER.unpack_from(stored)
        if kind == _KIND_DELETED:
            return Version(version), None
        if kind != _KIND_VALUE:
            raise StorageCorruptError(
                f"metadata key {key!r} is stored as kind {kind}, which does not exist: restore "
                "the metadata directory from a copy"
            )
        return Version(version), stored[_HEADER.size :]
