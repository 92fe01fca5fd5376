"""Running seeds of clusters: one world from its first event to its last check."""

from dataclasses import dataclass, field

from ..chance import Chance
from ..loop import SimulationLoop, run_simulated
from ..trace import logs_in_trace
from ..verdict import judge, judge_twice
from .world import ClusterOptions, ClusterWorld

_JITTER_NS_MAX = 2_000_000
_END_NS = 300_000_000_000


@dataclass(slots=True)
class ClusterReport:
    """What one seed came to.

    Attributes:
        violated: the invariant that did not hold, empty when all did.
        detail: what was seen instead.
        digest: a hash over trace and metadata; the same seed gives the same one.
        faults: how many there were, by kind.
        deaths: how often a node was declared dead by another.
        placements: how often the placement was changed.
        lead_moves: how often a partition was given another leader.
        lines: the trace.
    """

    seed: int
    violated: str = ""
    detail: str = ""
    digest: str = ""
    virtual_ns: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    deaths: int = 0
    placements: int = 0
    lead_moves: int = 0
    lines: list[str] = field(default_factory=list)


def run_cluster_seed(seed: int, options: ClusterOptions | None = None) -> ClusterReport:
    """Run the cluster of a seed. What it finds is in the report; only a bug in here raises."""
    loop = SimulationLoop(jitter=Chance(seed, "timers"), jitter_ns_max=_JITTER_NS_MAX)
    world = ClusterWorld(seed, options or ClusterOptions(), loop)
    report = ClusterReport(seed)
    with logs_in_trace(world.trace):
        judge(report, lambda: run_simulated(world.run(), loop, until_ns=_END_NS))
    report.lines = world.trace.lines
    report.digest = world.trace.digest(*world.last_values, report.violated.encode())
    report.virtual_ns = loop.now_ns
    report.faults = dict(sorted(world.faults.counts.items()))
    report.deaths = world.checks.deaths
    report.placements = world.checks.placements
    report.lead_moves = world.checks.lead_moves
    return report


def run_cluster_seed_twice(seed: int, options: ClusterOptions | None = None) -> ClusterReport:
    """Run a seed, and once more: another outcome is a violation, too."""
    return judge_twice(lambda: run_cluster_seed(seed, options))
