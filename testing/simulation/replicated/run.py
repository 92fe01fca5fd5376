"""Running seeds of loglet worlds: one from its first event to its last check."""

from dataclasses import dataclass, field

from ..chance import Chance
from ..loop import SimulationLoop, run_simulated
from ..trace import logs_in_trace
from ..verdict import judge, judge_twice
from .world import LogletWorld, LogletWorldOptions

_JITTER_NS_MAX = 50_000


@dataclass(slots=True)
class LogletReport:
    """What one seed came to.

    Attributes:
        violated: the invariant that did not hold, empty when all did.
        detail: what was seen instead.
        digest: a hash over trace and disks; the same seed gives the same one.
        lines: the trace.
        acknowledged: records that were.
        operations: of readers and sealers.
    """

    seed: int
    violated: str = ""
    detail: str = ""
    digest: str = ""
    virtual_ns: int = 0
    acknowledged: int = 0
    operations: int = 0
    lines: list[str] = field(default_factory=list)


def run_loglet_seed(seed: int, options: LogletWorldOptions | None = None) -> LogletReport:
    """Run the world of a seed. What it finds is in the report; only a bug in here raises."""
    loop = SimulationLoop(jitter=Chance(seed, "timers"), jitter_ns_max=_JITTER_NS_MAX)
    world = LogletWorld(seed, options or LogletWorldOptions(), loop)
    report = LogletReport(seed)
    with logs_in_trace(world.trace):
        judge(report, lambda: run_simulated(world.run(), loop, until_ns=world.options.end_ns))
    rows = [
        part
        for server in world.servers.values()
        for row in sorted(server.disk.rows().items())
        for part in row
    ]
    report.lines = world.trace.lines
    report.digest = world.trace.digest(*rows, report.violated.encode())
    report.virtual_ns = loop.now_ns
    report.acknowledged = world.history.acknowledged
    report.operations = world.operations_done
    return report


def run_loglet_seed_twice(seed: int, options: LogletWorldOptions | None = None) -> LogletReport:
    """Run a seed, and once more when all is well: another outcome is a violation, too."""
    return judge_twice(lambda: run_loglet_seed(seed, options))
