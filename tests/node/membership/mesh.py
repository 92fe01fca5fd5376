"""A mesh of failure detectors without a network: messages arrive at once, or not at all."""

from collections import Counter

from perdure.core.random import SeededRandom
from perdure.node.membership.detector import FailureDetector
from perdure.node.membership.events import (
    Changed,
    Configured,
    Dial,
    Effect,
    Event,
    Leave,
    Lost,
    Met,
    Received,
    Refused,
    Send,
    Superseded,
    Tick,
    Unanswered,
    Unheard,
)
from perdure.node.membership.messages import Gossip
from perdure.node.membership.view import MembershipView

MS = 1_000_000
STEP_NS = 10 * MS


class Mesh:
    """Nodes 1 to `count`, each with a detector that ticks every 100 ms of its own phase.

    Attributes:
        now_ns: the common time; nobody's clock agrees with it.
        silenced: pairs (from, to) over which nothing arrives and nothing is told of it.
        rejected: pairs (from, to) where a dial is refused although somebody listens.
        down: nodes whose process is not there.
        dark: nodes whose machine is not there: no refusal, no reset.
        paused: nodes that are held up.
    """

    def __init__(self, count: int, *, seed: int = 0) -> None:
        self.now_ns = 0
        self.random = SeededRandom(seed)
        self.generations = dict.fromkeys(range(1, count + 1), 1)
        self.version = 1
        self.nodes: dict[int, FailureDetector] = {}
        self.silenced: set[tuple[int, int]] = set()
        self.rejected: set[tuple[int, int]] = set()
        self.down: set[int] = set()
        self.dark: set[int] = set()
        self.paused: set[int] = set()
        self.waiting: dict[int, list[Event]] = {}
        self.views: list[tuple[int, int, MembershipView]] = []
        self.sent: Counter[int] = Counter()
        self.dialled: Counter[int] = Counter()
        self.superseded: list[int] = []
        self.died_at: dict[tuple[int, int, int], int] = {}
        # Whoever stands in the configuration listens already.
        for node_id in self.generations:
            self.nodes[node_id] = FailureDetector(node_id, 1, now_ns=self.clock(node_id))
        for node_id in self.generations:
            self.configure(node_id)

    def clock(self, node_id: int) -> int:
        """The monotonic clock of a node: hours from the next one's."""
        return self.now_ns + node_id * 7_200_000 * MS

    def start(self, node_id: int) -> None:
        self.down.discard(node_id)
        self.dark.discard(node_id)
        self.nodes[node_id] = FailureDetector(
            node_id, self.generations[node_id], now_ns=self.clock(node_id)
        )
        self.configure(node_id)

    def restart(self, node_id: int) -> None:
        self.generations[node_id] += 1
        self.version += 1
        self.start(node_id)

    def configure(self, node_id: int) -> None:
        nodes = tuple(sorted(self.generations.items()))
        self.give(node_id, Configured(self.clock(node_id), self.version, nodes))

    def give(self, node_id: int, event: Event) -> None:
        if node_id in self.down | self.dark:
            return
        if node_id in self.paused:
            self.waiting.setdefault(node_id, []).append(event)
            return
        for effect in self.nodes[node_id].handle(event):
            self.carry_out(node_id, effect)

    def resume(self, node_id: int) -> None:
        self.paused.discard(node_id)
        for event in self.waiting.pop(node_id, []):
            if isinstance(event, Received):
                event = Received(self.clock(node_id), event.sender, event.generation, event.gossip)
            self.give(node_id, event)

    def carry_out(self, node_id: int, effect: Effect) -> None:
        match effect:
            case Send(to, gossip):
                self.sent[node_id] += 1
                self.deliver(node_id, to, gossip)
            case Dial(to):
                self.dialled[node_id] += 1
                self.dial(node_id, to)
            case Changed(view):
                self.views.append((self.now_ns, node_id, view))
                for status in view.nodes:
                    if status.state == "dead":
                        key = node_id, status.node_id, status.generation
                        self.died_at.setdefault(key, self.now_ns)
            case Superseded():
                self.superseded.append(node_id)

    def deliver(self, sender: int, to: int, gossip: Gossip) -> None:
        if (sender, to) not in self.silenced and to not in self.down | self.dark:
            generation = self.nodes[sender]._generation
            self.give(to, Received(self.clock(to), sender, generation, gossip))

    def dial(self, node_id: int, to: int) -> None:
        now_ns = self.clock(node_id)
        there = self.nodes.get(to)
        if {(node_id, to), (to, node_id)} & self.silenced or to in self.dark:
            self.give(node_id, Unanswered(now_ns, to))
        elif to in self.down or there is None or (node_id, to) in self.rejected:
            generation = self.nodes[node_id]._peers[to].generation
            self.give(node_id, Refused(now_ns, to, generation))
        else:
            generation = there._generation
            me = self.nodes[node_id]._generation
            self.give(to, Met(self.clock(to), node_id, me, connected=False))
            self.give(node_id, Met(now_ns, to, generation, connected=True))

    def kill(self, node_id: int) -> None:
        """The process ends; the machine resets its connections."""
        self.down.add(node_id)
        for other in self.nodes:
            if other != node_id:
                generation = self.nodes[node_id]._generation
                self.give(other, Unheard(self.clock(other), node_id, generation))
                self.give(other, Lost(self.clock(other), node_id, generation))

    def reset(self, node_id: int, to: int) -> None:
        """One connection is lost."""
        self.give(node_id, Lost(self.clock(node_id), to, self.nodes[to]._generation))

    def leave(self, node_id: int) -> None:
        self.give(node_id, Leave(self.clock(node_id)))

    def run(self, duration_ms: int) -> None:
        """Let time pass."""
        for _ in range(duration_ms * MS // STEP_NS):
            self.now_ns += STEP_NS
            for node_id in self.nodes:
                held = node_id in self.down | self.dark | self.paused
                if not held and (self.now_ns // STEP_NS + node_id * 3) % 10 == 0:
                    self.give(node_id, Tick(self.clock(node_id), self.random.bits(64)))

    def cut(self, first: set[int], second: set[int]) -> None:
        """Cut two groups off from each other, both ways and silently."""
        for one in first:
            for other in second:
                self.silenced |= {(one, other), (other, one)}

    def heal(self) -> None:
        self.silenced.clear()
        self.rejected.clear()

    def alive(self, node_id: int) -> tuple[int, ...]:
        return self.nodes[node_id].view.alive()

    def states(self, node_id: int) -> list[str]:
        return [status.state for status in self.nodes[node_id].view.nodes]

    def all_agree(self, alive: tuple[int, ...]) -> bool:
        return all(self.alive(node_id) == alive for node_id in alive)
