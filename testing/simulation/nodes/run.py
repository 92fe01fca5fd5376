"""Running seeds of whole nodes: one world from its first event to its last check."""

from dataclasses import dataclass, field

from ..chance import Chance
from ..loop import SimulationLoop, run_simulated
from ..trace import logs_in_trace
from ..verdict import judge, judge_twice
from .world import NodesOptions, NodesWorld

_JITTER_NS_MAX = 200_000
_END_NS = 300_000_000_000


@dataclass(slots=True)
class NodesReport:
    """What one seed came to.

    Attributes:
        violated: the invariant that did not hold, empty when all did.
        detail: what was seen instead.
        digest: a hash over trace and stores; the same seed gives the same one.
        operations: how much clients asked for.
        looks: how often a result was read again.
        records: how many records all logs have had.
        lives: how often a node was started.
        leaders: how often somebody took the lead.
        apart: records that were ordered at another node than the partition's leader.
        faults: how many there were, by kind.
        lines: the trace.
    """

    seed: int
    violated: str = ""
    detail: str = ""
    digest: str = ""
    virtual_ns: int = 0
    operations: int = 0
    looks: int = 0
    records: int = 0
    lives: int = 0
    leaders: int = 0
    apart: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


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
    with logs_in_trace(world.trace):
        judge(report, lambda: run_simulated(world.run(), loop, until_ns=_END_NS))
    report.lines = world.trace.lines
    rows: list[bytes] = []
    for disks in world.disks.values():
        for disk in disks.values():
            for key, value in sorted(disk.rows().items()):
                rows += (key, value)
    report.digest = world.trace.digest(*rows, report.violated.encode())
    report.virtual_ns = loop.now_ns
    report.operations = len(world.history.operations)
    report.looks = world.asking.looks
    report.records = sum(len(item.records) for item in world.checks.partitions)
    report.leaders = sum(item.announced for item in world.checks.partitions)
    report.apart = world.apart.records
    report.lives = world.lives
    report.faults = dict(sorted(world.faults.counts.items()))
    return report
