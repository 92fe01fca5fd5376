"""One node of a small cluster: partitions, dispatcher and a worker on a loop of their own."""

from collections.abc import Callable, Mapping
from functools import partial

from perdure.core.ids import InvocationId
from perdure.core.protocol.session import SESSION_SERVICE
from perdure.core.storage.memory import MemoryStore
from perdure.core.tasks import TaskScope
from perdure.ingress.dispatcher import Dispatcher
from perdure.log.logs import Logs
from perdure.node.engine import handling_defaults
from perdure.partition_processor.invoker.reception import WorkerReception
from perdure.partition_processor.invoker.silence import SilenceWatch
from perdure.partition_processor.manager import PartitionManager
from perdure.partition_processor.processor import PartitionProcessor
from perdure.partition_processor.records import Deliver
from perdure.partition_processor.role_changes import Placement
from perdure.sdk.run_worker import run_worker
from perdure.testing.simulation.chance import Chance
from perdure.testing.simulation.loop import SimulationClock
from perdure.testing.simulation.network import SimulationNetwork
from perdure.testing.simulation.trace import Trace
from perdure.testing.simulation.workload import make_app
from perdure.testing.simulation.world import node_options

from .loops import Line, StepLoop
from .shared_log import NodeMetadata, NodeProvider

ADDRESS = "node:5122"
RESEND_NS = 100_000_000


class ClusterManager(PartitionManager):
    """Partitions that send their messages over the wire where the destination is led elsewhere."""

    peers: "dict[str, tuple[Line, ClusterManager]]"

    def carry(self, destination: int, deliver: Deliver) -> bool:
        if self.processors[destination].leading:
            return super().carry(destination, deliver)
        for line, manager in self.peers.values():
            line.post(partial(manager.arrive, destination, deliver))
        return True

    def arrive(self, destination: int, deliver: Deliver) -> None:
        if self.processors[destination].leading:
            self.processors[destination].propose_now(deliver)

    def taken(self, source: int, destination: int, last: int, gap: bool) -> None:
        if self.processors[source].leading:
            super().taken(source, destination, last, gap)
            return
        for line, manager in self.peers.values():
            line.post(partial(manager.was_taken, source, destination, last, gap))

    def was_taken(self, source: int, destination: int, last: int, gap: bool) -> None:
        if self.processors[source].leading:
            super().taken(source, destination, last, gap)

    def resend_all(self) -> None:
        """What is on a wire may be lost."""
        for destination in range(len(self.processors)):
            self.resend(destination)


class Node:
    """A node; everything of it runs on `loop`."""

    def __init__(
        self,
        name: str,
        *,
        partitions: int,
        loop: StepLoop,
        provider: NodeProvider,
        metadata: NodeMetadata,
        trace: Trace,
        chance: Callable[[str], Chance],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self.name = name
        self.loop = loop
        self.trace = trace
        self.store = MemoryStore()
        self.clock = SimulationClock(loop)
        self.digests: dict[tuple[int, int], str] = {}
        self.scope = TaskScope(name, on_failure=on_failure)
        self._chance = chance
        options = node_options("always", "10s", "60s", "10m")
        self.network = SimulationNetwork(
            loop,
            trace=trace,
            chance=chance(f"{name} network"),
            delay_ns=(0, 500_000),
            on_failure=on_failure,
        )
        self.trimmed: list[tuple[int, int]] = []
        self.manager = ClusterManager(
            partition_count=partitions,
            node=name,
            store=self.store,
            metadata=metadata,
            loop=loop,
            clock=self.clock,
            random=chance(f"{name} random"),
            defaults=handling_defaults(options),
            scope=self.scope,
            on_failure=on_failure,
            on_parked=lambda _processor, error: on_failure(error),
        )
        self.manager.peers = {}
        provider.on_turn = self.finish_turn
        finish_turn = self.manager.finish_turn

        def noted() -> None:
            finish_turn()
            self.note_digests()

        self.manager.finish_turn = noted  # type: ignore[method-assign]
        self.logs = Logs(
            metadata=metadata,
            providers=[provider],
            loop=loop,
            default_kind="shared",
            on_turn=self.finish_turn,
        )
        self.dispatcher = Dispatcher(
            self.manager,
            clock=self.clock,
            random=chance(f"{name} dispatcher"),
            body_bytes_max=1 << 20,
            in_flight_max_per_partition=1_000,
            active_max_per_partition=10_000,
        )
        self.reception = WorkerReception(
            invoker=self.manager.invoker,
            register=self.manager.register,
            node_name=name,
            cluster="cluster",
            loop=loop,
            clock=self.clock,
        )
        self.ready = False

    def finish_turn(self) -> None:
        self.manager.finish_turn()

    def note_digests(self) -> None:
        for processor in self.manager.processors:
            progress = processor._machine.progress()
            if progress.applied_lsn == processor.written_lsn:
                key = (int(processor.partition), progress.applied_lsn)
                self.digests[key] = progress.digest.hex()

    async def start(self, placement: Mapping[int, Placement]) -> None:
        """Take a placement; a worker is connected on return."""
        await self.manager.start(self.logs, placement=placement)
        await self.network.transport(self.name).listen(
            ADDRESS, {SESSION_SERVICE: self.reception.serve}
        )
        SilenceWatch(self.manager.invoker, self.loop).start()
        app = make_app(self.loop, self._chance(f"{self.name} steps"), self.trace)
        self.scope.spawn(
            run_worker(
                app,
                [ADDRESS],
                deployment="dp",
                code_hash="0" * 64,
                transport=self.network.transport("worker"),
                clock=self.clock,
                random=self._chance(f"{self.name} worker"),
                name="worker",
            ),
            name="worker",
        )
        while not self.manager.invoker.sessions:
            await self.loop.pause(1_000_000)
        self.ready = True
        while True:
            await self.loop.pause(RESEND_NS)
            self.manager.resend_all()

    def processor_of(self, invocation_id: InvocationId) -> PartitionProcessor:
        return self.manager.processor_of(invocation_id)

    def roles(self) -> list[str]:
        return [processor.role for processor in self.manager.processors]
