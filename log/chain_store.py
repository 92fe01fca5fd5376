"""The chain of one log in metadata: read, and changed by compare-and-set."""

from collections.abc import Awaitable, Callable
from typing import Final

from ..core.ids import LogId
from ..metadata.api import (
    DoesNotExist,
    MatchesVersion,
    MetadataStore,
    PreconditionFailedError,
)
from .chain import Chain, chain_key, decode_chain, encode_chain
from .errors import ReconfigurationError, UnknownLogError

_CONFLICTS_MAX: Final = 32


class ChainStore:
    """Where a log's chain is kept."""

    def __init__(self, log: LogId, metadata: MetadataStore) -> None:
        """Keep it in `metadata`."""
        self._log = log
        self._metadata = metadata
        self._key = chain_key(log)

    async def load(self) -> Chain:
        """The chain. Raises UnknownLogError, CorruptChainError, StorageFormatError."""
        value = await self._metadata.get(self._key)
        if value is None:
            raise UnknownLogError(f"there is no log {self._log}: its chain was never made")
        return decode_chain(self._log, value.value)

    async def create(self, chain: Chain) -> Chain:
        """Make the log unless it exists; the chain that is there then."""
        try:
            await self._metadata.put(self._key, encode_chain(chain), DoesNotExist())
        except PreconditionFailedError:
            return await self.load()
        return chain

    async def change(self, change: Callable[[Chain], Awaitable[Chain | None]]) -> Chain:
        """Store what `change` makes of the chain, None for no change; the chain then.

        `change` runs again when somebody else was first, with their chain; what it has sealed in
        the meantime stays sealed. Raises ReconfigurationError when that happens too often, and
        whatever `change` raises.
        """
        for _ in range(_CONFLICTS_MAX):
            value = await self._metadata.get(self._key)
            if value is None:
                raise UnknownLogError(f"there is no log {self._log}: its chain was never made")
            current = decode_chain(self._log, value.value)
            changed = await change(current)
            if changed is None:
                return current
            precondition = MatchesVersion(value.version)
            try:
                await self._metadata.put(self._key, encode_chain(changed), precondition)
            except PreconditionFailedError:
                continue
            return changed
        raise ReconfigurationError(
            f"the chain of log {self._log} was changed by others {_CONFLICTS_MAX} times in a row: "
            "try again when it is quiet"
        )
