"""MemoryMetadataStore: the metadata store that forgets with its process."""

from .api import Precondition, Version, VersionedValue
from .checks import check_precondition, check_value, checked_key, encoded_text


class MemoryMetadataStore:
    """The MetadataStore port in memory, for tests, simulation and runtimes that keep nothing.

    Any number of users on one event loop may share it.
    """

    def __init__(self) -> None:
        """Start empty."""
        # Versions of deleted keys stay, with None, so that they never come back.
        self._entries: dict[bytes, tuple[Version, bytes | None]] = {}

    async def get(self, key: str) -> VersionedValue | None:
        """The value of `key`, or None. Never waits."""
        version, value = self._entries.get(checked_key(key), _NEVER_PUT)
        return None if value is None else VersionedValue(version, value)

    async def put(self, key: str, value: bytes, precondition: Precondition = None) -> Version:
        """Store a value and give its version. Raises PreconditionFailedError. Never waits."""
        encoded = checked_key(key)
        check_value(key, value)
        version, current = self._entries.get(encoded, _NEVER_PUT)
        check_precondition(key, precondition, None if current is None else version)
        stored = Version(version + 1)
        self._entries[encoded] = stored, value
        return stored

    async def delete(self, key: str, precondition: Precondition = None) -> None:
        """Remove the value, if any. Raises PreconditionFailedError. Never waits."""
        encoded = checked_key(key)
        version, current = self._entries.get(encoded, _NEVER_PUT)
        check_precondition(key, precondition, None if current is None else version)
        if current is not None:
            self._entries[encoded] = version, None

    async def keys(self, prefix: str) -> list[str]:
        """The keys with a value that start with `prefix`, sorted. Never waits."""
        encoded = encoded_text(prefix)
        return sorted(
            key.decode()
            for key, (_, value) in self._entries.items()
            if value is not None and key.startswith(encoded)
        )


_NEVER_PUT: tuple[Version, None] = (Version(0), None)
