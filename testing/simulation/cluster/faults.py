"""What happens to a simulated cluster; each fault has a name and mends itself after a while."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from ....metadata.nodes import NodesConfiguration
from ....node.cluster.changes import set_drained
from ..chance import Chance
from .member import MS, S

if TYPE_CHECKING:
    from .world import ClusterWorld

KINDS: Final = (
    "kill",
    "power",
    "pause",
    "cut one way",
    "cut both ways",
    "cut off",
    "cut off one way",
    "split",
    "reset",
    "wall",
    "leave",
    "drain",
    "no metadata",
    "impostor",
    "move",
)


class Faults:
    """Does things to a world, one after the other, several at a time.

    Attributes:
        counts: how often each kind was done.
    """

    def __init__(self, world: "ClusterWorld", chance: Chance, kinds: tuple[str, ...]) -> None:
        """Take what may happen."""
        self._world = world
        self._chance = chance
        self._kinds = kinds
        self.counts: Counter[str] = Counter()
        self._do: dict[str, Callable[[str], None]] = {
            "kill": partial(self._kill, power=False),
            "power": partial(self._kill, power=True),
            "pause": self._pause,
            "cut one way": partial(self._cut, both=False),
            "cut both ways": partial(self._cut, both=True),
            "cut off": partial(self._cut_off, both=True),
            "cut off one way": partial(self._cut_off, both=False),
            "split": self._split,
            "reset": self._reset,
            "wall": self._wall,
            "leave": self._leave,
            "drain": self._drain,
            "no metadata": self._no_metadata,
            "impostor": self._impostor,
            "move": self._move,
        }

    async def run(self, duration_ns: int, gap_ns: tuple[int, int]) -> None:
        """Go on for a while."""
        world = self._world
        until_ns = world.loop.now_ns + duration_ns
        while world.loop.now_ns < until_ns:
            await world.loop.pause(self._chance.between(*gap_ns))
            kind = self._chance.pick(self._kinds)
            name = self._chance.pick(list(world.members))
            self.counts[kind] += 1
            world.trace.add(name, f"fault: {kind}")
            self._do[kind](name)
            world.checks.topology_changed()

    def _later(self, mend: Callable[[], None], least_ms: int, most_ms: int) -> None:
        world = self._world
        at_ns = world.loop.now_ns + self._chance.between(least_ms, most_ms) * MS

        def do() -> None:
            if not world.healed:
                mend()
                world.checks.topology_changed()

        world.loop.call_at_ns(at_ns, do)

    def _other(self, name: str) -> str:
        return self._chance.pick([other for other in self._world.members if other != name])

    # Processes and machines ----------------------------------------------------------------------

    def _kill(self, name: str, *, power: bool) -> None:
        world = self._world
        if not world.members[name].up:
            return
        world.end(name, power=power)
        self._later(lambda: world.start_again(name), 20, 6_000)

    def _pause(self, name: str) -> None:
        world = self._world
        if world.network.is_frozen(name) or not world.members[name].up:
            return
        world.pause(name)
        order = self._chance.happens(0.5)
        self._later(lambda: world.resume(name, timers_first=order), 100, 6_000)

    def _leave(self, name: str) -> None:
        world = self._world
        member = world.members[name]
        if not member.up or member.leaving:
            return
        member.leave()

        def end() -> None:
            if world.members[name] is member and member.up:
                world.end(name, power=False)
                self._later(lambda: world.start_again(name), 100, 4_000)

        self._later(end, 200, 1_000)

    def _impostor(self, name: str) -> None:
        self._world.start_impostor(name)

    # Links ---------------------------------------------------------------------------------------

    def _cut_links(self, links: list[tuple[str, str]], *, reset: bool) -> None:
        network = self._world.network
        fresh = [link for link in links if link not in network.cut_links]
        for link in fresh:
            network.cut_links[link] = None
            if reset:
                network.cut_pair(*link)

        def mend() -> None:
            for link in fresh:
                network.cut_links.pop(link, None)
            network.pump()

        self._later(mend, 100, 8_000)

    def _cut(self, name: str, *, both: bool) -> None:
        other = self._other(name)
        links = [(name, other), (other, name)] if both else [(name, other)]
        self._cut_links(links, reset=self._chance.happens(0.5))

    def _cut_off(self, name: str, *, both: bool) -> None:
        others = [other for other in self._world.members if other != name]
        links = [(name, other) for other in others]
        if both:
            links += [(other, name) for other in others]
        elif self._chance.happens(0.5):
            links = [(other, name) for _, other in links]
        self._cut_links(links, reset=self._chance.happens(0.5))
        if self._chance.happens(0.5):
            self._no_metadata(name)

    def _split(self, _name: str) -> None:
        names = list(self._world.members)
        left = [name for name in names if self._chance.happens(0.5)]
        right = [name for name in names if name not in left]
        links = [pair for one in left for other in right for pair in ((one, other), (other, one))]
        self._cut_links(links, reset=self._chance.happens(0.5))

    def _reset(self, name: str) -> None:
        self._world.network.cut(name)

    def _wall(self, name: str) -> None:
        world, network = self._world, self._world.network
        if network.walls:
            return  # Behind several, nobody is left to say better: see docs/cluster.md.
        wall = name, self._other(name)
        network.walls[wall] = None
        world.walled_at[wall] = 1 << 62  # For as long as it stands.
        network.cut_pair(*wall)

        def mend() -> None:
            network.walls.pop(wall, None)
            world.walled_at[wall] = world.loop.now_ns

        self._later(mend, 500, 5_000)

    # Operators and metadata ----------------------------------------------------------------------

    def _no_metadata(self, name: str) -> None:
        world = self._world
        world.without_metadata[name] = None
        world.without_metadata_at = world.loop.now_ns

        def mend() -> None:
            world.without_metadata.pop(name, None)
            world.without_metadata_at = world.loop.now_ns

        self._later(mend, 200, 5_000)

    def _drain(self, name: str) -> None:
        self._set_drained(name, True)
        self._later(lambda: self._set_drained(name, False), 1_000, 8_000)

    def _set_drained(self, name: str, drained: bool) -> None:
        def change(nodes: NodesConfiguration) -> NodesConfiguration:
            return nodes if nodes.named(name) is None else set_drained(nodes, name, drained)

        world = self._world
        world.scope.spawn(world.change_nodes(change), name=f"drain {name}")

    def _move(self, name: str) -> None:
        world = self._world
        world.scope.spawn(world.move(name, self._chance), name="move")


GAPS: Final = ((20 * MS, 1_500 * MS), (200 * MS, 3 * S), (3 * S, 7 * S))
"""How long it is quiet between two faults, least and most; each world has one of these."""
