"""One life of a node in a simulated cluster: listener, join, membership, controller, watch."""

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, cast

from ....core.errors import PerdureError, TransportError
from ....core.storage.memory import MemoryStore
from ....core.tasks import TaskScope
from ....metadata.api import MetadataStore, Precondition, Version, VersionedValue
from ....metadata.nodes import Addresses, NodeConfiguration, Role
from ....metadata.placement import Placement
from ....node.cluster.errors import ClusterRefusedError
from ....node.cluster.registry import NodeRegistry
from ....node.controller.controller import Controller
from ....node.controller.steadiness import SteadinessOptions
from ....node.controller.watch import ClusterWatch
from ....node.membership.membership import Membership, answers_as
from ....node.membership.messages import MEMBERSHIP_SERVICE
from ....node.membership.view import MembershipView
from ..chance import Chance
from ..loop import SimulationLoop
from ..network import SimulationListener
from .network import PORT

if TYPE_CHECKING:
    from .world import ClusterWorld

S: Final = 1_000_000_000
MS: Final = 1_000_000
CLUSTER: Final = "simulated"
STEADINESS: Final = SteadinessOptions(
    settle_ns=1 * S, settle_ns_max=4 * S, forgive_ns=60 * S, replace_ns=2 * S
)
"""Quicker than the product's, so that worlds are short."""


class PausableLoop:
    """The timers of one node; those that are due while it is paused run when it goes on."""

    def __init__(self, loop: SimulationLoop) -> None:
        """Take the loop that everybody runs on."""
        self._loop = loop
        self._paused = False
        self._held: list[Callable[[], None]] = []

    def call_later(
        self,
        delay: float,
        callback: Callable[..., Any],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run a callback after a while, or after the pause."""

        def due() -> None:
            if self._paused:
                self._held.append(lambda: None if handle.cancelled() else callback(*args))
            else:
                callback(*args)

        handle = self._loop.call_later(delay, due)
        return handle

    def pause(self) -> None:
        """Hold every timer back."""
        self._paused = True

    def resume(self) -> None:
        """Run what was held back."""
        self._paused = False
        held, self._held = self._held, []
        for callback in held:
            callback()


class NodeClock:
    """The clocks of one machine: hours from the others', and a little fast or slow."""

    def __init__(self, loop: SimulationLoop, chance: Chance) -> None:
        """Draw how wrong it is."""
        self._loop = loop
        self._start_ns = chance.between(1, 40_000) * S
        self._wall_ns = chance.between(0, 80_000) * S
        self._drift = chance.between(-1_000, 1_000)

    def time_ns(self) -> int:
        """A wall clock that nobody should ask."""
        return self._wall_ns + self._loop.now_ns

    def monotonic_ns(self) -> int:
        """Since some start of its own, off by up to a thousandth."""
        return self._start_ns + self._loop.now_ns + self._loop.now_ns * self._drift // 1_000_000


class RemoteMetadata:
    """The cluster's metadata store as one node reaches it: late, and sometimes not at all."""

    def __init__(self, world: "ClusterWorld", name: str, chance: Chance) -> None:
        """Take whose way to the store it is."""
        self._world = world
        self._name = name
        self._chance = chance

    async def get(self, key: str) -> VersionedValue | None:
        """See `MetadataStore`."""
        await self._way()
        value = await self._world.metadata.get(key)
        await self._way()
        return value

    async def put(self, key: str, value: bytes, precondition: Precondition = None) -> Version:
        """See `MetadataStore`."""
        await self._way()
        version = await self._world.metadata.put(key, value, precondition)
        self._world.stored(self._name, key, value)
        await self._way()
        return version

    async def delete(self, key: str, precondition: Precondition = None) -> None:
        """See `MetadataStore`."""
        await self._way()
        await self._world.metadata.delete(key, precondition)

    async def keys(self, prefix: str) -> list[str]:
        """See `MetadataStore`."""
        await self._way()
        return await self._world.metadata.keys(prefix)

    async def _way(self) -> None:
        world = self._world
        await world.loop.pause(world.network.delay_ns())
        while world.network.is_frozen(self._name):
            await world.loop.pause(20 * MS)
        lost = world.faulty and self._chance.happens(0.02)
        if lost or self._name in world.without_metadata or self._name in world.network.dark:
            raise TransportError("the metadata store cannot be reached: try again")


class SimulatedMember:
    """A node from its start to its end.

    Attributes:
        me: who it is, None until it has joined.
        up: its process runs.
        leaving: it has said that it goes.
        refusal: why it was not let in, or had to stop.
    """

    def __init__(
        self, world: "ClusterWorld", name: str, disk: MemoryStore, *, roles: tuple[Role, ...]
    ) -> None:
        """Prepare; `start` follows."""
        self._world = world
        self.name = name
        self._disk = disk
        self._roles = roles
        chance = world.chance(f"{name}/{world.lives}")
        self._chance = chance
        self.loop = PausableLoop(world.loop)
        self._clock = NodeClock(world.loop, chance)
        self._metadata: MetadataStore = RemoteMetadata(world, name, chance)
        self._transport = world.network.transport(name)
        self._scope = TaskScope(name, on_failure=world.task_failed)
        self._listener: SimulationListener | None = None
        self.me: NodeConfiguration | None = None
        self.membership: Membership | None = None
        self.controller: Controller | None = None
        self.watch: ClusterWatch | None = None
        self.up = False
        self.leaving = False
        self.refusal: PerdureError | None = None

    async def start(self) -> None:
        """Listen, join, take part. A refusal is kept in `refusal`."""
        self.up = True
        self._listener = await self._transport.listen(
            f"{self.name}:{PORT}", {MEMBERSHIP_SERVICE: self._serve}
        )
        self._scope.spawn(self._join(), name="join")

    async def _serve(self, connection: Any) -> None:
        if self.membership is not None and self.up:
            await self.membership.serve(connection)

    async def _join(self) -> None:
        registry = NodeRegistry(self._metadata, self._chance)
        while True:
            try:
                joined = await registry.join(
                    self._disk,
                    cluster=CLUSTER,
                    name=self.name,
                    addresses=self.addresses(),
                    roles=self._roles,
                    zone=self._world.zones.get(self.name, ""),
                    ask_holder=self.ask,
                )
                break
            except ClusterRefusedError as refusal:
                self._world.refused(self, refusal)
                return
            except TransportError:
                await self._world.loop.pause(100 * MS)
        self.me = joined.me
        # Timers are all that these drivers take of their loop.
        loop = cast(asyncio.AbstractEventLoop, self.loop)
        self.membership = Membership(
            joined.me,
            nodes_version=joined.current.version,
            nodes=joined.current.nodes,
            transport=self._transport,
            loop=loop,
            clock=self._clock,
            random=self._chance,
            scope=self._scope,
            on_newer=self._newer,
            on_ended=self._ended,
        )
        self.watch = ClusterWatch(
            metadata=self._metadata,
            membership=self._membership,
            loop=loop,
            scope=self._scope,
            on_placement=lambda _placement: None,
        )
        self.controller = Controller(
            metadata=self._metadata,
            membership=self.membership,
            loop=loop,
            clock=self._clock,
            scope=self._scope,
            on_placement=self._placed,
            options=STEADINESS,
        )
        self._world.joined(self)
        self.membership.on_change(self._seen)
        self.membership.start()
        self.watch.start()
        if "admin" in self._roles:
            self.controller.start()

    def addresses(self) -> Addresses:
        """Where it listens."""
        return Addresses(f"{self.name}:{PORT}")

    async def ask(self, holder: NodeConfiguration) -> bool:
        """Whether a node of its name answers."""
        fingerprint = self._world.fingerprint
        return await answers_as(holder, fingerprint=fingerprint, transport=self._transport)

    def _membership(self) -> Membership:
        assert self.membership is not None
        return self.membership

    def _newer(self, nodes_version: int, placement_version: int) -> None:
        if self.watch is not None:
            self.watch.newer(nodes_version, placement_version)

    def _placed(self, version: int, placement: Placement) -> None:
        if self.watch is not None:
            self.watch.use(version, placement)

    def _seen(self, view: MembershipView) -> None:
        self._world.saw(self, view)

    def _ended(self, error: PerdureError) -> None:
        self._world.refused(self, error)

    def leave(self) -> None:
        """Say that it goes; `kill` follows."""
        self.leaving = True
        if self.membership is not None:
            self.membership.leave()

    def kill(self) -> None:
        """Its process ends at once."""
        self.up = False
        for part in (self.controller, self.watch, self.membership):
            if part is not None:
                part.stop()
        self._scope.cancel()
        if self._listener is not None:
            unwind = self._listener.abort()
            self._world.scope.spawn(unwind(), name=f"unwind {self.name}")
        self._world.network.cut(self.name)
        self._world.scope.spawn(self._scope.close(), name=f"end {self.name}")
