"""LogKeeper: logs go on on fit log-servers by themselves, soon, once, and lose nothing."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from perdure.core.errors import PerdureError
from perdure.core.ids import LogId
from perdure.core.tasks import TaskScope
from perdure.log import Committed, LogEntry, LogReader, Logs, Record, VirtualLog
from perdure.log.chain import loglet_id
from perdure.log.placement import LogServer
from perdure.log.replicated.messages import Delete, Reply, Request, Trim
from perdure.log.replicated.provider import Replication
from perdure.metadata.memory import MemoryMetadataStore
from perdure.node.log_keeper import LogKeeper
from perdure.testing.simulation.chance import Chance
from perdure.testing.simulation.loop import SimulationLoop, run_simulated
from perdure.testing.simulation.network import SimulationNetwork
from perdure.testing.simulation.replicated.machines import NodeMachine, ServerMachine
from perdure.testing.simulation.trace import Trace

PATIENCE = 5.0


class World:
    """Log-servers on a virtual clock, a node that orders logs on them, and what all see of them."""

    def __init__(self, loop: SimulationLoop, *, servers: int, logs: int, seed: int) -> None:
        trace = Trace(loop)
        self.loop = loop
        self.failures: list[BaseException] = []
        network = SimulationNetwork(
            loop,
            trace=trace,
            chance=Chance(seed, "network"),
            delay_ns=(20_000, 200_000),
            cut_heard_ns_max=1_000_000,
            on_failure=self.failures.append,
        )
        self.addresses: dict[str, str] = {}
        self.drained: set[str] = set()
        self.storages: dict[str, str] = {}
        self.machines = {
            f"s{number}": ServerMachine(
                f"s{number}",
                loop=loop,
                network=network,
                trace=trace,
                chance=Chance(seed, f"s{number}"),
                addresses=self.addresses,
            )
            for number in range(1, servers + 1)
        }
        self.node = NodeMachine(
            "s1",
            loop=loop,
            network=network,
            seed=seed,
            addresses=self.addresses,
            entries=self.entries,
            replication=Replication(2),
            on_failure=self.failures.append,
        )
        self.node.start()
        self.scope = TaskScope("keeper", on_failure=self.failures.append)
        self.logs = Logs(
            metadata=MemoryMetadataStore(),
            providers=[self.node.provider],
            loop=loop,
            default_kind="replicated",
        )
        self.count = logs
        self.keeper = LogKeeper(
            self.node.provider,
            opened=self.logs.opened,
            patience_seconds=PATIENCE,
            loop=loop,
            scope=self.scope,
        )
        self.acknowledged: dict[int, list[bytes]] = {number: [] for number in range(logs)}
        self.changing: set[int] = set()

    def entries(self) -> list[LogServer]:
        """What everybody knows of the servers."""
        found = []
        for name, machine in self.machines.items():
            if machine.server is not None:
                self.storages[name] = machine.server.storage
            if name not in self.storages:
                continue
            alive = machine.server is not None
            drained = name in self.drained
            found.append(
                LogServer(
                    name,
                    self.storages[name],
                    writable=not drained,
                    alive=alive,
                    unwanted="is drained" if drained else "",
                )
            )
        return found

    async def begin(self, *without: str) -> list[VirtualLog]:
        """Start the servers and lead the logs."""
        for name, machine in self.machines.items():
            if name not in without:
                await machine.start()
        opened = []
        for number in range(self.count):
            log = await self.logs.open(LogId(number), create=True)
            await log.lead()
            opened.append(log)
            self._watch(log)
        self.keeper.start()
        return opened

    def _watch(self, log: VirtualLog) -> None:
        """Two changes of one log at once are a violation."""
        reconfigure = log.reconfigure

        async def watched(kind: str | None = None) -> object:
            assert log.log not in self.changing
            self.changing.add(log.log)
            try:
                return await reconfigure(kind)
            finally:
                self.changing.discard(log.log)

        log.reconfigure = watched  # type: ignore[method-assign,assignment]

    async def append(self, log: VirtualLog) -> None:
        """One more record, to be found in the end if it is acknowledged."""
        body = f"{log.log}/{len(self.acknowledged[log.log])}".encode()
        if isinstance(await log.append([Record(1, body)]), Committed):
            self.acknowledged[log.log].append(body)

    def kill(self, name: str) -> None:
        self.machines[name].crash(power=False)

    def copies(self, log: VirtualLog, from_lsn: int = 1) -> set[int]:
        """On how many disks of its nodeset each committed batch is, from an LSN on."""
        found: dict[bytes, int] = {}
        for segment in log.chain.segments:
            if segment.base_lsn < from_lsn:
                continue
            placement = segment.params.placement
            assert placement is not None
            prefix = b"r" + segment.params.loglet.to_bytes(8, "big")
            for member in placement.members:
                for key in self.machines[member.node].disk.rows():
                    if key.startswith(prefix):
                        found[key] = found.get(key, 0) + 1
        return set(found.values())

    async def check(self, log: VirtualLog) -> None:
        """Everything that was acknowledged is there, once and in order."""
        tail = (await log.find_tail()).lsn
        bodies: list[bytes] = []
        if tail > 1:
            async for item in LogReader(log, 1, to_lsn=tail - 1):
                assert isinstance(item, LogEntry)
                bodies.append(item.record.body)
        told = self.acknowledged[log.log]
        assert [body for body in bodies if body in set(told)] == told

    async def end(self) -> None:
        self.keeper.stop()
        self.scope.cancel()
        await self.scope.close()
        await self.node.crash()
        assert not self.failures


def members(log: VirtualLog) -> list[str]:
    placement = log.chain.tail.params.placement
    assert placement is not None
    return sorted(member.node for member in placement.members)


def run(
    story: Callable[[World], Awaitable[None]], *, servers: int = 4, logs: int = 1, seed: int = 1
) -> None:
    loop = SimulationLoop()

    async def main() -> None:
        world = World(loop, servers=servers, logs=logs, seed=seed)
        await story(world)
        await world.end()

    run_simulated(main(), loop)


def test_a_dead_member_is_replaced_after_a_while_and_nothing_is_lost() -> None:
    async def story(world: World) -> None:
        (log,) = await world.begin()
        await world.append(log)
        before = members(log)
        gone = next(name for name in before if name != "s1")
        world.kill(gone)
        await asyncio.sleep(PATIENCE - 1)
        assert members(log) == before
        assert f"{gone} is dead" in world.keeper.warnings()[0]
        await asyncio.sleep(3)
        assert (gone in members(log), len(members(log))) == (False, 3)
        await world.append(log)
        await asyncio.sleep(120)
        assert world.keeper.changes == 1
        await world.check(log)

    run(story)


def test_a_short_death_changes_nothing() -> None:
    async def story(world: World) -> None:
        (log,) = await world.begin()
        gone = next(name for name in members(log) if name != "s1")
        for _ in range(5):
            world.kill(gone)
            await asyncio.sleep(PATIENCE - 2)
            await world.machines[gone].start()
            await asyncio.sleep(1.5)
        assert world.keeper.changes == 0

    run(story)


def test_without_anybody_to_take_the_place_of_a_dead_one_nothing_is_changed() -> None:
    async def story(world: World) -> None:
        (log,) = await world.begin()
        world.kill("s3")
        await asyncio.sleep(60)
        assert world.keeper.changes == 0
        await world.append(log)
        assert len(world.acknowledged[0]) == 1

    run(story, servers=3)


def test_a_drained_member_goes_and_one_that_is_taken_back_counts_again() -> None:
    async def story(world: World) -> None:
        (log,) = await world.begin()
        await world.append(log)
        world.drained.add("s3")
        await asyncio.sleep(PATIENCE + 2)
        assert members(log) == ["s1", "s2"]
        world.drained.clear()
        await asyncio.sleep(4 * PATIENCE)
        assert members(log) == ["s1", "s2", "s3"]
        assert world.keeper.changes == 2
        assert world.keeper.warnings() == []
        await world.check(log)

    run(story, servers=3)


def test_a_replaced_disk_counts_as_a_new_member() -> None:
    async def story(world: World) -> None:
        (log,) = await world.begin()
        await world.append(log)
        world.kill("s2")
        world.machines["s2"].lose_disk()
        await world.machines["s2"].start()
        await asyncio.sleep(PATIENCE + 2)
        placement = log.chain.tail.params.placement
        assert placement is not None
        assert {member.storage for member in placement.members} == set(world.storages.values())
        # The old segment says what it has lost for as long as it is there.
        assert "segments of logs 0 are under-replicated" in world.keeper.warnings()[0]
        await world.check(log)

    run(story, servers=3)


def test_a_log_that_began_small_grows_when_the_others_are_there() -> None:
    async def story(world: World) -> None:
        (log,) = await world.begin("s3")
        assert members(log) == ["s1", "s2"]
        await world.machines["s3"].start()
        await asyncio.sleep(PATIENCE + 2)
        assert members(log) == ["s1", "s2", "s3"]

    run(story, servers=3)


def test_what_cannot_be_finished_leaves_the_log_open() -> None:
    async def story(world: World) -> None:
        (log,) = await world.begin()
        world.drained |= {"s2", "s3"}
        await asyncio.sleep(30)
        await world.append(log)
        assert (world.keeper.changes, len(world.acknowledged[0])) == (0, 1)
        # Nor does an operator's word seal what could go on nowhere.
        with pytest.raises(PerdureError, match="a new segment needs 2 log-servers"):
            await log.reconfigure()
        await world.append(log)
        assert len(world.acknowledged[0]) == 2

    run(story, servers=3)


def test_few_logs_change_at_a_time() -> None:
    async def story(world: World) -> None:
        logs = await world.begin()
        world.drained.add("s3")
        await asyncio.sleep(PATIENCE + 1.5)
        assert 1 <= world.keeper.changes <= 3
        await asyncio.sleep(15)
        assert world.keeper.changes == 9
        assert all(members(log) == ["s1", "s2"] for log in logs)

    run(story, servers=3, logs=9)


def test_who_flaps_costs_fewer_and_fewer_changes() -> None:
    async def story(world: World) -> None:
        await world.begin()
        for _ in range(60):
            world.drained ^= {"s3"}
            await asyncio.sleep(3 * PATIENCE)
        # 60 reasons in a quarter of an hour.
        assert 4 <= world.keeper.changes <= 12

    run(story, servers=3)


def rows(world: World, name: str, log: VirtualLog, below: int) -> int:
    """How many batches a server's disk has of a log's segments below an index."""
    first, end = (b"r" + loglet_id(log.log, index).to_bytes(8, "big") for index in (0, below))
    return sum(first <= key < end for key in world.machines[name].disk.rows())


@pytest.mark.parametrize("place", ["a member still", "of the nodeset before"])
def test_what_was_deleted_while_a_server_was_away_goes_when_it_is_back(place: str) -> None:
    async def story(world: World) -> None:
        (log,) = await world.begin()
        for _ in range(5):
            await world.append(log)
        await log.reconfigure()
        await world.append(log)
        away = members(log)[-1]
        world.kill(away)
        if place == "of the nodeset before":
            await asyncio.sleep(PATIENCE + 2)
        assert (away in members(log)) == (place == "a member still")
        deleted = log.chain.tail.index
        assert rows(world, away, log, deleted) > 0
        await log.trim(log.chain.tail.base_lsn - 1)
        assert log.chain.segments[0].index == deleted
        await world.machines[away].start()
        await asyncio.sleep(3)
        assert [rows(world, name, log, deleted) for name in world.machines] == [0] * 4

    run(story)


def test_what_was_trimmed_while_a_server_was_away_goes_when_it_is_back() -> None:
    async def story(world: World) -> None:
        (log,) = await world.begin()
        for _ in range(20):
            await world.append(log)
        world.kill("s3")
        assert await log.trim(15) == 15
        assert rows(world, "s3", log, 99) > 5
        await world.machines["s3"].start()
        await asyncio.sleep(3)
        assert rows(world, "s3", log, 99) == 5

    run(story, servers=3)


def test_a_server_is_told_once_per_connection() -> None:
    async def story(world: World) -> None:
        (log,) = await world.begin()
        await world.append(log)
        await log.reconfigure()
        await world.append(log)
        await log.trim(1)
        await asyncio.sleep(3)
        asked: list[object] = []
        for name in ("s1", "s2", "s3"):
            client = world.node.provider._clients.client(name)
            ask = client.ask

            def counted(
                make: Callable[[int], Request],
                answered: Callable[[Reply | None], None],
                ask: Callable[..., int] = ask,
            ) -> int:
                asked.append(make(0))
                return ask(make, answered)

            client.ask = counted  # type: ignore[method-assign]
        await asyncio.sleep(30)
        assert not [item for item in asked if isinstance(item, Delete | Trim)]

    run(story, servers=3)


def test_each_record_has_its_copies_though_a_server_was_away() -> None:
    """What a member missed it never gets, and needs not: a write quorum of the others has it."""

    async def story(world: World) -> None:
        (log,) = await world.begin()
        for name in ("s2", "s3", "s1"):
            for _ in range(4):
                await world.append(log)
            world.kill(name)
            for _ in range(4):
                await world.append(log)
            await world.machines[name].start()
        await asyncio.sleep(1)
        assert world.copies(log) == {2, 3}
        # A segment that is placed anew, once they are back, has all that follows three times.
        await log.reconfigure()
        base = log.chain.tail.base_lsn
        for _ in range(4):
            await world.append(log)
        await asyncio.sleep(1)
        assert world.copies(log, base) == {3}
        await world.check(log)

    run(story, servers=3)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_logs_end_on_fit_servers_and_lose_nothing(seed: int) -> None:
    async def story(world: World) -> None:
        chance = Chance(seed, "story")
        logs = await world.begin()
        names = [name for name in world.machines if name != "s1"]

        async def append() -> None:
            while True:
                for log in logs:
                    await world.append(log)
                await asyncio.sleep(1)

        appending = world.node.scope.spawn(append(), name="append")
        for _ in range(chance.between(3, 12)):
            name = chance.pick(names)
            machine = world.machines[name]
            drawn = chance.fraction()
            if machine.server is None:
                await machine.start()
            elif drawn < 0.4:
                world.drained ^= {name}
            elif all(world.machines[other].server is not None for other in names):
                # One at a time: two copies bear no more.
                world.kill(name)
            await asyncio.sleep(chance.fraction() * 4 * PATIENCE)
        world.drained.clear()
        for machine in world.machines.values():
            if machine.server is None:
                await machine.start()
        await asyncio.sleep(400)
        appending.cancel()
        before = world.keeper.changes
        await asyncio.sleep(320)
        assert world.keeper.changes == before
        assert world.keeper.warnings() == []
        for log in logs:
            assert len(members(log)) == 3
            assert min(world.copies(log)) >= 2
            await world.check(log)
        assert all(world.acknowledged.values())

    run(story, servers=5, logs=2, seed=seed)
