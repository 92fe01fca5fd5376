"""A world of one replicated loglet: who works with it, and how it ends."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from ....core.errors import PerdureError, StorageError
from ....core.ids import LogId
from ....core.tasks import TaskScope
from ....log.batch_codec import batch_key
from ....log.chain import Segment
from ....log.errors import LogClosedError, LogletSealedError, LogUnavailableError, TrimmedError
from ....log.loglet import Loglet
from ....log.placement import LogServer as LogServerEntry
from ....log.replicated.provider import Replication
from ....log.types import Batch, Record
from ..chance import Chance
from ..loop import SimulationLoop
from ..network import SimulationNetwork
from ..trace import Trace
from ..violation import InvariantViolation, require
from .faults import Faults
from .history import LogletHistory
from .loss import AcceptedLoss
from .machines import MS, SEQUENCER, NodeMachine, ServerMachine

READERS: Final = ("r1", "r2")
SEALER: Final = "z"

_SHAPES: Final = (
    (3, Replication(2, 1)),
    (3, Replication(2, 1)),
    (4, Replication(2, 2)),
    (5, Replication(3, 1)),
    (2, Replication(2, 1)),
)
"""Servers and how often each batch is kept; servers are in two zones by turns."""


@dataclass(frozen=True, slots=True)
class LogletWorldOptions:
    """What a world may be told.

    Attributes:
        end_ns: virtual time at which everything must be done.
        groups_max: groups of records that the sequencer appends at most.
        fault_kinds: those that strike; drawn by the seed when None.
        seal_chance: how often an operation of a reader is a seal; drawn by the seed when None.
        loss: whether more disks are lost than it bears, and an operator accepts that; drawn by the
            seed when None, unless it is told which faults strike.
    """

    end_ns: int = 60_000_000_000
    groups_max: int = 60
    fault_kinds: tuple[str, ...] | None = None
    seal_chance: float | None = None
    loss: bool | None = None


class LogletWorld:
    """Everything in one world.

    Attributes:
        servers, nodes: by name.
        history: what anybody was told.
        loss: of more disks than it bears, where that is to be.
    """

    def __init__(self, seed: int, options: LogletWorldOptions, loop: SimulationLoop) -> None:
        """Draw the world of a seed."""
        self.loop = loop
        self.options = options
        self.trace = Trace(loop)
        chance = Chance(seed, "world")
        self._chance = chance
        self.scope = TaskScope("world", on_failure=self._failed)
        slow_ns = chance.pick((100_000, MS, 5 * MS))
        self.network = SimulationNetwork(
            loop,
            trace=self.trace,
            chance=Chance(seed, "network"),
            delay_ns=(20_000, slow_ns),
            cut_heard_ns_max=chance.pick((1, 20, 80)) * MS,
            on_failure=self._failed,
        )
        self.addresses: dict[str, str] = {}
        count, replication = chance.pick(_SHAPES)
        self.replication = replication
        self.servers = {
            f"s{item}": ServerMachine(
                f"s{item}",
                loop=loop,
                network=self.network,
                trace=self.trace,
                chance=Chance(seed, f"s{item}"),
                addresses=self.addresses,
            )
            for item in range(1, count + 1)
        }
        self.nodes = {
            name: NodeMachine(
                name,
                loop=loop,
                network=self.network,
                seed=seed,
                addresses=self.addresses,
                entries=self._entries,
                replication=replication,
                on_failure=self._failed,
            )
            for name in (SEQUENCER, *READERS, SEALER)
        }
        self.history = LogletHistory(self._copies)
        self.faults = Faults(self, Chance(seed, "faults"), options.fault_kinds)
        chosen = None if options.fault_kinds is None else False
        self.loss = AcceptedLoss(
            self, Chance(seed, "loss"), chosen if options.loss is None else options.loss
        )
        drawn = chance.pick((0.0, 0.01, 0.1))
        self._seal_chance = drawn if options.seal_chance is None else options.seal_chance
        self._trim_chance = chance.pick((0.0, 0.0, 0.05))
        self._think_ns_max = chance.pick((1, 4, 15)) * MS
        self._operations = chance.pick((8, 20, 40))
        self.operations_done = 0

    def _entries(self) -> list[LogServerEntry]:
        return [
            LogServerEntry(name, machine.server.storage, f"zone {position % 2}")
            for position, (name, machine) in enumerate(self.servers.items())
            if machine.server is not None
        ]

    def _failed(self, failure: BaseException) -> None:
        """Something in the product, or in here, raised what nobody expects."""
        if isinstance(failure, LogClosedError):
            return  # Of a node that has crashed.
        if self.loop.failure is None:
            self.loop.failure = failure

    def _copies(self, batch: Batch) -> bool | None:
        if batch.first_offset <= self.history.trim_asked:
            return None
        if any(machine.lost for machine in self.servers.values()):
            return None
        placement = self.segment.params.placement
        assert placement is not None
        key = b"r" + batch_key(self.segment.params.loglet, batch.last_offset)
        having = [
            position
            for position, member in enumerate(placement.members)
            if self.servers[member.node].disk.durable_in_some_form(key)
        ]
        return placement.is_write_quorum(having)

    def loglet(self, name: str) -> Loglet:
        """A node's loglet in its present life."""
        return self.nodes[name].provider.open(self.segment)

    # The story -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """From the first event to the last check. Raises InvariantViolation."""
        for server in self.servers.values():
            await server.start()
        for node in self.nodes.values():
            node.start()
        params = self.nodes[SEQUENCER].provider.params(LogId(0), 1, 1, 0)
        self.segment = Segment(1, 1, self.nodes[SEQUENCER].provider.kind, params)
        self.loglet(SEALER)  # So that it is connected when it is needed.
        work = [self.spawn(SEQUENCER, self._append, "append")]
        work += [self.spawn(name, self._observe(name), "observe") for name in READERS]
        work.append(self.spawn(SEQUENCER, self._observe(SEQUENCER), "observe"))
        await self.faults.run(200 * MS * self._chance.between(1, 4), work)
        await self.loss.strike()
        await self.faults.heal()
        if self.loss.wanted:
            await self._end_with_loss()
            return
        for task in work:
            await asyncio.wait([task], timeout=10)
        self.trace.add("world", "everything is mended, and the loglet is sealed")
        await self._end()

    async def _end(self) -> None:
        """Seal it, and have everybody read all of it. Raises InvariantViolation."""
        for name in (SEALER, *self.nodes):
            loglet = self.loglet(name)
            try:
                if name == SEALER:
                    await loglet.seal()
                before = self.history.asks_tail()
                state = await loglet.find_tail()
                self.history.tail_is(name, before, state)
                batches = await self._read_all(name, loglet)
            except PerdureError as error:
                raise InvariantViolation(
                    "everything is possible once all is mended", f"{name}: {error}"
                ) from error
            self.history.check_end(name, state, loglet.trim_point, batches)
        for node in self.nodes.values():
            await node.crash()

    async def _end_with_loss(self) -> None:
        """Have an operator accept it, then everybody read what is left, and the log go on."""
        await self.loss.end(SEALER)
        if self.loss.accepted:
            end = self.history.sealed_tail
            for name in (SEALER, *self.nodes):
                await self.loss.read_all(name, self.loglet(name), end)
            await self.loss.nobody_gives(self.loglet(SEALER))
            await self.loss.go_on(SEALER, end)
        for node in self.nodes.values():
            await node.crash()

    async def _read_all(self, name: str, loglet: Loglet) -> list[Batch]:
        found: list[Batch] = []
        offset = loglet.trim_point + 1
        while True:
            try:
                batches = await loglet.read(offset, 400)
            except TrimmedError as error:
                self.history.trimmed(name, error.trim_point)
                offset, found = error.trim_point + 1, []
                continue
            if not batches:
                return found
            self.history.read(name, offset, batches)
            found += batches
            offset = batches[-1].last_offset + 1

    def spawn(
        self, name: str, work: Callable[[], Coroutine[Any, Any, None]], what: str
    ) -> "asyncio.Task[None]":
        """Have something run on a node, until it crashes."""
        return self.nodes[name].scope.spawn(work(), name=what)

    async def crash_node(self, name: str) -> None:
        """End a life of a node and begin the next one, which only reads."""
        self.trace.add(name, "crashes")
        await self.nodes[name].crash()
        self.nodes[name].start()
        self.trace.add(name, f"begins life {self.nodes[name].generation}")
        self.spawn(name, self._observe(name), "observe")

    def seal_from(self, name: str) -> None:
        """Have a node seal the loglet and find its tail."""

        async def seal() -> None:
            loglet = self.loglet(name)
            before = self.history.asks_tail()
            self.trace.add(name, "seals")
            try:
                await loglet.seal()
                self.history.tail_is(name, before, await loglet.find_tail())
            except (LogClosedError, LogUnavailableError) as error:
                self.trace.add(name, f"does not seal: {error.code}")

        self.spawn(name, seal, "seal")

    # Those who work with it ----------------------------------------------------------------------

    async def _append(self) -> None:
        loglet = self.loglet(SEQUENCER)
        loglet.listen(self._told)
        chance = self._chance
        for _ in range(self.options.groups_max):
            bodies = [
                f"{len(self.history.assigned) + item + 1}".encode().ljust(chance.pick((8, 90)))
                for item in range(chance.pick((1, 1, 2, 5)))
            ]
            try:
                offset = loglet.enqueue([Record(1, body) for body in bodies])
            except (LogletSealedError, LogClosedError):
                return
            self.history.took(offset, bodies)
            if chance.happens(0.7):
                await self.loop.pause(int(chance.fraction() * self._think_ns_max))

    def _told(self, batch: Batch) -> None:
        self.trace.add(SEQUENCER, f"commits {batch.first_offset} to {batch.last_offset}")
        try:
            self.history.told(batch)
        except InvariantViolation as violation:
            # The loglet would take it for a failure of its own.
            self._failed(violation)

    def _observe(self, name: str) -> Callable[[], Coroutine[Any, Any, None]]:
        async def observe() -> None:
            chance = self._chance
            for _ in range(self._operations):
                await self.loop.pause(int(chance.fraction() * self._think_ns_max))
                try:
                    await self._operate(name, self.loglet(name), chance)
                except LogClosedError:
                    return
                except (LogUnavailableError, StorageError) as error:
                    require(
                        isinstance(error, LogUnavailableError), "nothing is damaged", str(error)
                    )
                    self.trace.add(name, "unavailable")
                self.operations_done += 1

        return observe

    async def _operate(self, name: str, loglet: Loglet, chance: Chance) -> None:
        history = self.history
        before = history.asks_tail()
        drawn = chance.fraction()
        if drawn < self._seal_chance:
            self.trace.add(name, "seals")
            await loglet.seal()
            history.tail_is(name, before, await loglet.find_tail())
        elif drawn < self._seal_chance + self._trim_chance:
            wanted = chance.between(0, history.tail)
            history.trim_asked = max(history.trim_asked, wanted)
            point = await loglet.trim(wanted)
            self.trace.add(name, f"trims to {wanted}, gets {point}")
            history.trimmed(name, point)
        elif drawn < 0.55:
            state = await loglet.find_tail()
            self.trace.add(name, f"finds {state.offset}, {'sealed' if state.sealed else 'open'}")
            history.tail_is(name, before, state)
        elif drawn < 0.8:
            await self._read_on(name, loglet, chance)
        else:
            try:
                async with asyncio.timeout(0.03):
                    await loglet.wait_for_tail(loglet.committed_tail)
            except TimeoutError:
                return

    async def _read_on(self, name: str, loglet: Loglet, chance: Chance) -> None:
        """Read from somewhere up to the tail that was there before."""
        history = self.history
        before = history.asks_tail()
        state = await loglet.find_tail()
        history.tail_is(name, before, state)
        offset = chance.between(1, state.offset)
        while offset < state.offset:
            try:
                batches = await loglet.read(offset, chance.pick((1, 300, 4000)))
            except TrimmedError as error:
                history.trimmed(name, error.trim_point)
                offset = error.trim_point + 1
                continue
            require(bool(batches), "what is below a tail can be read", f"{name} at {offset}")
            history.read(name, offset, batches)
            offset = batches[-1].last_offset + 1
        self.trace.add(name, f"has read up to {offset}")
