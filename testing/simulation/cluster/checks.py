"""What must hold in a cluster while it lives through faults, and once it is left alone."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ....metadata.nodes import NODES_KEY, NodesConfiguration, decode_nodes
from ....metadata.placement import PLACEMENT_KEY, Placement, decode_placement
from ....node.membership.view import MembershipView
from ..violation import require
from .member import MS, S, SimulatedMember

if TYPE_CHECKING:
    from .world import ClusterWorld

LINK_NS: Final = 2_500 * MS
"""A link of that age counts: connections are made anew by then, and what passed has passed on."""

SILENT_DEATH_NS: Final = 2_600 * MS
"""The bound for a machine that is off: silence, the lateness of what was heard last, a tick."""

REFUSED_DEATH_NS: Final = 450 * MS
"""The bound for a process that is gone, network delays aside: 200 ms, and a lost question."""

REPLACED_NS: Final = 5 * S
"""By then nobody of a quiet cluster leads who is dead."""

RESTS_NS: Final = 36 * S
"""After that nothing of a quiet cluster moves any more."""

PLACEMENTS_PER_FAULT: Final = 30


class Checks:
    """Watches a world.

    Attributes:
        deaths: how often somebody was declared dead.
        placements: how often the placement was changed.
        placement: as it is stored, None before the first.
        nodes: the configuration as it is stored.
        changed_at: when something of who reaches whom changed last.
    """

    def __init__(self, world: "ClusterWorld") -> None:
        """Begin with nothing."""
        self._world = world
        self._link_since: dict[tuple[str, str], int] = {}
        self._views: dict[str, MembershipView] = {}
        self.deaths = 0
        self.placements = 0
        self.placed_at = 0
        self.lead_moves = 0
        self.placement: Placement | None = None
        self.nodes: NodesConfiguration | None = None
        self.changed_at = 0

    # Who reaches whom ----------------------------------------------------------------------------

    def topology_changed(self) -> None:
        """Take the links anew: both ends run, and all that one sends arrives at the other."""
        world = self._world
        self.changed_at = world.loop.now_ns
        before, self._link_since = self._link_since, {}
        for one in world.members:
            for other in world.members:
                if one < other and self._linked(one, other):
                    since = before.get((one, other), world.loop.now_ns)
                    self._link_since[one, other] = since

    def _linked(self, one: str, other: str) -> bool:
        world = self._world
        network = world.network
        return (
            self._runs(one)
            and self._runs(other)
            and network.reaches(one, other)
            and network.reaches(other, one)
            and (one, other) not in network.walls
            and (other, one) not in network.walls
        )

    def _runs(self, name: str) -> bool:
        member = self._world.members.get(name)
        return (
            member is not None
            and member.up
            and member.me is not None
            and member.refusal is None
            and not self._world.network.is_frozen(name)
        )

    def _link_age(self, one: str, other: str) -> int:
        pair = (one, other) if one < other else (other, one)
        since = self._link_since.get(pair)
        return -1 if since is None else self._world.loop.now_ns - since

    def reached_by_majority(self, name: str, age_ns: int = LINK_NS) -> bool:
        """Whether the same majority has reached a node for a while, without a break."""
        assert self.nodes is not None
        around = 1 + sum(
            self._link_age(name, other) >= age_ns for other in self._world.members if other != name
        )
        return 2 * around > len(self.nodes.nodes)

    # While faults go on --------------------------------------------------------------------------

    def saw(self, member: SimulatedMember, view: MembershipView) -> None:
        """A node has a new view."""
        before = self._views.get(member.name)
        self._views[member.name] = view
        for status in view.nodes:
            former = None if before is None else before.status(status.node_id)
            if status.state != "dead" or (
                former is not None
                and (former.state, former.generation) == ("dead", status.generation)
            ):
                continue
            self.deaths += 1
            self._check_death(member, status.node_id, status.generation)

    def forget(self, name: str) -> None:
        """A node begins a new life and has no view yet."""
        self._views.pop(name, None)

    def _check_death(self, observer: SimulatedMember, node_id: int, generation: int) -> None:
        for target in self._world.members.values():
            me = target.me
            if me is None or (me.id, me.generation) != (node_id, generation) or target.leaving:
                continue
            if self._blinded(observer.name, target.name):
                continue
            require(
                not (self._runs(target.name) and self.reached_by_majority(target.name)),
                "nobody is dead whom a majority reaches all along",
                f"{observer.name} declares {target.name} ({me}) dead",
            )

    def _blinded(self, observer: str, target: str) -> bool:
        """Whether a wall lies to a node that no majority reaches: nobody can tell it better."""
        walled_at = self._world.walled_at.get((observer, target))
        return (
            walled_at is not None
            and self._world.loop.now_ns - walled_at < LINK_NS
            and not self.reached_by_majority(observer)
        )

    def stored(self, name: str, key: str, value: bytes) -> None:
        """A node has changed the metadata."""
        now_ns = self._world.loop.now_ns
        if key == NODES_KEY:
            self.nodes = decode_nodes(value)
        elif key == PLACEMENT_KEY:
            before, after = self.placement, decode_placement(value)
            require(before != after, "no placement is stored for nothing", name)
            self.placements += 1
            self.placed_at = now_ns
            self.placement = after
            if before is not None:
                self.lead_moves += sum(
                    old.leader != new.leader
                    for old, new in zip(before.partitions, after.partitions, strict=True)
                )
            leads = [item.leader for item in after.partitions]
            self._world.trace.add(name, f"places {leads} {[i.replicas for i in after.partitions]}")
            limit = PLACEMENTS_PER_FAULT * (10 + sum(self._world.faults.counts.values()))
            require(self.placements < limit, "placement comes to rest", self.placements)

    def expect_death(self, name: str, *, silent: bool) -> None:
        """A node has just ended: whoever a majority reaches must see that in time."""
        world = self._world
        member = world.members[name]
        if member.me is None:
            return
        me, at_ns = member.me, world.loop.now_ns
        observers = [
            other
            for other in world.members.values()
            if other is not member
            and self._runs(other.name)
            and self._link_age(name, other.name) >= LINK_NS
            and self.reached_by_majority(other.name)
        ]
        network_ns = world.cut_heard_ns_max + 10 * world.delay_ns_max
        bound_ns = (SILENT_DEATH_NS if silent else REFUSED_DEATH_NS) + network_ns
        quiet_before = at_ns - self.changed_at >= LINK_NS
        # The end itself changes who reaches whom; nothing else may until then.
        self.topology_changed()
        if not quiet_before:
            return

        def check() -> None:
            if self.changed_at != at_ns or world.faulty_messages:
                return
            for observer in observers:
                if not self._runs(observer.name) or not self.reached_by_majority(observer.name):
                    continue
                status = self._views[observer.name].status(me.id)
                require(
                    status is None or status.generation > me.generation or status.state == "dead",
                    "who is gone is dead in time",
                    f"{observer.name} sees {status} {bound_ns / 1e6:.0f} ms after {name} ended",
                )

        self._later(bound_ns, check)
        self._later(REPLACED_NS, lambda: self._check_replaced(at_ns))

    def _check_replaced(self, at_ns: int) -> None:
        world = self._world
        if self.changed_at != at_ns or world.without_metadata_at > at_ns - REPLACED_NS:
            return
        runs = [name for name in world.members if self._runs(name)]
        if all(self.reached_by_majority(name) for name in runs) and any(
            "admin" in world.roles[name] for name in runs
        ):
            self.check_leaders("who is dead leads nothing after a while")

    def _later(self, delay_ns: int, check: Callable[[], None]) -> None:
        loop = self._world.loop
        loop.call_at_ns(loop.now_ns + delay_ns, check)

    def check_leaders(self, invariant: str) -> None:
        """Every partition is led by a node that runs and may lead."""
        assert self.nodes is not None
        require(self.placement is not None, invariant, "there is no placement")
        assert self.placement is not None
        may_lead = {
            member.me.id: name
            for name, member in self._world.members.items()
            if member.me is not None and self._runs(name)
        }
        drained = {node.id for node in self.nodes.nodes if node.drained}
        all_drained = set(may_lead) <= drained
        for number, item in enumerate(self.placement.partitions):
            fits = item.leader in may_lead and item.leader not in drained
            require(
                fits or (all_drained and not item.leader),
                invariant,
                f"partition {number} is {item}; these run: {may_lead}, drained: {drained}",
            )

    # In the end ----------------------------------------------------------------------------------

    def check_agreement(self) -> None:
        """Everybody runs, reaches everybody and has been left alone: all see the same."""
        assert self.nodes is not None
        ids = tuple(sorted(node.id for node in self.nodes.nodes))
        for name, member in self._world.members.items():
            require(member.refusal is None, "everybody runs in the end", f"{name} does not")
            assert member.membership is not None
            view = member.membership.view
            generations = [(status.node_id, status.generation) for status in view.nodes]
            expected = [(node.id, node.generation) for node in self.nodes.nodes]
            require(
                view.steady() == ids
                and generations == expected
                and view.settled
                and not view.isolated
                and not view.doubted,
                "all that live agree on who lives",
                f"{name} sees {view}",
            )

    def check_rest(self) -> None:
        """Nothing moves any more, all know where everything is, and it is where it should be."""
        world = self._world
        self.check_leaders("who leads can lead")
        assert self.placement is not None
        assert self.nodes is not None
        require(
            world.loop.now_ns - self.placed_at >= 4 * S,
            "placement comes to rest",
            f"it changed {(world.loop.now_ns - self.placed_at) / 1e6:.0f} ms ago",
        )
        fit = {node.id for node in self.nodes.nodes if not node.drained}
        wanted = max(1, min(self.nodes.replicas, len(fit)))
        for number, item in enumerate(self.placement.partitions):
            if fit:
                require(
                    len(item.replicas) == wanted and fit.issuperset(item.replicas),
                    "every partition has its copies",
                    f"partition {number} is {item}, wanted {wanted} of {fit}",
                )
        for name, member in world.members.items():
            assert member.watch is not None
            require(
                member.watch.placement == self.placement,
                "everybody knows the placement",
                name,
            )
        for node in self.nodes.nodes:
            require(
                node.storage == "read-write",
                "who has its disk has its data",
                f"{node.name}: {node.storage}",
            )
        require(len(self.nodes.nodes) == len(world.members), "a name is one node", self.nodes)
