"""Who works with the bare log of a world: drawn from its seed, begun once, ended in good order."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from ...core.hashing import key_hash
from .chance import Chance
from .log_far import FarLog
from .log_life import RawLog
from .log_producers import AppenderClient, NumberedProducer
from .log_readers import Counter, Tailer, Trimmer, look_for_damage
from .log_writers import ConditionalWriter, PlainWriter
from .network import SimulationNetwork
from .violation import require
from .workload import MS

FAR_CHANCE: Final = 0.3
"""How often some of the clients are in another process than the one that orders the log."""


class LogClients:
    """The clients and readers of one bare log.

    Attributes:
        far: another process, from which some of them append; None in most worlds.
    """

    def __init__(
        self,
        raw: RawLog,
        chance: Callable[[str], Chance],
        network: SimulationNetwork,
        faults: bool,
    ) -> None:
        """Draw who there is; `chance` gives the generator of a concern."""
        self._raw = raw
        self._faults = faults
        character = chance("log 1")
        keys = [key_hash(b"key", b"%d" % number) for number in range(character.between(2, 3))]
        self._counter = Counter(raw)
        self._tailer = Tailer(raw, chance("tailer"), keys)
        self._trimmer = Trimmer(raw, self._counter, chance("trimmer"))
        self._writers = [
            ConditionalWriter(name, raw, chance(name), keys=keys, requests=character.between(3, 7))
            for name in ("writer-1", "writer-2", "writer-3")[: character.between(2, 3)]
        ]
        self._producers = [
            NumberedProducer(
                name,
                raw,
                self._counter,
                chance(name),
                keys=keys,
                requests=character.between(4, 14),
            )
            for name in ("producer-1", "producer-2")[: character.between(0, 2)]
        ]
        self._appenders = [
            AppenderClient(name, raw, chance(name), requests=character.between(4, 14))
            for name in ("appender-1",)[: character.between(0, 1)]
        ]
        raw.on_life += [self._counter.run, self._tailer.run]
        raw.on_life += [appender.in_life for appender in self._appenders]
        self._trimming: asyncio.Task[None] | None = None
        self._disturbing: asyncio.Task[None] | None = None
        self._plain: list[PlainWriter] = []
        self.far: FarLog | None = None
        elsewhere = chance("far")
        if elsewhere.happens(FAR_CHANCE):
            far = self.far = FarLog(raw, network, elsewhere)
            self._writers += [
                ConditionalWriter(
                    name, far, chance(name), keys=keys, requests=elsewhere.between(3, 7)
                )
                for name in ("far-writer-1", "far-writer-2")[: elsewhere.between(1, 2)]
            ]
            self._plain.append(
                PlainWriter(
                    "far-plain", far, chance("far-plain"), requests=elsewhere.between(5, 20)
                )
            )
            self._far_appender = AppenderClient(
                "far-appender", far, chance("far-appender"), requests=elsewhere.between(4, 14)
            )
            self._appenders.append(self._far_appender)

    def begin(self) -> list["asyncio.Task[None]"]:
        """Start them; the tasks end when their work is done."""
        scope = self._raw.scope
        self._trimming = scope.spawn(self._trimmer.run(), name="trimmer")
        if self.far is not None:
            scope.spawn(self._append_far(self.far), name="far appender")
            if self._faults:
                self._disturbing = scope.spawn(self.far.disturb(), name="disturbance")
        clients: list[ConditionalWriter | PlainWriter | NumberedProducer | AppenderClient] = [
            *self._writers,
            *self._plain,
            *self._producers,
            *self._appenders,
        ]
        return [scope.spawn(client.run(), name=client.name) for client in clients]

    async def _append_far(self, far: FarLog) -> None:
        life = await far.up()
        await far.within(life, partial(self._far_appender.in_life, life))

    async def end(self) -> None:
        """End the other process, if there is one; doing it again is fine."""
        if self._disturbing is not None:
            self._disturbing.cancel()
        if self.far is not None:
            await self.far.end()

    async def finish(self, tasks: list["asyncio.Task[None]"]) -> None:
        """Wait for them and let the counter read to the end. Raises InvariantViolation.

        Once a batch is lost, whoever meets its place stops there, and nobody need get done.
        """
        raw = self._raw
        assert self._trimming is not None
        if raw.damage is None:
            await asyncio.wait(tasks)
        while not (all(task.done() for task in tasks) or (raw.damage and raw.damage.found)):
            await raw.loop.pause(2 * MS)
        for task in tasks:
            task.cancel()
        self._trimming.cancel()
        await asyncio.wait([*tasks, self._trimming])
        if raw.damage is not None:
            life = await raw.up()
            await raw.within(life, lambda: look_for_damage(raw, life))
            return
        while True:
            life = await raw.up()
            if self._counter.next_lsn >= life.log.committed_tail_lsn:
                break
            await raw.loop.pause(2 * MS)
        counted = self._counter.counted
        for producer in self._producers:
            numbers = counted.get(producer.name, [])
            require(
                numbers == list(range(producer.requests)),
                "all that a producer sent counts once",
                f"{producer.name}: {numbers}",
            )
