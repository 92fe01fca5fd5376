"""A world of several nodes: who they are, what befalls them, when everything heals."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ....core.errors import PerdureError
from ....core.storage.memory import MemoryStore
from ....core.tasks import TaskScope
from ....metadata.memory import MemoryMetadataStore
from ....metadata.nodes import NODES_KEY, NodesConfiguration, Role
from ....metadata.placement import PLACEMENT_KEY
from ....node.cluster.changes import set_drained
from ....node.cluster.errors import (
    ClusterRefusedError,
    NameTakenError,
    StorageLostError,
    SupersededError,
)
from ....node.cluster.registry import NodeRegistry
from ....node.membership.view import MembershipView
from ..chance import Chance
from ..loop import SimulationLoop
from ..trace import Trace
from ..violation import require
from .checks import REPLACED_NS, RESTS_NS, Checks
from .faults import GAPS, KINDS, Faults
from .member import CLUSTER, MS, S, SimulatedMember
from .network import ClusterNetwork

AGREES_NS: Final = 12 * S
"""After the last fault: the longest distrust of a node that flapped, and what leads up to it."""


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """What a cluster is like, where its seed does not decide.

    Attributes:
        count: how many nodes, 0 for 3 to 7.
        kinds: names of faults, see `faults.KINDS`; None has each seed choose.
        faults_ns: how long faults go on.
        gap_ns: how long it is quiet between two, least and most; None has each seed choose.
        loss: whether messages are lost and doubled; None has each seed choose.
    """

    count: int = 0
    kinds: tuple[str, ...] | None = None
    faults_ns: int = 12 * S
    gap_ns: tuple[int, int] | None = None
    loss: bool | None = None


class ClusterWorld:
    """Everything that runs in one seed.

    Attributes:
        members: each node's present or last life, by name.
        metadata: the one store of the cluster.
        without_metadata: who cannot reach it.
        without_metadata_at: when that changed last.
        walled_at: when each wall fell, far in the future while it stands.
        faulty: faults go on.
        healed: all faults are over.
        lives: how often a node was started.
    """

    def __init__(self, seed: int, options: ClusterOptions, loop: SimulationLoop) -> None:
        """Draw the world's character from the seed."""
        self.seed = seed
        self.options = options
        self.loop = loop
        self.trace = Trace(loop)
        self.scope = TaskScope("world", on_failure=self.task_failed)
        character = self.chance("character")
        self.delay_ns_max = character.pick((500_000, 5 * MS, 30 * MS))
        self.cut_heard_ns_max = character.pick((0, 5 * MS, 200 * MS))
        loses = character.happens(0.3) if options.loss is None else options.loss
        self.faulty_messages = loses
        self.network = ClusterNetwork(
            loop,
            trace=self.trace,
            chance=self.chance("network"),
            delay_ns=(50_000, self.delay_ns_max),
            cut_heard_ns_max=self.cut_heard_ns_max,
            loss=0.1 if loses else 0.0,
        )
        count = options.count or character.between(3, 7)
        self.names = [f"node-{number}" for number in range(1, count + 1)]
        admins = character.between(2, count)
        everywhere: tuple[Role, ...] = ("log-server", "worker")
        self.roles: dict[str, tuple[Role, ...]] = {
            name: ("admin", *everywhere) if number < admins else everywhere
            for number, name in enumerate(self.names)
        }
        zoned = character.happens(0.4)
        self.zones = {name: character.pick(("a", "b", "c")) for name in self.names} if zoned else {}
        self.partitions = character.pick((1, 3, 6))
        self.replicas = character.pick((1, 3, 3, 5))
        self.disks = {name: MemoryStore() for name in self.names}
        self.members: dict[str, SimulatedMember] = {}
        self.metadata = MemoryMetadataStore()
        self.fingerprint = ""
        self.without_metadata: dict[str, None] = {}
        self.without_metadata_at = -REPLACED_NS
        self.walled_at: dict[tuple[str, str], int] = {}
        self.faulty = False
        self.healed = False
        self.lives = 0
        self.last_values: list[bytes] = []
        self.checks = Checks(self)
        kinds = options.kinds or tuple(kind for kind in KINDS if character.happens(0.5)) or KINDS
        self.faults = Faults(self, self.chance("faults"), kinds)
        self._gap_ns = options.gap_ns or character.pick(GAPS)
        self._registry = NodeRegistry(self.metadata, self.chance("operator"))

    def chance(self, concern: str) -> Chance:
        """The generator of one concern."""
        return Chance(self.seed, concern)

    def task_failed(self, failure: BaseException) -> None:
        """A task failed that should not."""
        self.loop.call_exception_handler({"message": "a task failed", "exception": failure})

    async def run(self) -> None:
        """From provisioning to the last check."""
        provisioned = await self._registry.provision(
            CLUSTER, partition_count=self.partitions, replicas=self.replicas
        )
        self.fingerprint = provisioned.nodes.fingerprint
        self.checks.nodes = provisioned.nodes
        for name in self.names:
            await self._start(name)
        await self.loop.pause(6 * S)
        self.checks.check_agreement()
        self.faulty = True
        await self.faults.run(self.options.faults_ns, self._gap_ns)
        self._heal()
        await self.loop.pause(REPLACED_NS)
        self.checks.check_leaders("who leads runs, once all is well")
        await self.loop.pause(AGREES_NS - REPLACED_NS)
        self.checks.check_agreement()
        await self.loop.pause(RESTS_NS - AGREES_NS)
        self.checks.check_rest()
        for key in (NODES_KEY, PLACEMENT_KEY):
            stored = await self.metadata.get(key)
            assert stored is not None
            self.last_values.append(stored.value)
        for member in self.members.values():
            member.kill()

    # Lives ---------------------------------------------------------------------------------------

    async def _start(self, name: str) -> None:
        self.lives += 1
        self.checks.forget(name)
        member = SimulatedMember(self, name, self.disks[name], roles=self.roles[name])
        self.members[name] = member
        self.trace.add(name, "starts")
        await member.start()

    def start_again(self, name: str) -> None:
        """Start a node that is down."""
        if not self.members[name].up:
            self.network.dark.pop(name, None)
            self.network.pump()
            self.scope.spawn(self._start(name), name=f"start {name}")

    def end(self, name: str, *, power: bool) -> None:
        """End a node's process, or switch its machine off."""
        self.trace.add(name, "loses its power" if power else "ends")
        if self.network.is_frozen(name):
            self.network.thaw(name)
        if power:
            self.network.dark[name] = None
            self.disks[name] = self.disks[name].crash(self.chance(f"disk {self.lives}"))
        self.members[name].kill()
        self.checks.expect_death(name, silent=power)

    def pause(self, name: str) -> None:
        """Hold a node up."""
        self.network.freeze(name)
        self.members[name].loop.pause()

    def resume(self, name: str, *, timers_first: bool) -> None:
        """Let a node go on: with its own timers, or with what has arrived meanwhile."""
        if not self.network.is_frozen(name):
            return
        self.trace.add(name, "goes on")
        if timers_first:
            self.members[name].loop.resume()
        self.network.thaw(name)
        self.members[name].loop.resume()

    def start_impostor(self, name: str) -> None:
        """Try to join under a name that is in use, from another machine with an empty disk."""
        self.lives += 1
        impostor = f"impostor-{self.lives}"
        registry = NodeRegistry(self.metadata, self.chance(impostor))
        self.scope.spawn(self._impose(registry, impostor, name), name=impostor)

    async def _impose(self, registry: NodeRegistry, impostor: str, name: str) -> None:
        member = SimulatedMember(self, impostor, MemoryStore(), roles=self.roles[name])
        try:
            await registry.join(
                MemoryStore(),
                cluster=CLUSTER,
                name=name,
                addresses=member.addresses(),
                roles=self.roles[name],
                ask_holder=member.ask,
            )
        except (NameTakenError, StorageLostError) as refusal:
            self.trace.add(impostor, f"is refused: {refusal.code}")
            await self._note_nodes()
            # The node itself may be down with its disk whole: its next start counts again. One
            # that runs has to be started again for that.
            node = (await self._registry.read()).nodes.named(name)
            if node is not None and node.storage == "data-loss" and self.members[name].up:
                self.network.thaw(name)
                self.end(name, power=False)
                self.start_again(name)
            return
        require(False, "nobody joins with an empty disk under a name in use", name)

    def joined(self, member: SimulatedMember) -> None:
        """A node has joined."""
        self.trace.add(member.name, f"joins as {member.me}")
        self.checks.topology_changed()

    def refused(self, member: SimulatedMember, refusal: PerdureError) -> None:
        """A node was not let in, or has to stop."""
        self.trace.add(member.name, f"is refused: {refusal.code} {refusal}")
        member.refusal = refusal
        if self.members.get(member.name) is member:
            require(
                isinstance(refusal, SupersededError),
                "a node with its own disk is let in",
                f"{member.name}: {refusal}",
            )

    def saw(self, member: SimulatedMember, view: MembershipView) -> None:
        """A node has a new view."""
        states = " ".join(
            f"{status.node_id}:{status.generation}{'' if status.state == 'alive' else status.state}"
            for status in view.nodes
        )
        flags = "".join(
            flag
            for flag, holds in (
                (" isolated", view.isolated),
                (" doubted", view.doubted),
                (" unsettled", not view.settled),
            )
            if holds
        )
        self.trace.add(member.name, f"sees {states}{flags}")
        if member.up:
            self.checks.saw(member, view)

    def stored(self, name: str, key: str, value: bytes) -> None:
        """A node has changed the metadata."""
        self.checks.stored(name, key, value)

    # Operators -----------------------------------------------------------------------------------

    async def change_nodes(
        self, change: Callable[[NodesConfiguration], NodesConfiguration]
    ) -> None:
        """An operator changes the nodes."""
        await self._registry.change(change)
        await self._note_nodes()

    async def _note_nodes(self) -> None:
        self.checks.nodes = (await self._registry.read()).nodes

    async def move(self, name: str, chance: Chance) -> None:
        """An operator moves a lead, by way of a node."""
        controller = self.members[name].controller
        nodes = self.checks.nodes
        if controller is None or nodes is None or not self.members[name].up:
            return
        target = chance.pick(nodes.nodes)
        try:
            await controller.move(chance.between(0, self.partitions - 1), target.id)
        except (ClusterRefusedError, PerdureError) as refusal:
            self.trace.add(name, f"does not move a lead: {refusal.code}")

    # The end -------------------------------------------------------------------------------------

    def _heal(self) -> None:
        self.trace.add("world", "heals")
        self.faulty = False
        self.healed = True
        self.network.cut_links.clear()
        for wall in list(self.network.walls):
            self.network.walls.pop(wall)
            self.walled_at[wall] = self.loop.now_ns
        self.without_metadata.clear()
        self.network.loss = 0.0
        for name in self.names:
            self.resume(name, timers_first=True)
        for name in list(self.network.dark):
            self.network.dark.pop(name)
        self.network.pump()
        for name in self.names:
            if self.members[name].up and self.members[name].leaving:
                self.end(name, power=False)
            self.start_again(name)
        self.scope.spawn(self._drain_nobody(), name="take back")
        self.checks.topology_changed()

    async def _drain_nobody(self) -> None:
        def change(nodes: NodesConfiguration) -> NodesConfiguration:
            for node in nodes.nodes:
                if node.drained:
                    nodes = set_drained(nodes, node.name, False)
            return nodes

        await self.change_nodes(change)
