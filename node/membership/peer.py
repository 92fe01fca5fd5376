"""Peer: what the failure detector knows of one other node, and when it judges it."""

from dataclasses import dataclass, field
from typing import Final

from .view import NodeState

MS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class DetectorOptions:
    """How patient the detector is; durations in ns.

    Attributes:
        tick_ns: how often it tells others.
        fanout: how many it tells each time.
        suspect_ns: silence after which a node gets nothing new.
        dead_ns: silence after which it is dead.
        vouch_ns: how long others may say that they still have a node that refused us.
        pause_ns: a gap between two events of our own that is no lateness but a pause.
        recover_ns: how steadily a dead node must be heard to live again; doubles with each death.
        recover_ns_max: the longest that becomes.
        forgive_ns: a life of this length makes earlier deaths forgotten.
        redial_ns: the shortest wait until a node is dialled again; doubles.
        redial_ns_max: the longest.
    """

    tick_ns: int = 100 * MS
    fanout: int = 2
    suspect_ns: int = 600 * MS
    dead_ns: int = 1_500 * MS
    vouch_ns: int = 80 * MS
    pause_ns: int = 500 * MS
    recover_ns: int = 1_000 * MS
    recover_ns_max: int = 8_000 * MS
    forgive_ns: int = 60_000 * MS
    redial_ns: int = 100 * MS
    redial_ns_max: int = 1_000 * MS


@dataclass(slots=True)
class Peer:
    """One other node. Times are of the detector's own clocks, see `detector`.

    Attributes:
        counter: its newest heartbeat, of this generation.
        heard_at: when that came, awake time.
        silent_since: the same in informed time.
        alive_since: when it was first heard in this life, or since it was last dead.
        recovering_since: since when it has been heard steadily while dead, None while it is not.
        deaths: how often it died in this generation and was heard again.
        refused_at: when we were refused, None once that is settled.
        answered: who has said since then that it has no connection either.
        doubts_me: its last gossip held us to be dead.
        gone: dead for certain: its own machine says that the process is not there.
        told_at: at which count of our own it was last answered out of turn.
        direct_at: when something came from the node itself, awake time.
        hearing: the connection over which that came is open.
    """

    node_id: int
    generation: int
    heard_at: int
    silent_since: int
    state: NodeState = "suspect"
    counter: int = 0
    leaving: bool = False
    connected: bool = False
    connected_at: int = 0
    dialling: bool = False
    next_dial: int = 0
    redial_ns: int = 0
    alive_since: int = 0
    recovering_since: int | None = None
    deaths: int = 0
    refused_at: int | None = None
    gone: bool = False
    answered: set[int] = field(default_factory=set)
    doubts_me: bool = False
    told_at: int = -1
    direct_at: int = 0
    hearing: bool = False

    def restart(self, generation: int, awake: int, informed: int, *, heard: bool) -> None:
        """A newer start of the node: nothing that was known of the older one counts."""
        self.generation = generation
        self.counter = 0
        self.heard_at = awake
        self.silent_since = informed
        self.state = "alive" if heard else "suspect"
        self.alive_since = awake
        self.leaving = False
        self.connected = self.dialling = self.hearing = False
        self.next_dial = awake
        self.redial_ns = 0
        self.recovering_since = None
        self.deaths = 0
        self.gone = False
        self.doubts_me = False
        self.settle_refusal()

    def settle_refusal(self) -> None:
        """Forget a refusal, whatever became of it."""
        self.refused_at = None
        self.answered.clear()

    def advance(self, counter: int, awake: int, informed: int, options: DetectorOptions) -> None:
        """A newer heartbeat of this generation has come, from whomever."""
        steady = awake - self.heard_at <= options.suspect_ns
        self.counter = counter
        self.heard_at = awake
        self.silent_since = informed
        if self.state == "suspect":
            self.state = "alive"
            self.alive_since = awake
        elif self.state == "dead":
            self._recover(steady, awake, options)
        if self.state == "alive" and awake - self.alive_since > options.forgive_ns:
            self.deaths = 0

    def _recover(self, steady: bool, awake: int, options: DetectorOptions) -> None:
        """Live again only after a while: heartbeats of the dead may still be on their way."""
        if self.recovering_since is None or not steady:
            self.recovering_since = awake
        wait_ns = options.recover_ns << min(max(self.deaths - 1, 0), 10)
        if awake - self.recovering_since >= min(wait_ns, options.recover_ns_max):
            self.state = "alive"
            self.alive_since = awake
            self.recovering_since = None
            self.gone = False

    def die(self, *, gone: bool) -> None:
        """Declare it dead; `gone`: its own machine says that the process is not there."""
        if self.state != "dead":
            self.state = "dead"
            self.deaths += 1
            self.recovering_since = None
        self.gone = self.gone or gone
        self.settle_refusal()

    def wait_to_redial(self, awake: int, options: DetectorOptions) -> None:
        """A connection was not made or was refused: dial again, each time later."""
        self.connected = self.dialling = False
        self.redial_ns = min(max(self.redial_ns * 2, options.redial_ns), options.redial_ns_max)
        self.next_dial = awake + self.redial_ns
