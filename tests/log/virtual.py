"""Virtual logs for tests: several processes' views of one set of loglets and one metadata store."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from perdure.core.clock import Clock
from perdure.core.hashing import key_hash
from perdure.core.ids import LogId
from perdure.core.storage.memory import MemoryStore
from perdure.log import (
    Committed,
    LogEntry,
    LogletProvider,
    LogReader,
    Logs,
    Record,
    VirtualLog,
)
from perdure.log.memory.provider import MemoryProvider
from perdure.log.sequencer import SequencerLimits
from perdure.metadata import MetadataStore, Precondition, Version, VersionedValue
from perdure.metadata.memory import MemoryMetadataStore

from .support import LogOnStore, SetClock

KEY = key_hash(b"some key")
LOG = LogId(1)


class SlowMetadata:
    """A metadata store that others get to run beside, counted, and failing when told."""

    def __init__(self, store: MetadataStore | None = None) -> None:
        self.store = store or MemoryMetadataStore()
        self.gets = 0
        self.fail_put_before: Exception | None = None
        self.fail_put_after: Exception | None = None

    async def get(self, key: str) -> VersionedValue | None:
        self.gets += 1
        await asyncio.sleep(0)
        found = await self.store.get(key)
        await asyncio.sleep(0)
        return found

    async def put(self, key: str, value: bytes, precondition: Precondition = None) -> Version:
        await asyncio.sleep(0)
        if self.fail_put_before is not None:
            error, self.fail_put_before = self.fail_put_before, None
            raise error
        version = await self.store.put(key, value, precondition)
        await asyncio.sleep(0)
        if self.fail_put_after is not None:
            error, self.fail_put_after = self.fail_put_after, None
            raise error
        return version

    async def delete(self, key: str, precondition: Precondition = None) -> None:
        await self.store.delete(key, precondition)

    async def keys(self, prefix: str) -> list[str]:
        return await self.store.keys(prefix)


class House:
    """One node: its disk, its providers, its metadata; `another` is a process that shares them."""

    def __init__(
        self,
        store: MemoryStore | None = None,
        metadata: MetadataStore | None = None,
        *,
        more: Iterable[LogletProvider] = (),
        default_kind: str = "local",
        limits: SequencerLimits | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.store = store or MemoryStore()
        self.metadata = metadata or SlowMetadata()
        self.local = LogOnStore(self.store, clock=clock)
        self.memory = MemoryProvider(loop=self.loop, clock=clock or SetClock(), node="n1")
        self.providers: list[LogletProvider] = [self.local.provider, self.memory, *more]
        self.default_kind = default_kind
        self.limits = limits
        self.logs = self.another()

    def another(self) -> Logs:
        """The logs of one more process."""
        return Logs(
            metadata=self.metadata,
            providers=self.providers,
            loop=self.loop,
            default_kind=self.default_kind,
            limits=self.limits,
        )

    async def log(self, kind: str | None = None) -> VirtualLog:
        """A log that is led."""
        log = await self.logs.open(LOG, create=True)
        await log.lead(kind=kind)
        return log

    def door(self, log: VirtualLog) -> VirtualLog:
        """The log as it is seen by whoever appends: here that is the node that leads it."""
        return log

    async def view(self) -> VirtualLog:
        """The same log seen by another process, which caches its chain as it is now."""
        return await self.another().open(LOG)

    def close(self) -> None:
        """End the writer."""
        self.local.writer.close()

    async def end(self) -> None:
        """End everything."""
        self.close()


def rec(number: int, *keys: bytes, size: int = 0) -> Record:
    """A record that can be told from others."""
    return Record(1, b"%d" % number + b"." * size, keys, 0, None, 0)


def body(record: Record) -> int:
    """The number of a `rec`."""
    return int(record.body.rstrip(b"."))


async def put(log: VirtualLog, *numbers: int) -> list[int]:
    """Append each by itself, one after the other; their LSNs."""
    lsns: list[int] = []
    for number in numbers:
        answer = await log.append([rec(number)])
        assert type(answer) is Committed, answer
        lsns.append(answer.first_lsn)
    return lsns


async def everything(log: VirtualLog) -> list[int]:
    """The numbers of what is not trimmed, up to the tail; their LSNs must have no gap."""
    tail = (await log.find_tail()).lsn
    found: list[int] = []
    lsn = log.trim_point_lsn + 1
    async for item in LogReader(log, lsn, to_lsn=tail - 1):
        assert type(item) is LogEntry, item
        assert item.lsn == lsn
        lsn += 1
        found.append(body(item.record))
    assert lsn == tail
    return found


def run(
    scenario: Callable[[House], Awaitable[None]], kind: type[House] = House, **options: Any
) -> None:
    """Run on a house of its own, for ten seconds at most."""

    async def whole() -> None:
        house = kind(**options)
        try:
            await scenario(house)
        finally:
            await house.end()

    asyncio.run(asyncio.wait_for(whole(), 60))
