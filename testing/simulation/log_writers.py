"""Writers of a bare log: some race for its keys, some just append.

Those that race read, decide, and append on a condition. Each goes by docs/log.md: a refusal is
final for what was sent once, and after any doubt the writer reads until it knows whether its own
record is there. Nothing but its caller keeps a plain append from being in the log twice, so whoever
just appends never sends anything again.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from ...core.errors import PerdureError
from ...log.answers import Answer, Committed, Indeterminate, NotChangedSince
from ...log.reader import LogEntry, LogReader, TrimGap
from ...log.sequencer import Append
from ...log.types import Record
from .chance import Chance
from .log_history import ReadCheck, Request, place_of
from .log_life import LogChannel, LogHome, LogLife
from .workload import MS

Hear: TypeAlias = Callable[[Answer | PerdureError], None]
"""Takes an answer that has come back."""


class ConditionalWriter:
    """Appends one request after the other, each on what it has read of the keys.

    Attributes:
        name: what the trace calls it.
    """

    def __init__(
        self, name: str, raw: LogHome, chance: Chance, *, keys: list[bytes], requests: int
    ) -> None:
        """Make so many requests about `keys`."""
        self.name = name
        self._raw = raw
        self._chance = chance
        self._keys = keys
        self._requests = requests
        self._channel = LogChannel(raw, chance)
        self._check = ReadCheck(raw.history, name, 1, frozenset(keys))
        self._think_ns_max = chance.pick((1, 5, 40)) * MS
        self._patience_ns = chance.pick((3, 20, 400)) * MS
        self._gap = False

    async def run(self) -> None:
        """Make all of them. Raises InvariantViolation."""
        for number in range(self._requests):
            await self._raw.loop.pause(int(self._chance.fraction() * 4 * self._think_ns_max))
            request = Request(self.name, number, self._chance.pick((1, 1, 2, 3)))
            self._raw.history.requests.append(request)
            await self._settle(request)

    async def _settle(self, request: Request) -> None:
        """Try until it is in the log, refused for good, or trimmed where it might have been."""
        chance = self._chance
        keys = tuple(sorted({chance.pick(self._keys) for _ in range(chance.pick((1, 1, 2)))}))
        records = request.make(keys[:1])
        self._gap = False
        while True:
            life = await self._raw.up()
            read = await self._raw.within(life, partial(self._catch_up, life, request))
            if read is not True:
                await self._raw.loop.pause(1 * MS)
                continue
            if request.committed_lsn or (self._gap and request.copies):
                return
            await self._raw.loop.pause(int(chance.fraction() * self._think_ns_max))
            if await self._append(request, keys, records):
                return

    async def _append(
        self, request: Request, keys: tuple[bytes, ...], records: list[Record]
    ) -> bool:
        """Send it once or twice; whether the outcome is known."""
        snapshot = self._check.next_lsn - 1
        append = Append(records, tuple(NotChangedSince(key, snapshot) for key in keys))
        answer = await self._ask(request, append)
        if answer is None and self._chance.happens(0.4):
            # The same once more: if the first copy got there, it is in the way of this one.
            answer = await self._ask(request, append)
        if isinstance(answer, Committed):
            request.acknowledged = True
            request.committed_lsn = answer.first_lsn
            return True
        if answer is None or isinstance(answer, Indeterminate):
            return False
        # A single copy was sent and refused. Whoever makes another one of it can no more be sure.
        if request.copies == 1 and self._chance.happens(0.7):
            request.refused = repr(answer)
            return True
        return False

    async def _catch_up(self, life: LogLife, request: Request) -> bool:
        """Read what is new about the keys; looks for the request itself."""
        tail = await life.log.find_tail()
        reader = LogReader(
            life.log, self._check.next_lsn, to_lsn=tail.lsn - 1, keys=self._keys, bytes_max=4096
        )
        async for item in reader:
            self._check.take(item)
            if isinstance(item, TrimGap):
                self._gap = True
            elif isinstance(item, LogEntry):
                place = place_of(item.record)
                if place.client == self.name and place.number == request.number:
                    request.committed_lsn = item.lsn - place.position
        return True

    # Sending -------------------------------------------------------------------------------------

    async def _ask(self, request: Request, append: Append) -> Answer | PerdureError | None:
        """Send an append and wait for the answer; None when none comes in time."""
        raw = self._raw
        future: asyncio.Future[Answer | PerdureError | None] = raw.loop.create_future()

        def hear(answer: Answer | PerdureError | None) -> None:
            if not future.done():
                future.set_result(answer)

        raw.history.sending(request, append)
        request.copies += self._channel.send(partial(self._deliver, request, append, hear))
        impatience = raw.loop.call_at_ns(raw.loop.now_ns + self._patience_ns, hear, None)
        answer = await future
        impatience.cancel()
        return answer

    def _deliver(self, request: Request, append: Append, hear: Hear, life: LogLife) -> None:
        self._raw.spawn(life, partial(self._serve, request, append, hear, life), name=request.name)

    async def _serve(self, request: Request, append: Append, hear: Hear, life: LogLife) -> None:
        """In the node's process: append, and send the answer."""
        answer: Answer | PerdureError
        try:
            answer = await life.log.append(append.records, conditions=append.conditions)
        except PerdureError as error:
            self._raw.failed(life, error)
            answer = error
        if life is not self._raw.life:
            return
        self._raw.trace.add(self.name, f"{request.number}: {answer!r}")
        self._raw.history.told(request, append, answer)
        self._channel.reply(partial(hear, answer))


class PlainWriter:
    """Appends one request after the other, without a condition and without a number.

    Attributes:
        name: what the trace calls it.
    """

    def __init__(self, name: str, raw: LogHome, chance: Chance, *, requests: int) -> None:
        """Make so many requests."""
        self.name = name
        self._raw = raw
        self._chance = chance
        self._requests = requests
        self._pause_ns_max = chance.pick((1, 5, 40)) * MS

    async def run(self) -> None:
        """Make all of them. Raises InvariantViolation."""
        raw = self._raw
        for number in range(self._requests):
            await raw.loop.pause(int(self._chance.fraction() * self._pause_ns_max))
            life = await raw.up()
            request = Request(self.name, number, self._chance.pick((1, 2)), copies=1)
            raw.history.requests.append(request)
            append = Append(request.make(()))
            answer = await raw.within(life, partial(life.log.append, append.records))
            raw.trace.add(self.name, f"{number}: {answer!r}")
            if answer is None or isinstance(answer, Indeterminate):
                continue
            raw.history.told(request, append, answer)
            if isinstance(answer, Committed):
                request.acknowledged = True
                request.committed_lsn = answer.first_lsn
            else:
                request.refused = repr(answer)
