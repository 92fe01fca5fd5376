"""More disks lost than a loglet bears, and an operator who accepts it (`logs seal --accept-loss`).

What may be missing afterwards is exact: a record of which no disk that is left had a copy when the
others were lost. Everything else that was acknowledged has to be there, for every reader the same,
and the log goes on behind it in another segment.
"""

from typing import Final, Protocol

from ....core.errors import PerdureError, StorageError
from ....core.ids import LogId
from ....log.batch_codec import KEY, batch_key, decode_batch
from ....log.chain import Segment
from ....log.errors import LogClosedError, LogUnavailableError, TrimmedError
from ....log.loglet import Loglet
from ....log.placement import Placement
from ....log.replicated.holdings import RANGES_SHOWN, SegmentHoldings
from ....log.types import Batch, Record
from ..chance import Chance
from ..trace import Trace
from ..violation import InvariantViolation, require
from .faults import Breakable, Faults
from .history import LogletHistory
from .machines import MS, SEQUENCER, ServerMachine

SHARE: Final = 0.2
"""Of the worlds whose shape has something to lose."""

_SETTLES_NS: Final = 1_000 * MS
"""After the disks were lost: what was under way has arrived then, or never does."""


class Losable(Breakable, Protocol):
    """The world in which disks are lost."""

    trace: Trace
    history: LogletHistory
    faults: Faults
    segment: Segment

    def loglet(self, name: str) -> Loglet:
        """A node's loglet in its present life."""
        ...


class AcceptedLoss:
    """Loses the disks, ends the loglet by an operator's word, and looks at what is left.

    Draws from a stream of its own, so that other worlds are what they would be without it.

    Attributes:
        wanted: whether this is such a world.
        accepted: the operator was not refused.
        missing: offsets that nobody gives any more.
    """

    def __init__(self, world: Losable, chance: Chance, wanted: bool | None) -> None:
        """Draw whether this is such a world, unless it is `wanted` or not."""
        self._world = world
        self._chance = chance
        self.wanted = chance.happens(SHARE) if wanted is None else wanted
        self.accepted = False
        self.missing: set[int] = set()
        self._victims: list[ServerMachine] = []
        self._left: list[ServerMachine] = []

    # Losing --------------------------------------------------------------------------------------

    async def strike(self) -> None:
        """While everybody is at work: lose so many disks that nothing but a word ends it.

        Some world has too few servers for that, or stands too badly already: then nothing happens.
        """
        world, chance = self._world, self._chance
        if not self.wanted or not self._choose():
            self.wanted = False
            return
        if chance.happens(0.5):
            # What is committed meanwhile may be on those alone that are about to be lost.
            for server in self._left:
                if server is self._left[0] or chance.happens(0.5):
                    world.network.block(SEQUENCER, server.name)
            await world.loop.pause(chance.between(1, 150) * MS)
        if chance.happens(0.4):
            await world.crash_node(SEQUENCER)
        # Another fault may have taken one of them meanwhile.
        self._left = [server for server in self._left if not server.lost]
        for server in self._victims:
            if not server.lost:
                world.faults.burn(server)
        world.history.may_be_lost = frozenset(
            set(range(1, len(world.history.assigned) + 1)) - self._kept()
        )
        world.trace.add("world", f"only on lost disks: {sorted(world.history.may_be_lost)}")

    def _choose(self) -> bool:
        servers = list(self._world.servers.values())
        placement = self._placement
        position = {member.node: number for number, member in enumerate(placement.members)}
        members = [server for server in servers if server.name in position]
        lost = [server for server in members if server.lost]
        others = [server for server in members if not server.lost]
        while len(others) > 1:
            lost.append(others.pop(self._chance.between(0, len(others) - 1)))
            left = [position[server.name] for server in others]
            decides = placement.may_decide(left, [position[server.name] for server in lost])
            if not decides and not placement.is_f_majority(left):
                self._left = others
                self._victims = [server for server in lost if not server.lost]
                return True
        return False

    @property
    def _placement(self) -> Placement:
        placement = self._world.segment.params.placement
        assert placement is not None
        return placement

    def _kept(self) -> set[int]:
        """The offsets of which a disk that is left has a copy that survives whatever comes."""
        prefix = b"r" + batch_key(self._world.segment.params.loglet, 0)[: KEY.size // 2]
        found: set[int] = set()
        for server in self._left:
            for key, value in server.disk.durable_rows().items():
                if key.startswith(prefix) and len(key) == 1 + KEY.size:
                    batch = decode_batch(key[1:], value)
                    found.update(range(batch.first_offset, batch.last_offset + 1))
        return found

    # Ending it -----------------------------------------------------------------------------------

    async def end(self, name: str) -> None:
        """Once all is mended: an operator at a node accepts the loss, where the product lets him.

        Raises InvariantViolation.
        """
        world = self._world
        await world.loop.pause(_SETTLES_NS)
        if not self._left or world.history.sealed_tail:
            # Who is told an end writes it into the chain of the log.
            world.trace.add(name, "is refused: nobody is left, or it has ended")
            return
        # What these knew of an end without telling it is not in the chain, so it is nowhere.
        for node in world.nodes:
            if node != SEQUENCER:
                await world.crash_node(node)
        held = await self._look(name)
        left = {server.name for server in self._left}
        answered = [item for item in held.servers if item.node in left]
        require(
            all(item.status == "ok" for item in answered),
            "who is left answers",
            f"{[(item.node, item.status) for item in held.servers]}",
        )
        tail = max(max(item.tail, item.known_tail) for item in answered)
        if world.history.shown >= tail:
            # A replica has applied more than is left: the log would go on with other records.
            world.trace.add(name, f"is refused: {world.history.shown} was read, {tail} is left")
            return
        self.accepted = True
        lost = [member.node for member in self._placement.members if member.node not in left]
        world.trace.add(name, f"accepts the loss of {', '.join(lost)}: {tail} is left")
        world.nodes[name].provider.give_up(world.segment, lost)
        self._hold_up(self._chance.pick(self._left).name)
        loglet = world.loglet(name)
        try:
            await loglet.seal()
        except PerdureError as error:
            raise InvariantViolation("an accepted loss ends the loglet", f"{error}") from error
        before = world.history.asks_tail()
        state = await loglet.find_tail()
        world.history.tail_is(name, before, state)
        require(state.offset >= tail, "what is left stays", f"{state}, there was {tail}")
        held = await self._look(name)
        there = [item for item in held.servers if item.node in left and item.status == "ok"]
        if any(len(item.missing) == RANGES_SHOWN for item in there):
            return
        for offset in range(held.first_offset, state.offset):
            if all(_lacks(item.missing, offset) for item in there):
                self.missing.add(offset)
        require(
            self.missing <= world.history.may_be_lost,
            "only what lay on lost disks alone is lost",
            f"{sorted(self.missing - world.history.may_be_lost)}",
        )

    def _hold_up(self, server: str) -> None:
        """Have one of those that are left answer late: it has to be waited for."""
        world = self._world
        if self._chance.happens(0.5):
            world.network.freeze(server)
            at_ns = world.loop.now_ns + self._chance.between(20, 800) * MS
            world.loop.call_at_ns(at_ns, world.network.thaw, server)

    async def _look(self, name: str) -> SegmentHoldings:
        held = await self._world.nodes[name].provider.holdings(self._world.segment, 1, 1 << 62, 1)
        assert held is not None, "it has log-servers"
        return held

    # What is left --------------------------------------------------------------------------------

    async def read_all(self, name: str, loglet: Loglet, end: int) -> None:
        """Have somebody read everything that is left. Raises InvariantViolation."""
        world = self._world
        try:
            state = await loglet.find_tail()
        except LogClosedError:
            require(name == SEQUENCER, "others learn of the end without a word", name)
            return  # It had acknowledged more, and goes no further.
        require(
            state.sealed and state.offset == end,
            "others learn of the end without a word",
            f"{name}: {state}, not {end}",
        )
        offset = loglet.trim_point + 1
        while offset < end:
            if offset in self.missing:
                offset += 1
                continue
            try:
                batches = await loglet.read(offset, 400)
            except TrimmedError as error:
                offset = error.trim_point + 1
                continue
            except (LogUnavailableError, StorageError) as error:
                raise InvariantViolation(
                    "everything that is left can be read", f"{name} at {offset}: {error}"
                ) from error
            require(bool(batches), "everything that is left can be read", f"{name} at {offset}")
            world.history.read(name, offset, batches)
            offset = batches[-1].last_offset + 1

    async def nobody_gives(self, loglet: Loglet) -> None:
        """What is missing is told to be, and nothing else is given for it."""
        if self.missing:
            offset = min(self.missing)
            try:
                found = await loglet.read(offset, 400)
            except (LogUnavailableError, TrimmedError):
                return
            require(False, "nothing is made up for what is lost", f"{offset}: {found}")

    async def go_on(self, name: str, end: int) -> None:
        """The log goes on in another segment, which everybody reads. Raises InvariantViolation."""
        world = self._world
        provider = world.nodes[name].provider
        segment = Segment(2, end, provider.kind, provider.params(LogId(0), 2, 2, 0))
        loglet = provider.open(segment)
        told: list[Batch] = []
        loglet.listen(told.append)
        bodies = [f"more {number}".encode() for number in range(self._chance.between(1, 20))]
        for body in bodies:
            loglet.enqueue([Record(1, body)])
        by_ns = world.loop.now_ns + 10_000 * MS
        while sum(len(batch.records) for batch in told) < len(bodies):
            require(world.loop.now_ns < by_ns, "the log goes on", f"{len(told)} batches")
            await world.loop.pause(5 * MS)
        for reader, node in world.nodes.items():
            view = node.provider.open(segment)
            found: list[bytes] = []
            while len(found) < len(bodies):
                batches = await view.read(len(found) + 1)
                found += [record.body for batch in batches for record in batch.records]
                if not batches:
                    await world.loop.pause(5 * MS)
            require(found == bodies, "the log goes on", f"{reader}: {found}")


def _lacks(missing: tuple[tuple[int, int], ...], offset: int) -> bool:
    return any(first <= offset <= last for first, last in missing)
