"""Appending to a log of a real cluster on a node that does not order it."""

import asyncio
from asyncio import Task

from perdure.core.ids import LogId
from perdure.log import Appender, Committed, Conflict, NotChangedSince, Record, VirtualLog
from perdure.node.engine import NodeEngine
from perdure.node.ports import NodePorts
from perdure.node.server import NodeServer
from perdure.testing.simulation.chance import Chance
from perdure.testing.simulation.disk import SimulationDisk, SimulationSyncRunner
from perdure.testing.simulation.files import SimulationFiles
from perdure.testing.simulation.loop import SimulationClock, SimulationLoop, run_simulated
from perdure.testing.simulation.network import SimulationNetwork
from perdure.testing.simulation.nodes.member import DISKS, address_of, member_options
from perdure.testing.simulation.trace import Trace

NAMES = ("n1", "n2", "n3")
LOG = LogId(1000)
"""No partition's: these records are nobody's commands."""

KEY = b"k" * 16
SETTINGS = {
    "cluster.metadata_servers": ",".join(map(address_of, NAMES)),
    "cluster.provision": "true",
    "partitions.count": "1",
}


class Cluster:
    """Three nodes on one virtual clock."""

    def __init__(self, loop: SimulationLoop) -> None:
        self.loop = loop
        trace = Trace(loop)
        self.network = SimulationNetwork(
            loop, trace=trace, chance=Chance(1, "network"), delay_ns=(50_000, 200_000)
        )
        self.servers = {name: self._server(name, trace) for name in NAMES}
        self._tasks: list[Task[None]] = []

    def _server(self, name: str, trace: Trace) -> NodeServer:
        disks = {
            disk: SimulationDisk(
                f"{name}/{disk}", trace=trace, chance=Chance(1, name + disk), sync_delay_ns_max=0
            )
            for disk in DISKS
        }
        return NodeServer(
            member_options(name, SETTINGS),
            clock=SimulationClock(self.loop),
            random=Chance(1, name),
            ports=NodePorts(
                transport=self.network.transport(name),
                open_store=disks.__getitem__,
                make_sync_runner=lambda store: SimulationSyncRunner(self.loop, disks[store]),
                files=SimulationFiles(),
                doors=False,
            ),
        )

    async def start(self) -> None:
        self._tasks = [asyncio.ensure_future(server.run()) for server in self.servers.values()]
        for server in self.servers.values():
            await server.ready.wait()

    def engine(self, name: str) -> NodeEngine:
        engine = self.servers[name]._engine
        assert engine is not None
        return engine

    async def log(self, name: str) -> VirtualLog:
        return await self.engine(name).logs.open(LOG, create=True)

    async def stop(self) -> None:
        for server in self.servers.values():
            server.request_stop()
        await asyncio.wait(self._tasks)
        for task in self._tasks:
            task.result()


def test_every_node_appends_to_every_log_and_follows_its_leader() -> None:
    loop = SimulationLoop(jitter=Chance(1, "timers"), jitter_ns_max=50_000)

    async def scenario() -> None:
        cluster = Cluster(loop)
        await cluster.start()
        first, second, third = [await cluster.log(name) for name in NAMES]
        await first.lead()
        assert await second.append([Record(1, b"a", (KEY,))]) == Committed(1, 1)
        on_condition = [NotChangedSince(KEY, 0)]
        refused = await third.append([Record(1, b"b", (KEY,))], conditions=on_condition)
        assert refused == Conflict(KEY, 1)
        async with Appender(third, b"p" * 16, loop=loop) as appender:
            answers = [await appender.submit([Record(1, b"%d" % n)]) for n in range(20)]
            await second.lead()
            answers += [await appender.submit([Record(1, b"%d" % n)]) for n in range(20, 40)]
            cluster.network.cut("n2")
            answers += [await appender.submit([Record(1, b"%d" % n)]) for n in range(40, 60)]
        assert {type(answer.result()) for answer in answers} == {Committed}
        tail = (await first.find_tail()).lsn
        records: list[Record] = []
        while len(records) < tail - 1:
            for item in await first.read(len(records) + 1):
                records += item.batch.records
        assert [record.body for record in records] == [b"a", *[b"%d" % n for n in range(60)]]
        await cluster.stop()

    run_simulated(scenario(), loop, until_ns=120_000_000_000)
    assert loop.now_ns > 0
