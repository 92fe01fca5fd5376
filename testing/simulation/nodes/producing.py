"""In some worlds every node appends to a log of nobody's partition, wherever it is ordered.

A program on each node uses `Appender`, some of its appends on conditions. The log is led where an
operator wants it; whoever orders it may die, be cut off, or be slow, as any node of the world.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from ....core.errors import PerdureError
from ....core.ids import LogId
from ....log.answers import (
    Answer,
    Committed,
    Conflict,
    Indeterminate,
    NotChangedSince,
    StaleSnapshot,
)
from ....log.appender import Appender
from ....log.errors import MalformedAppendError
from ....log.reader import LogEntry, LogReader
from ....log.sequencer import Append
from ....log.virtual_log import VirtualLog
from ..chance import Chance
from ..disk import SimulationDisk
from ..log_checkers import check_log_end
from ..log_history import LogHistory, Request
from ..observer import LogObserver, LogRecord
from ..violation import InvariantViolation, require
from .member import MS, S, SimulatedMember

if TYPE_CHECKING:
    from .world import NodesWorld

SHARE: Final = 0.25
"""So many of the worlds."""

LOG: Final = LogId(1000)

REQUESTS_MAX: Final = 400
"""Of all nodes together in one world."""

EPOCHS_PER_LIFE: Final = 1000
"""An Appender takes fewer epochs in one life of a node."""

SETTLED_NS: Final = 30 * S
"""So long after the last fault everything that was submitted is answered."""

_KEYS: Final = tuple(bytes([number]) * 16 for number in range(3))


class Producing:
    """The programs, who leads their log, and what they were told.

    Draws from a stream of its own, so that worlds without are what they would be without it.

    Attributes:
        wanted: whether this is such a world.
        history: what was asked for, and how it was answered.
    """

    def __init__(self, world: "NodesWorld", chance: Chance, wanted: bool | None) -> None:
        """Draw whether there are any, unless it is `wanted` or not."""
        self._world = world
        self._chance = chance
        self.wanted = chance.happens(SHARE) if wanted is None else wanted
        self._pause_ms_max = chance.pick((100, 300, 1_000))
        self._lead_ms_max = chance.pick((500, 3_000, 10_000))
        self._over = False
        self._running: dict[str, tuple[SimulatedMember, asyncio.Task[None]]] = {}
        self.history = LogHistory(LogObserver(LOG), self._no_disk)

    @staticmethod
    def _no_disk() -> SimulationDisk:
        raise AssertionError("records of many disks are looked for by reading")

    @property
    def acknowledged(self) -> int:
        """How many appends were."""
        return sum(request.acknowledged for request in self.history.requests)

    async def run(self, until: Callable[[], bool]) -> None:
        """Append until it is over, then wait for all answers and check the log.

        Raises InvariantViolation.
        """
        if not self.wanted:
            return
        loop = self._world.loop
        next_lead_ns = loop.now_ns
        while not until():
            if loop.now_ns >= next_lead_ns:
                next_lead_ns = loop.now_ns + self._chance.between(1, self._lead_ms_max) * MS
                self._have_somebody_lead()
            self._start_programs()
            await loop.pause(50 * MS)
        self._over = True
        await self._settle()
        await self._check()

    # Who leads -----------------------------------------------------------------------------------

    def _have_somebody_lead(self) -> None:
        ready = [member for member in self._world.members.values() if self._ready(member)]
        if ready:
            member = self._chance.pick(ready)
            member.process.start(self._world.loop, self._lead(member), name="lead a log")

    async def _lead(self, member: SimulatedMember) -> None:
        log = await self._opened(member)
        if log is None:
            return
        try:
            await log.lead()
        except PerdureError as error:
            self._world.trace.add(member.name, f"does not lead log {LOG}: {error.code}")
        else:
            self._world.trace.add(member.name, f"leads log {LOG}")

    @staticmethod
    def _ready(member: SimulatedMember) -> bool:
        return member.up and not member.leaving and member.engine is not None

    async def _opened(self, member: SimulatedMember) -> VirtualLog | None:
        """The log at a node, None when that cannot open it now."""
        assert member.engine is not None
        try:
            return await member.engine.logs.open(LOG, create=True)
        except PerdureError as error:
            self._world.trace.add(member.name, f"does not open log {LOG}: {error.code}")
            return None

    # Programs ------------------------------------------------------------------------------------

    def _start_programs(self) -> None:
        """One in each life of a node."""
        for member in self._world.members.values():
            before = self._running.get(member.name)
            if self._ready(member) and (before is None or before[0] is not member):
                task = member.process.start(
                    self._world.loop, self._append(member), name=f"appends of {member.name}"
                )
                self._running[member.name] = member, task

    async def _append(self, member: SimulatedMember) -> None:
        world = self._world
        client = f"{member.name}/{member.life}"
        chance = world.chance(f"appends of {client}")
        producer = member.name.encode().rjust(16, b".")
        epoch = member.life * EPOCHS_PER_LIFE
        seen: dict[bytes, int] = dict.fromkeys(_KEYS, 0)
        number = 0
        while (log := await self._opened(member)) is None:
            await world.loop.pause(50 * MS)
        try:
            async with Appender(log, producer, loop=world.loop, epoch=epoch) as appender:
                while not self._over and len(self.history.requests) < REQUESTS_MAX:
                    request = Request(client, number, chance.pick((1, 1, 3)), numbered=True)
                    number += 1
                    self.history.requests.append(request)
                    key = chance.pick(_KEYS)
                    conditions = (NotChangedSince(key, seen[key]),) if chance.happens(0.3) else ()
                    records = request.make((key,) if conditions or chance.happens(0.3) else ())
                    self.history.sending(request, Append(records, conditions))
                    future = await appender.submit(records, conditions=conditions)
                    future.add_done_callback(partial(self._answered, request, seen, key))
                    if not chance.happens(0.3):
                        await world.loop.pause(chance.between(1, self._pause_ms_max) * MS)
        except PerdureError as error:
            world.trace.add(client, f"appends no more: {error.code}")

    def _answered(
        self,
        request: Request,
        seen: dict[bytes, int],
        key: bytes,
        future: "asyncio.Future[Answer]",
    ) -> None:
        """In the node's process."""
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            if not isinstance(error, PerdureError):
                raise error
            # Nothing was written, says `submit`.
            require(
                not isinstance(error, MalformedAppendError),
                "no sound append is refused",
                f"{error}",
            )
            request.refused = repr(error)
            return
        answer = future.result()
        self._world.trace.add(request.client, f"{request.number}: {answer!r}")
        match answer:
            case Committed(first_lsn):
                request.acknowledged = True
                request.committed_lsn = first_lsn
                seen[key] = max(seen[key], answer.last_lsn)
            case Conflict(_, lsn) | StaleSnapshot(lsn):
                request.refused = repr(answer)
                seen[key] = max(seen[key], lsn)
            case Indeterminate():
                return
            case _:
                raise InvariantViolation("no sound append is refused", f"{request.name}: {answer}")

    # The end -------------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """All faults are over: with somebody to lead, everything is answered."""
        world = self._world
        by_ns = world.loop.now_ns + SETTLED_NS
        next_lead_ns = 0
        while waiting := [
            member.name
            for member, task in self._running.values()
            if not task.done() and member is world.members[member.name] and member.up
        ]:
            require(world.loop.now_ns < by_ns, "appends are answered once all is well", waiting)
            if world.loop.now_ns >= next_lead_ns:
                next_lead_ns = world.loop.now_ns + 2 * S
                self._have_somebody_lead()
            await world.loop.pause(20 * MS)

    async def _check(self) -> None:
        """All nodes read the same, and it is what was asked for and told."""
        logs: list[list[LogRecord]] = []
        for name in self._world.names:
            while not self._ready(member := self._world.members[name]):
                await self._world.loop.pause(50 * MS)
            records: list[LogRecord] = []
            await member.process.start(
                self._world.loop, self._read(member, records), name="read a log"
            )
            logs.append(records)
            require(
                records == logs[0],
                "everybody reads the same log",
                f"{member.name} reads {len(records)}, another node {len(logs[0])} records",
            )
        check_log_end(logs[0], self.history)

    async def _read(self, member: SimulatedMember, records: list[LogRecord]) -> None:
        while (log := await self._opened(member)) is None:
            await self._world.loop.pause(50 * MS)
        tail = await log.find_tail()
        async for item in LogReader(log, 1, to_lsn=tail.lsn - 1):
            assert isinstance(item, LogEntry), "nobody trims it"
            records.append(LogRecord(item.lsn, item.record_time_ns, item.epoch, item.record))
