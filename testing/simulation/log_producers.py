"""Producers on a bare log: one that numbers its appends itself, and one that uses Appender.

Both go on after every doubt under the next epoch, with what the counter has not counted.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

from ...core.errors import PerdureError
from ...log.answers import (
    Answer,
    Committed,
    Duplicate,
    Indeterminate,
    OutOfOrder,
    Overloaded,
    Producer,
    Sealed,
)
from ...log.appender import Appender
from ...log.sequencer import Append
from .chance import Chance
from .log_history import Request
from .log_life import LogChannel, LogHome, LogLife, RawLog, end_of_segment
from .log_readers import Counter
from .violation import InvariantViolation
from .workload import MS

Hear: TypeAlias = Callable[[Answer], None]
"""Takes an answer that has come back."""

EPOCHS_PER_LIFE: Final = 1000
"""An Appender takes fewer epochs in one life of the node."""


def _producer_id(name: str) -> bytes:
    return name.encode().rjust(16, b".")


class NumberedProducer:
    """Keeps several appends in flight over a bad channel, and sends again what may be missing.

    Attributes:
        name: what the trace calls it.
    """

    def __init__(
        self,
        name: str,
        raw: RawLog,
        counter: Counter,
        chance: Chance,
        *,
        keys: list[bytes],
        requests: int,
    ) -> None:
        """Append so many groups; some of their records touch `keys`, unconditionally."""
        self.name = name
        self._raw = raw
        self._counter = counter
        self._chance = chance
        self._channel = LogChannel(raw, chance)
        self._window = chance.pick((1, 4, 8))
        self._patience_ns = chance.pick((2, 10, 100)) * MS
        self._pause_ns_max = chance.pick((1, 5, 20)) * MS
        self._epoch = 0
        self._doubt = False
        self._acked = 0
        self._next = 0
        self._changed = asyncio.Event()
        self._requests = [
            Request(name, number, chance.pick((1, 1, 1, 3)), numbered=True)
            for number in range(requests)
        ]
        raw.history.requests += self._requests
        self._records = [request.make(_touched(chance, keys)) for request in self._requests]

    @property
    def requests(self) -> int:
        """How many groups it appends in all."""
        return len(self._requests)

    async def run(self) -> None:
        """Append all of them. Raises InvariantViolation."""
        done = 0
        while done < len(self._requests):
            life = await self._raw.up()
            segment = life.log.chain.tail.index
            self._epoch += 1
            await self._send_from(done, segment)
            if not self._doubt:
                return
            done = await self._counted(segment)

    async def _send_from(self, first: int, segment: int) -> None:
        """Under a new epoch, until everything is acknowledged or nobody can know."""
        requests = self._requests[first:]
        sequences = [1]
        for request in requests:
            sequences.append(sequences[-1] + request.records)
        self._doubt = False
        self._acked = self._next = 0
        while self._acked < len(requests) and not self._doubt:
            if self._next < min(len(requests), self._acked + self._window):
                number = self._next
                self._next += 1
                producer = Producer(_producer_id(self.name), self._epoch, sequences[number])
                records = self._records[first + number]
                append = Append(records, (), None, producer, segment)
                hear = partial(self._hear, self._epoch, sequences, requests[number], number)
                self._send(requests[number], append, hear)
                await self._raw.loop.pause(int(self._chance.fraction() * self._pause_ns_max))
            elif not await self._change():
                self._next = self._acked

    def _send(self, request: Request, append: Append, hear: Hear) -> None:
        def deliver(life: LogLife) -> None:
            log = life.log
            if not log.accepting:
                log.recover_soon()
                return
            try:
                log.offer(append, partial(self._told, request, append, hear, life))
            except PerdureError as error:
                self._raw.failed(life, error)

        request.copies += self._channel.send(deliver)

    def _told(
        self, request: Request, append: Append, hear: Hear, life: LogLife, answer: Answer
    ) -> None:
        """In the node's process: the log has answered."""
        if life is not self._raw.life:
            return
        try:
            self._raw.history.told(request, append, answer)
        except InvariantViolation as violation:
            self._raw.report(violation)
            return
        if not isinstance(answer, Committed):
            self._raw.trace.add(self.name, f"{request.number}: {answer!r}")
        self._channel.reply(partial(hear, answer))

    def _hear(
        self, epoch: int, sequences: list[int], request: Request, number: int, answer: Answer
    ) -> None:
        """An answer has come back, perhaps much too late."""
        if epoch != self._epoch or self._doubt:
            return
        match answer:
            case Committed() | Duplicate():
                request.acknowledged = True
                self._acked = max(self._acked, number + 1)
                self._next = max(self._next, self._acked)
            case OutOfOrder(expected):
                if expected not in sequences:
                    raise InvariantViolation(
                        "what is expected begins an append", f"{self.name}: {answer}"
                    )
                self._next = max(self._acked, min(self._next, sequences.index(expected)))
            case Overloaded():
                return
            case _:
                self._doubt = True
                self._raw.trace.add(self.name, f"epoch {epoch} is in doubt: {answer!r}")
        self._changed.set()

    async def _change(self) -> bool:
        """Wait until an answer has come; False when none comes in time."""
        loop = self._raw.loop
        self._changed.clear()
        timed_out = False

        def give_up() -> None:
            nonlocal timed_out
            timed_out = True
            self._changed.set()

        timer = loop.call_at_ns(loop.now_ns + self._patience_ns, give_up)
        await self._changed.wait()
        timer.cancel()
        return not timed_out

    async def _counted(self, segment: int) -> int:
        """How many groups count, once the counter has read the segment to its sealed end."""
        while True:
            life = await self._raw.up()
            end_lsn = end_of_segment(life.log, segment)
            if end_lsn and self._counter.next_lsn >= end_lsn:
                return len(self._counter.counted.get(self.name, []))
            if not life.log.accepting:
                life.log.recover_soon()
            await self._raw.loop.pause(2 * MS)


class AppenderClient:
    """Uses `Appender` in each life of the node; what a crash leaves open is not sent again."""

    def __init__(self, name: str, raw: LogHome, chance: Chance, *, requests: int) -> None:
        """Append so many groups."""
        self.name = name
        self._raw = raw
        self._chance = chance
        self._pause_ns_max = chance.pick((1, 5, 20)) * MS
        self._left = requests
        self._made = 0
        self._done = asyncio.Event()

    async def run(self) -> None:
        """Wait until all of them were sent and answered, or are for ever open."""
        await self._done.wait()

    async def in_life(self, life: LogLife) -> None:
        """In the node's process: send what is left. Raises PerdureError."""
        raw = self._raw
        producer = _producer_id(self.name)
        epoch = life.number * EPOCHS_PER_LIFE
        async with Appender(life.log, producer, loop=raw.loop, epoch=epoch) as appender:
            while self._left:
                await raw.loop.pause(int(self._chance.fraction() * self._pause_ns_max))
                request = Request(self.name, self._made, self._chance.pick((1, 1, 3)), True)
                self._made += 1
                self._left -= 1
                raw.history.requests.append(request)
                future = await appender.submit(request.make(()))
                future.add_done_callback(partial(self._answered, life, request))
            await appender.flush()
        self._done.set()

    def _answered(self, life: LogLife, request: Request, future: "asyncio.Future[Answer]") -> None:
        if future.cancelled():
            return
        error = future.exception()
        if life is not self._raw.life:
            return
        if error is not None:
            if not isinstance(error, PerdureError):
                raise error
            # Nothing was written, says `submit`.
            request.refused = repr(error)
            self._raw.failed(life, error)
            return
        answer = future.result()
        self._raw.trace.add(self.name, f"{request.number}: {answer!r}")
        match answer:
            case Committed(first_lsn):
                self._raw.history.told(request, Append([]), answer)
                request.acknowledged = True
                request.committed_lsn = first_lsn
            case Sealed():
                request.refused = repr(answer)
            case Indeterminate():
                return
            case _:
                raise InvariantViolation("no sound append is refused", f"{request.name}: {answer}")


def _touched(chance: Chance, keys: list[bytes]) -> tuple[bytes, ...] | None:
    """What a record without a condition touches: mostly nothing, now and then what others want."""
    if chance.happens(0.05):
        return None
    return (chance.pick(keys),) if chance.happens(0.2) else ()
