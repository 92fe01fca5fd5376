"""QuorumMetadataStore: the metadata store on 1, 3 or 5 servers; less than half may fail."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, assert_never

from ..api import Precondition, Version, VersionedValue
from ..checks import check_value, checked_key, encoded_text
from .acceptor import USER_KEYS
from .attempts import Attempt
from .changes import KeyChange, Made, Refused, Unknown, unchanged
from .errors import OutcomeUnknownError
from .messages import REGISTER_KEY_BYTES_MAX
from .proposer import Proposer
from .registers import NONCE_BYTES, Register
from .rounds import Chosen, Listing, Lost, Overtaken, ReadRound, Undecided

_READS_MAX: Final = 32
"""Keys that a listing has to read one by one are read so many at a time."""


class QuorumMetadataStore:
    """The MetadataStore port over a quorum of servers.

    Every call raises QuorumNotReachedError, which is a TransportError, when too few servers agree
    within `QuorumOptions.operation_seconds`, and NotProvisionedError and StrangerError before it
    has sent anything. A change also raises OutcomeUnknownError, a TransportError, in the rare case
    that it was overtaken so often that nobody remembers it. Cancelling is safe for reads, and
    leaves open whether a change was made; the next call on the key decides it for good.
    """

    def __init__(self, proposer: Proposer) -> None:
        """Take a proposer, which may be shared."""
        self._proposer = proposer
        # Calls of one process on one key take turns: they would only beat each other.
        self._turns: dict[bytes, tuple[asyncio.Lock, int]] = {}

    async def close(self) -> None:
        """End the connections of the proposer. Cancelling is safe."""
        await self._proposer.close()

    async def get(self, key: str) -> VersionedValue | None:
        """The value of `key`, or None. One round trip when nobody changes it."""
        encoded = USER_KEYS + checked_key(key)
        register = await self._read(self._proposer.begin(f"read metadata key {key!r}"), encoded)
        if register.value is None:
            return None
        return VersionedValue(Version(register.version), register.value)

    async def put(self, key: str, value: bytes, precondition: Precondition = None) -> Version:
        """Store a value and give its version. Raises PreconditionFailedError. Two round trips."""
        encoded = USER_KEYS + checked_key(key)
        check_value(key, value)
        return await self._change(f"put metadata key {key!r}", key, encoded, value, precondition)

    async def delete(self, key: str, precondition: Precondition = None) -> None:
        """Remove the value, if any. Raises PreconditionFailedError. Two round trips."""
        encoded = USER_KEYS + checked_key(key)
        await self._change(f"delete metadata key {key!r}", key, encoded, None, precondition)

    async def keys(self, prefix: str) -> list[str]:
        """The keys with a value that start with `prefix`, sorted.

        A round trip per 256 registers; those that changed lately on some servers only are read.
        """
        start = USER_KEYS + encoded_text(prefix)
        if len(start) > REGISTER_KEY_BYTES_MAX:
            return []  # no key is as long
        attempt = self._proposer.begin(f"list metadata keys that start with {prefix!r}")
        listed = await self._proposer.list_registers(attempt, start)
        unclear = [key for key, has_value in listed.items() if has_value is None]
        for first in range(0, len(unclear), _READS_MAX):
            keys = unclear[first : first + _READS_MAX]
            registers = await asyncio.gather(*(self._read(attempt, key) for key in keys))
            for key, register in zip(keys, registers, strict=True):
                listed[key] = register.value is not None
        # Bytes of UTF-8 are in the order of the characters, so what was listed is sorted.
        return [key[len(USER_KEYS) :].decode() for key, has_value in listed.items() if has_value]

    async def _read(self, attempt: Attempt, key: bytes) -> Register:
        configuration = await self._proposer.learn(attempt)
        verdict = await self._proposer.run(attempt, ReadRound(configuration, key), configuration)
        match verdict:
            case Chosen(register):
                return register
            case Overtaken(newer):
                self._proposer.adopt(newer)
            case Undecided() | Lost():
                pass
            case Listing():
                raise AssertionError(verdict)
            case _:
                assert_never(verdict)
        async with self._turn(attempt, key):
            chosen = await self._proposer.change(attempt, key, unchanged)
        return chosen.register

    async def _change(
        self, what: str, key: str, encoded: bytes, value: bytes | None, precondition: Precondition
    ) -> Version:
        attempt = self._proposer.begin(what)
        change = KeyChange(key, value, precondition, self._proposer.nonce(NONCE_BYTES))
        async with self._turn(attempt, encoded):
            await self._proposer.change(attempt, encoded, change)
        match change.outcome:
            case Made(version):
                return version
            case Refused(error):
                raise error
            case Unknown():
                raise OutcomeUnknownError(
                    f"nobody remembers whether this change to metadata key {key!r} was made: its "
                    "answer was lost and many others came since; read the key"
                )
            case _:
                assert_never(change.outcome)

    @asynccontextmanager
    async def _turn(self, attempt: Attempt, key: bytes) -> AsyncIterator[None]:
        """Be the only one of this store who changes a key. Raises QuorumNotReachedError."""
        lock, users = self._turns.get(key) or (asyncio.Lock(), 0)
        self._turns[key] = lock, users + 1
        try:
            try:
                async with asyncio.timeout_at(attempt.deadline):
                    await lock.acquire()
            except TimeoutError as error:
                raise attempt.error() from error
            try:
                yield
            finally:
                lock.release()
        finally:
            lock, users = self._turns[key]
            if users == 1:
                del self._turns[key]
            else:
                self._turns[key] = lock, users - 1
