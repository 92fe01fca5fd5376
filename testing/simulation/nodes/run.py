"""Running seeds of whole nodes: one world from its first event to its last check."""

from dataclasses import dataclass, field

from ..chance import Chance
from ..disk import all_rows
from ..loop import SimulationLoop, run_simulated
from ..verdict import WorldReport, judge_twice, judge_world
from .world import NodesOptions, NodesWorld

_JITTER_NS_MAX = 200_000
_END_NS = 300_000_000_000


@dataclass(slots=True)
class NodesReport(WorldReport):
    """What one seed came to.

    Attributes:
        operations: how much clients asked for.
        looks: how often a result was read again.
        records: how many records all logs have had.
        lives: how often a node was started.
        leaders: how often somebody took the lead.
        apart: records that were ordered at another node than the partition's leader.
        appends: to the log of nobody's partition, that were acknowledged.
        faults: how many there were, by kind.
    """

    operations: int = 0
    looks: int = 0
    records: int = 0
    lives: int = 0
    leaders: int = 0
    apart: int = 0
    appends: int = 0
    faults: dict[str, int] = field(default_factory=dict)


def run_nodes_seed_twice(
    seed: int, options: NodesOptions | None = None, *, twice: bool = True, keep_lines: int = 0
) -> NodesReport:
    """Run a seed, and when `twice` once more: another outcome is a violation, too.

    Args:
        keep_lines: how much of the trace's end to keep, 0 for all; nothing of a seed that is well.
    """
    return judge_twice(lambda: run_nodes_seed(seed, options), twice=twice, keep_lines=keep_lines)


def run_nodes_seed(seed: int, options: NodesOptions | None = None) -> NodesReport:
    """Run the cluster of a seed. What it finds is in the report; only a bug in here raises."""
    loop = SimulationLoop(jitter=Chance(seed, "timers"), jitter_ns_max=_JITTER_NS_MAX)
    world = NodesWorld(seed, options or NodesOptions(), loop)
    report = NodesReport(seed)
    judge_world(
        report,
        lambda: run_simulated(world.run(), loop, until_ns=_END_NS),
        trace=world.trace,
        loop=loop,
        made=lambda: all_rows(disk for disks in world.disks.values() for disk in disks.values()),
    )
    report.operations = len(world.history.operations)
    report.looks = world.asking.looks
    report.records = sum(len(item.records) for item in world.checks.partitions)
    report.leaders = sum(item.announced for item in world.checks.partitions)
    report.apart = world.apart.records
    report.appends = world.producing.acknowledged
    report.lives = world.lives
    report.faults = dict(sorted(world.faults.counts.items()))
    return report
