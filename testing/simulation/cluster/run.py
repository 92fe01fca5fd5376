"""Running seeds of clusters: one world from its first event to its last check."""

from dataclasses import dataclass, field

from ..chance import Chance
from ..loop import SimulationLoop, run_simulated
from ..verdict import WorldReport, judge_twice, judge_world
from .world import ClusterOptions, ClusterWorld

_JITTER_NS_MAX = 2_000_000
_END_NS = 300_000_000_000


@dataclass(slots=True)
class ClusterReport(WorldReport):
    """What one seed came to.

    Attributes:
        faults: how many there were, by kind.
        deaths: how often a node was declared dead by another.
        placements: how often the placement was changed.
        lead_moves: how often a partition was given another leader.
    """

    faults: dict[str, int] = field(default_factory=dict)
    deaths: int = 0
    placements: int = 0
    lead_moves: int = 0


def run_cluster_seed(seed: int, options: ClusterOptions | None = None) -> ClusterReport:
    """Run the cluster of a seed. What it finds is in the report; only a bug in here raises."""
    loop = SimulationLoop(jitter=Chance(seed, "timers"), jitter_ns_max=_JITTER_NS_MAX)
    world = ClusterWorld(seed, options or ClusterOptions(), loop)
    report = ClusterReport(seed)
    judge_world(
        report,
        lambda: run_simulated(world.run(), loop, until_ns=_END_NS),
        trace=world.trace,
        loop=loop,
        made=lambda: list(world.last_values),
    )
    report.faults = dict(sorted(world.faults.counts.items()))
    report.deaths = world.checks.deaths
    report.placements = world.checks.placements
    report.lead_moves = world.checks.lead_moves
    return report


def run_cluster_seed_twice(seed: int, options: ClusterOptions | None = None) -> ClusterReport:
    """Run a seed, and once more: another outcome is a violation, too."""
    return judge_twice(lambda: run_cluster_seed(seed, options))
