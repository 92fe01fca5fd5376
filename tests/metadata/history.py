"""Recorded histories of a metadata store: seeded clients, cancelled calls, failing disks, crashes.

Everything is drawn from the seed and runs on one event loop, so a seed gives one history for ever.
"""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Sequence
from typing import Protocol, TypeAlias

from perdure.core.errors import StorageError
from perdure.metadata import (
    DoesNotExist,
    MatchesVersion,
    MetadataStore,
    Precondition,
    Version,
)

from ..linearizability import Operation, linearize
from .register import (
    Call,
    Delete,
    Found,
    Get,
    Look,
    Put,
    Result,
    Stored,
    VersionedRegister,
    answers_of,
)

KeyOperation: TypeAlias = Operation[Call, Result]
History: TypeAlias = dict[str, list[KeyOperation]]
"""The operations of each key."""

CLIENTS = 4
CALLS_PER_CLIENT = 10
CRASHES_MAX = 2


class Host(Protocol):
    """What a store runs on; the store alone may be lost and opened again."""

    def open(self) -> MetadataStore:
        """The store on what the host has kept."""
        ...

    def break_disk(self) -> bool:
        """Let the next change fail with StorageError; False when this host cannot."""
        ...

    def crash(self, draw: random.Random) -> None:
        """Lose the store, and of what it did not make durable any part that `draw` says."""
        ...


class Recorder:
    """Runs clients against the store of a host and writes down what they called and got."""

    def __init__(self, host: Host, seed: int) -> None:
        """Take the host, which may hold keys of other seeds, and the seed."""
        self.host = host
        self.draw = random.Random(seed)
        self.prefix = f"{seed}/"
        self.keys = [f"{seed}/a", f"{seed}/b"]
        self.store = host.open()
        self.history: History = {key: [] for key in self.keys}
        self.crashes = 0
        self._clock = itertools.count()
        self._disk_is_broken = False
        self._in_flight: set[asyncio.Task[dict[str, Result]]] = set()
        # Every version that somebody saw, so that preconditions often hold.
        self._versions: dict[str, list[Version]] = {key: [] for key in self.keys}

    async def run(self) -> History:
        """Run every client to its end, and read once more after a last crash."""
        clients = [self._client(f"client {number}") for number in range(CLIENTS)]
        await asyncio.gather(*clients, self._trouble())
        self._crash()
        for key in self.keys:
            await self._perform("reader", key, Get(), whole=True)
        return self.history

    async def _client(self, name: str) -> None:
        for number in range(CALLS_PER_CLIENT):
            await self._pause(3)
            key = self.draw.choice(self.keys)
            await self._perform(name, key, self._call(key, f"{name} {number}"))

    async def _trouble(self) -> None:
        for _ in range(self.draw.randint(0, CRASHES_MAX)):
            await self._pause(30)
            if self.draw.random() < 0.5:
                self._disk_is_broken = self.host.break_disk()
                await self._pause(25)
            self._crash()

    def _crash(self) -> None:
        """Everybody who waits for the store loses the answer, at this instant."""
        for task in self._in_flight:
            task.cancel()
        self.host.crash(self.draw)
        self._disk_is_broken = False
        self.store = self.host.open()
        self.crashes += 1

    def _call(self, key: str, text: str) -> Call:
        # Equal values must not hide who won.
        value = b"same" if self.draw.random() < 0.4 else text.encode()
        kind = self.draw.random()
        if kind < 0.30:
            return Get()
        if kind < 0.40:
            return Look()
        if kind < 0.80:
            return Put(value, self._precondition(key))
        return Delete(self._precondition(key))

    def _precondition(self, key: str) -> Precondition:
        seen = self._versions[key]
        kind = self.draw.random()
        if kind < 0.2:
            return None
        if kind < 0.45 or not seen:
            return DoesNotExist()
        if kind < 0.9:
            return MatchesVersion(seen[-1])
        return MatchesVersion(self.draw.choice(seen))

    async def _perform(self, client: str, key: str, call: Call, *, whole: bool = False) -> None:
        """Let one call run as a task of its own, perhaps cancel it, and write it down."""
        called_at = next(self._clock)
        # One call in two takes effect at its first step and answers at once.
        around = 0 if whole or self.draw.random() < 0.5 else 3
        task = asyncio.create_task(self._answers(key, call, around))
        self._in_flight.add(task)
        if not whole and self.draw.random() < 0.15:
            await self._pause(4)
            task.cancel()
        await asyncio.wait({task})
        self._in_flight.discard(task)
        returned_at = next(self._clock)
        if not task.cancelled():
            for listed, result in task.result().items():
                answered: KeyOperation = Operation(client, call, result, called_at, returned_at)
                self.history[listed].append(answered)
                self._learn(listed, result)
            if task.result():
                return
        # What only reads takes no effect, so that without an answer it says nothing.
        if isinstance(call, Put | Delete):
            self.history[key].append(Operation(client, call, None, called_at, returned_at))

    async def _answers(self, key: str, call: Call, around: int) -> dict[str, Result]:
        """What the call tells of which keys; nothing when a broken disk leaves it open."""
        await self._pause(around)
        try:
            answers = await answers_of(self.store, key, call, keys=self.keys, prefix=self.prefix)
        except StorageError:
            if not self._disk_is_broken:
                raise
            return {}
        await self._pause(around)
        return answers

    def _learn(self, key: str, result: Result) -> None:
        if isinstance(result, Found | Stored) and result.version not in self._versions[key]:
            self._versions[key].append(Version(result.version))

    async def _pause(self, steps_max: int) -> None:
        for _ in range(self.draw.randint(0, steps_max)):
            await asyncio.sleep(0)


def check(history: History, note: str) -> None:
    """Raise NotLinearizableError with the note unless each key is linearizable."""
    for key, operations in history.items():
        linearize(VersionedRegister(), operations, note=f"{note}, key {key!r}")


def record_and_check(host: Host, seeds: Sequence[int]) -> Counter[str]:
    """Record and check a history per seed; count what was called and answered.

    Raises NotLinearizableError with the seed in it; that seed alone gives the same calls again.
    """
    counts: Counter[str] = Counter()

    async def run() -> None:
        for seed in seeds:
            recorder = Recorder(host, seed)
            history = await recorder.run()
            check(history, f"seed {seed}")
            counts["crash"] += recorder.crashes
            for operation in itertools.chain(*history.values()):
                result = operation.result
                answer = "unknown" if result is None else type(result).__name__
                counts[f"{type(operation.call).__name__} {answer}"] += 1

    asyncio.run(run())
    return counts
