"""One life of a whole simulated node: the real server as a process between simulated ports."""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ....core.errors import PerdureError
from ....core.options import Assignment
from ....ingress.errors import NotLeaderError
from ....node.cluster.parts import ClusterParts
from ....node.engine import NodeEngine
from ....node.options import NodeOptions, load_node_options
from ....node.ports import NodePorts
from ....node.server import NodeServer
from ..chance import Chance
from ..cluster.network import PORT
from ..disk import SimulationDisk, SimulationSyncRunner
from ..loop import WALL_START_NS
from ..processes import Process

if TYPE_CHECKING:
    from .world import NodesWorld

MS: Final = 1_000_000
S: Final = 1_000_000_000
CLUSTER: Final = "simulated"
DISKS: Final = ("metadata-server", "store", "log")
SNAPSHOTS: Final = "/snapshots"


def address_of(name: str) -> str:
    """Where a node listens."""
    return f"{name}:{PORT}"


def member_options(name: str, settings: dict[str, str]) -> NodeOptions:
    """The options of a node: short waits, patient retries, and what is set for its world."""
    base_dir = Path(tempfile.gettempdir()) / "perdure-simulation" / "nodes"
    everywhere = {
        "node.name": name,
        "node.cluster": CLUSTER,
        "node.base_dir": str(base_dir),
        "listen.node": address_of(name),
        "listen.insecure": "true",
        "log.keep_records": "0",
        "log.trim_interval": "200ms",
        "retry.initial_interval": "10ms",
        "retry.max_interval": "300ms",
        "retry.max_attempts": "1000000",
        "limits.stop_grace": "2s",
    }
    return load_node_options(
        assignments=[Assignment(key, value) for key, value in (everywhere | settings).items()]
    )


class NodeClock:
    """The clocks of one machine: somewhat off, and a little fast or slow.

    Attributes:
        shift_ns: by how much its wall clock is off; may be changed at any time.
    """

    def __init__(self, world: "NodesWorld", chance: Chance) -> None:
        """Draw how wrong it is."""
        self._loop = world.loop
        self.shift_ns = chance.pick((0, 0, 20 * MS, -20 * MS, 900 * MS, -900 * MS))
        self._start_ns = chance.between(1, 40_000) * S
        self._drift = chance.between(-500, 500)

    def time_ns(self) -> int:
        """Wall clock, nanoseconds since 1970."""
        return WALL_START_NS + self.shift_ns + self._elapsed_ns()

    def monotonic_ns(self) -> int:
        """Since some start of its own."""
        return self._start_ns + self._elapsed_ns()

    def _elapsed_ns(self) -> int:
        now_ns = self._loop.now_ns
        return now_ns + now_ns * self._drift // 1_000_000


class _WatchedServer(NodeServer):
    """Tells of its engine before that starts."""

    on_engine: Callable[[NodeEngine], None]

    def _make_engine(self, parts: ClusterParts | None) -> NodeEngine:
        engine = super()._make_engine(parts)
        self.on_engine(engine)
        return engine


class SimulatedMember:
    """A node from its start to its crash or its orderly end.

    Attributes:
        process: what runs it.
        server: the real thing.
        engine: its engine; None until it has joined.
        up: its process is there, held up or not.
        leaving: it was asked to stop.
    """

    def __init__(
        self,
        world: "NodesWorld",
        name: str,
        options: NodeOptions,
        disks: dict[str, SimulationDisk],
    ) -> None:
        """Prepare; `start` follows."""
        self._world = world
        self.name = name
        self.life = world.lives
        self.disks = disks
        self.process = Process(name)
        self.clock = world.clocks[name]
        self.engine: NodeEngine | None = None
        self.up = False
        self.leaving = False
        self.server = self.process.context().run(self._make_server, options)
        self._task: asyncio.Task[None] | None = None

    def _make_server(self, options: NodeOptions) -> NodeServer:
        world = self._world
        server = _WatchedServer(
            options,
            clock=self.clock,
            random=world.chance(f"{self.name}/{self.life}"),
            ports=NodePorts(
                transport=world.network.transport(self.name),
                open_store=self.disks.__getitem__,
                make_sync_runner=lambda name: SimulationSyncRunner(world.loop, self.disks[name]),
                files=world.files,
                doors=False,
            ),
        )
        server.on_engine = self._engine_made
        return server

    def start(self) -> None:
        """Begin to run."""
        self.up = True
        self._task = self.process.start(self._world.loop, self.server.run(), name=self.name)
        self._task.add_done_callback(self._ended)

    def _engine_made(self, engine: NodeEngine) -> None:
        self.engine = engine
        # A world is short, and so are its logs: the product waits longer and for more.
        engine.snapshots.CHECK_SECONDS = 0.05  # type: ignore[misc]
        engine.snapshots.RETRY_SECONDS = 0.2  # type: ignore[misc]
        engine._trimmer.RECORDS_MIN = 1  # type: ignore[misc]
        self._world.checks.watch(self, engine)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled() or self.process.gone:
            return
        self.up = False
        error = task.exception()
        if error is not None and not isinstance(error, PerdureError):
            raise error
        if isinstance(error, NotLeaderError) and self.leaving:
            error = None  # It was stopped before it had joined.
        self._world.ended(self, error)

    @property
    def serves(self) -> bool:
        """Whether its doors are open to clients."""
        return self.up and self.server.ready.is_set()

    def leave(self) -> None:
        """Stop in good order, as on SIGTERM; what becomes of it is told to the world."""
        self.leaving = True
        self.process.call(self._world.loop, self.server.request_stop)

    def kill(self) -> None:
        """Its process ends at once."""
        self.up = False
        self.process.kill(self._world.loop.tasks_of(self.process))
