"""Who works with the bare log of a world: drawn from its seed, begun once, ended in good order."""

import asyncio
from collections.abc import Callable

from ...core.hashing import key_hash
from .chance import Chance
from .log_life import RawLog
from .log_producers import AppenderClient, NumberedProducer
from .log_readers import Counter, Tailer, Trimmer, look_for_damage
from .log_writers import ConditionalWriter
from .violation import require
from .workload import MS


class LogClients:
    """The clients and readers of one bare log."""

    def __init__(self, raw: RawLog, chance: Callable[[str], Chance]) -> None:
        """Draw who there is; `chance` gives the generator of a concern."""
        self._raw = raw
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

    def begin(self) -> list["asyncio.Task[None]"]:
        """Start them; the tasks end when their work is done."""
        scope = self._raw.scope
        self._trimming = scope.spawn(self._trimmer.run(), name="trimmer")
        clients: list[ConditionalWriter | NumberedProducer | AppenderClient] = [
            *self._writers,
            *self._producers,
            *self._appenders,
        ]
        return [scope.spawn(client.run(), name=client.name) for client in clients]

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
