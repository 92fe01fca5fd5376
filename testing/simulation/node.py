"""One life of a simulated node: the real engine between simulated disks and a simulated network."""

import tempfile
from collections.abc import Callable, Coroutine
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from ...core.errors import PerdureError
from ...core.metrics import Metrics
from ...core.net.peers import VERSION, Introduction, introduced
from ...core.options import Assignment
from ...core.protocol.session import SESSION_SERVICE
from ...core.storage.files import Files
from ...ingress.errors import NotLeaderError
from ...log.remote.messages import SERVICE as APPEND_SERVICE
from ...log.remote.server import AppendServer
from ...node.engine import NodeEngine
from ...node.options import NodeOptions, load_node_options
from .chance import Chance
from .disk import SimulationDisk, SimulationSyncRunner
from .loop import SimulationClock
from .network import SimulationListener, SimulationNetwork

NODE: Final = "node"
NODE_ADDRESS: Final = "node:5122"
SNAPSHOTS: Final = "/snapshots"
CLUSTER: Final = "world"
"""Its fingerprint, for processes that append to the node's logs."""


@lru_cache(maxsize=64)
def node_options(
    sync_inline: str,
    trim_interval: str,
    inactivity_timeout: str,
    abort_timeout: str,
    snapshot_records: int = 0,
) -> NodeOptions:
    """The options of simulated nodes: one partition, short waits, patient retries.

    Args:
        snapshot_records: how many lie between two snapshots; 0 for no snapshots.
    """
    base_dir = Path(tempfile.gettempdir()) / "perdure-simulation"
    return load_node_options(
        assignments=[
            Assignment(*text.split("=", 1))
            for text in (
                f"node.base_dir={base_dir}",
                "partitions.count=1",
                f"log.sync_inline={sync_inline}",
                f"log.trim_interval={trim_interval}",
                "log.keep_records=0",
                f"snapshots.directory={SNAPSHOTS if snapshot_records else ''}",
                f"snapshots.interval_records={snapshot_records}",
                "snapshots.interval=300ms",
                f"retry.inactivity_timeout={inactivity_timeout}",
                f"retry.abort_timeout={abort_timeout}",
                "retry.initial_interval=10ms",
                "retry.max_interval=300ms",
                "retry.max_attempts=1000000",
            )
        ]
    )


class SimulatedNode:
    """A node from its start to its crash or its orderly end.

    Attributes:
        engine: the real thing; None until it was built.
        leading: every partition leads and workers are let in.
        gone: it crashed or ended; nothing that its engine still does counts.
    """

    def __init__(
        self,
        options: NodeOptions,
        *,
        disks: dict[str, SimulationDisk],
        network: SimulationNetwork,
        clock: SimulationClock,
        chance: Chance,
        on_failure: Callable[["SimulatedNode", PerdureError], None],
        files: Files | None = None,
        alter: Callable[["SimulatedNode"], None] | None = None,
        generation: int = 1,
    ) -> None:
        """Prepare; `alter` is called once the engine is built, before it starts.

        Args:
            generation: which life of the node this is.
        """
        self._options = options
        self.disks = disks
        self._network = network
        self._clock = clock
        self._chance = chance
        self._on_failure = on_failure
        self._files = files
        self._alter = alter
        self._generation = generation
        self._listener: SimulationListener | None = None
        self._appends: AppendServer | None = None
        self.engine: NodeEngine | None = None
        self._sync_runners: list[SimulationSyncRunner] = []
        self.leading = False
        self.gone = False

    async def start(self) -> None:
        """Recover and lead. Raises PerdureError."""
        self.engine = NodeEngine(
            self._options,
            open_store=self.disks.__getitem__,
            clock=self._clock,
            random=self._chance,
            metrics=Metrics(),
            on_failure=self._failed,
            make_sync_runner=self._make_sync_runner,
            files=self._files,
        )
        # A world lives for a second or two.
        self.engine.snapshots.CHECK_SECONDS = 0.02  # type: ignore[misc]
        self.engine.snapshots.RETRY_SECONDS = 0.1  # type: ignore[misc]
        # A world's logs are short; the product waits for more records before it trims.
        self.engine._trimmer.RECORDS_MIN = 1  # type: ignore[misc]
        if self._alter is not None:
            self._alter(self)
        await self.engine.start()
        if self.gone:
            raise NotLeaderError("the node has crashed while it started")
        name = self._options.node.name
        self._appends = AppendServer(self.engine.logs.find, node=name, loop=self._network.loop)
        me = Introduction(VERSION, CLUSTER, name, self._generation)
        self._listener = await self._network.transport(NODE).listen(
            NODE_ADDRESS,
            {
                SESSION_SERVICE: self.engine.reception.serve,
                APPEND_SERVICE: introduced(me, self._appends.serve),
            },
        )
        self.leading = True

    def _make_sync_runner(self, name: str) -> SimulationSyncRunner:
        runner = SimulationSyncRunner(self._network.loop, self.disks[name])
        self._sync_runners.append(runner)
        return runner

    def _failed(self, error: PerdureError) -> None:
        if not self.gone:
            self._on_failure(self, error)

    def abort(self) -> Callable[[], Coroutine[Any, Any, None]] | None:
        """Be gone as with the process; gives what waits until its tasks have unwound."""
        self.gone = True
        self.leading = False
        for runner in self._sync_runners:
            runner.close()
        if self.engine is not None:
            self.engine.stop(NotLeaderError("the node has crashed"))
        if self._listener is None or self._appends is None:
            return None
        ended, appends = self._listener.abort(), self._appends

        async def unwind() -> None:
            await ended()
            await appends.close()

        return unwind

    async def close(self) -> None:
        """End in good order, as on SIGTERM."""
        assert self.engine is not None
        await self.engine.finish_requests()
        self.gone = True
        self.leading = False
        self.engine.stop(NotLeaderError("the node is shutting down"))
        if self._appends is not None:
            await self._appends.close()
        if self._listener is not None:
            await self._listener.close()
        self.engine.close()

    def positions(self) -> tuple[int, int] | None:
        """The last LSN applied and the first one not committed; None while it does not lead."""
        if self.engine is None:
            return None
        processor = self.engine.manager.processors[0]
        if processor.log is None or processor.role not in ("candidate", "leader"):
            return None
        return processor.status().applied_lsn, processor.log.committed_tail_lsn

    async def change_segment(self, *, by_stranger: bool) -> None:
        """Have the log go on in a new segment; a stranger only seals the old one.

        Raises PerdureError when the node is not up to it, or gives up meanwhile.
        """
        assert self.engine is not None
        log = self.engine.manager.processors[0].log
        if log is None or not self.leading:
            return
        if by_stranger:
            await log._loglet(log.chain.tail).seal()
        else:
            await log.reconfigure()

    def stopped_by(self) -> str:
        """Why the partition has stopped by itself, empty while it works."""
        if self.engine is None or self.gone:
            return ""
        processor = self.engine.manager.processors[0]
        return processor.error if processor.role == "stopped" else ""
