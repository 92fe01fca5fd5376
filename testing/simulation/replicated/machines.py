"""The machines of a loglet's world: log-servers on simulated disks, and nodes that use them."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from ....core.errors import StorageError
from ....core.net.peers import VERSION, Introduction, Peers, introduced
from ....core.retry import RetryPolicy
from ....core.tasks import FailureCallback, TaskScope
from ....log.local.writer import LogWriter, SyncPolicy
from ....log.placement import LogServer as LogServerEntry
from ....log.replicated.messages import SERVICE
from ....log.replicated.provider import ReplicatedProvider, Replication
from ....log.replicated.server import LogServer, LogServerLimits
from ....log.replicated.server_store import ServerStore
from ....log.replicated.view import LogletOptions
from ....log.standalone import NoMetrics
from ..chance import Chance
from ..disk import SimulationDisk, SimulationSyncRunner
from ..loop import SimulationClock, SimulationLoop
from ..network import SimulationListener, SimulationNetwork
from ..trace import Trace

CLUSTER: Final = "world"
SEQUENCER: Final = "q"
"""The node that makes the loglet, in its first life."""

MS: Final = 1_000_000
OPTIONS: Final = LogletOptions(
    unavailable_after=4.0, answer=0.06, retry=(0.001, 0.03), wait=0.05, abandoned_after=0.1
)
_RETRY: Final = RetryPolicy(
    initial_interval_ns=2 * MS, factor=2.0, interval_max_ns=40 * MS, attempts_max=None
)


class ServerMachine:
    """One log-server over all of its lives.

    Attributes:
        name: of the node.
        disk: as it is now.
        server: of the life that is up, None between two of them.
        lost: whether it has lost a disk.
    """

    def __init__(
        self,
        name: str,
        *,
        loop: SimulationLoop,
        network: SimulationNetwork,
        trace: Trace,
        chance: Chance,
        addresses: dict[str, str],
    ) -> None:
        """Begin with an empty disk; `start` brings it up."""
        self.name = name
        self.lost = False
        self.server: LogServer | None = None
        self._loop = loop
        self._network = network
        self._trace = trace
        self._chance = chance
        self._addresses = addresses
        self._listener: SimulationListener | None = None
        self._writer: LogWriter | None = None
        self._sync_delay_ns = chance.pick((0, 1, 4)) * MS
        self._inline = chance.happens(0.3)
        self._staged_bytes_max = chance.pick((200, 4000, 1 << 30))
        self.disk = self._new_disk()

    def _new_disk(self) -> SimulationDisk:
        return SimulationDisk(
            self.name, trace=self._trace, chance=self._chance, sync_delay_ns_max=self._sync_delay_ns
        )

    @property
    def failed(self) -> bool:
        """Whether its disk has failed in this life."""
        return self._writer is not None and self._writer.failure is not None

    async def start(self) -> None:
        """Bring it up. Raises StorageError when the disk fails at once."""
        writer = LogWriter(
            kv_store=self.disk,
            loop=self._loop,
            clock=SimulationClock(self._loop),
            policy=SyncPolicy("always" if self._inline else "never"),
            metrics=NoMetrics(),
            on_turn=_nothing,
            on_failure=lambda error: self._trace.add(self.name, f"its disk fails: {error}"),
            sync_runner=SimulationSyncRunner(self._loop, self.disk),
        )
        store = ServerStore(self.disk, cluster=CLUSTER, node=self.name, random=self._chance)
        limits = LogServerLimits(staged_bytes_max=self._staged_bytes_max, loglets_max=1)
        self.server = LogServer(store, writer, loop=self._loop, limits=limits)
        self._writer = writer
        me = Introduction(VERSION, CLUSTER, self.name, 1)
        self._listener = await self._network.transport(self.name).listen(
            f"{self.name}:0", {SERVICE: introduced(me, self.server.serve)}
        )
        self._addresses[self.name] = self._listener.address
        self._trace.add(self.name, f"is up on disk {self.server.storage}")

    def crash(self, *, power: bool) -> Callable[[], Coroutine[Any, Any, None]] | None:
        """End the process at once; gives what waits for its tasks to end. None when it is down."""
        if self.server is None:
            return None
        assert self._writer is not None
        assert self._listener is not None
        self._trace.add(self.name, "crashes" + (" with its power" if power else ""))
        self._addresses.pop(self.name, None)
        self._writer._sync_runner.close()
        self._writer.failure = self._writer.failure or StorageError("it has crashed")
        ended = self._listener.abort()
        self.server = None
        self.disk = self.disk.after_power_loss() if power else self.disk.after_restart()
        return ended

    def lose_disk(self) -> None:
        """While it is down: the disk is replaced by an empty one."""
        assert self.server is None
        self._trace.add(self.name, "its disk is replaced")
        self.lost = True
        self.disk = self._new_disk()


class NodeMachine:
    """One node that uses log-servers, over all of its lives.

    Attributes:
        provider: of this life.
        generation: which life it is.
    """

    def __init__(
        self,
        name: str,
        *,
        loop: SimulationLoop,
        network: SimulationNetwork,
        seed: int,
        addresses: dict[str, str],
        entries: Callable[[], list[LogServerEntry]],
        replication: Replication,
        on_failure: FailureCallback,
    ) -> None:
        """Use `start` to bring it up."""
        self.name = name
        self.generation = 0
        self._loop = loop
        self._network = network
        self._seed = seed
        self._addresses = addresses
        self._entries = entries
        self._replication = replication
        self._on_failure = on_failure
        self.scope = TaskScope(name, on_failure=on_failure)

    def start(self) -> None:
        """Begin a life."""
        self.generation += 1
        chance = Chance(self._seed, f"{self.name}/{self.generation}")
        self.scope = TaskScope(f"{self.name}/{self.generation}", on_failure=self._on_failure)
        self._peers = Peers(
            transport=self._network.transport(self.name),
            service=SERVICE,
            cluster=CLUSTER,
            node=self.name,
            generation=self.generation,
            address_of=self._addresses.get,
            loop=self._loop,
            random=chance,
            retry=_RETRY,
        )
        self.provider = ReplicatedProvider(
            peers=self._peers,
            servers=self._entries,
            replication=lambda: self._replication,
            loop=self._loop,
            clock=SimulationClock(self._loop),
            random=chance,
            options=OPTIONS,
        )

    async def crash(self) -> None:
        """End the life at once, and wait for its tasks to unwind."""
        # In this order: what the connections bring must reach nobody who is half gone.
        self._network.cut(self.name)
        self.scope.cancel()
        self.provider.fail("it has crashed")
        await self._peers.close()
        await self.provider.close()
        await self.scope.close()


def _nothing() -> None:
    return None
