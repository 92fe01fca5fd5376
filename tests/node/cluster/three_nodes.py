"""Three real nodes on one virtual clock, in one process."""

import asyncio
from asyncio import Task

from perdure.core.ids import LogId
from perdure.log import VirtualLog
from perdure.node.engine import NodeEngine
from perdure.node.ports import NodePorts
from perdure.node.server import NodeServer
from perdure.testing.simulation.chance import Chance
from perdure.testing.simulation.disk import SimulationDisk, SimulationSyncRunner
from perdure.testing.simulation.files import SimulationFiles
from perdure.testing.simulation.loop import SimulationClock, SimulationLoop
from perdure.testing.simulation.network import SimulationNetwork
from perdure.testing.simulation.nodes.member import DISKS, address_of, member_options
from perdure.testing.simulation.trace import Trace

NAMES = ("n1", "n2", "n3")
LOG = LogId(1000)
"""No partition's: these records are nobody's commands."""

SETTINGS = {
    "cluster.metadata_servers": ",".join(map(address_of, NAMES)),
    "cluster.provision": "true",
    "partitions.count": "1",
}


class Cluster:
    """Three nodes on one virtual clock."""

    def __init__(self, loop: SimulationLoop, settings: dict[str, str] | None = None) -> None:
        self.loop = loop
        self._settings = SETTINGS | (settings or {})
        self._files = SimulationFiles()
        trace = Trace(loop)
        self.network = SimulationNetwork(
            loop, trace=trace, chance=Chance(1, "network"), delay_ns=(50_000, 200_000)
        )
        self.servers = {name: self._server(name, trace) for name in NAMES}
        self._tasks: dict[str, Task[None]] = {}

    def _server(self, name: str, trace: Trace) -> NodeServer:
        disks = {
            disk: SimulationDisk(
                f"{name}/{disk}", trace=trace, chance=Chance(1, name + disk), sync_delay_ns_max=0
            )
            for disk in DISKS
        }
        return NodeServer(
            member_options(name, self._settings),
            clock=SimulationClock(self.loop),
            random=Chance(1, name),
            ports=NodePorts(
                transport=self.network.transport(name),
                open_store=disks.__getitem__,
                make_sync_runner=lambda store: SimulationSyncRunner(self.loop, disks[store]),
                files=self._files,
                doors=False,
            ),
        )

    async def start(self) -> None:
        self._tasks = {
            name: asyncio.ensure_future(server.run()) for name, server in self.servers.items()
        }
        for server in self.servers.values():
            await server.ready.wait()

    def engine(self, name: str) -> NodeEngine:
        engine = self.servers[name]._engine
        assert engine is not None
        return engine

    async def log(self, name: str) -> VirtualLog:
        """A log that is no partition's, as a node knows it."""
        return await self.engine(name).logs.open(LOG, create=True)

    async def leader(self) -> str:
        """Wait until a node leads partition 0; gives its name."""
        while True:
            for name in self._tasks:
                if self.engine(name).manager.processors[0].role == "leader":
                    return name
            await asyncio.sleep(0.01)

    async def stop_one(self, name: str) -> None:
        """Stop a node in good order."""
        self.servers[name].request_stop()
        await self._tasks.pop(name)

    async def stop(self) -> None:
        for name in self._tasks:
            self.servers[name].request_stop()
        await asyncio.wait(self._tasks.values())
        for task in self._tasks.values():
            task.result()
