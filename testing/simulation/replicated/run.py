"""Running seeds of loglet worlds: one from its first event to its last check."""

from dataclasses import dataclass

from ..chance import Chance
from ..disk import all_rows
from ..loop import SimulationLoop, run_simulated
from ..verdict import WorldReport, judge_twice, judge_world
from .world import LogletWorld, LogletWorldOptions

_JITTER_NS_MAX = 50_000


@dataclass(slots=True)
class LogletReport(WorldReport):
    """What one seed came to.

    Attributes:
        acknowledged: records that were.
        operations: of readers and sealers.
        loss_accepted: more disks were lost than are borne, and the log went on without them.
    """

    acknowledged: int = 0
    operations: int = 0
    loss_accepted: bool = False


def run_loglet_seed(seed: int, options: LogletWorldOptions | None = None) -> LogletReport:
    """Run the world of a seed. What it finds is in the report; only a bug in here raises."""
    loop = SimulationLoop(jitter=Chance(seed, "timers"), jitter_ns_max=_JITTER_NS_MAX)
    world = LogletWorld(seed, options or LogletWorldOptions(), loop)
    report = LogletReport(seed)
    judge_world(
        report,
        lambda: run_simulated(world.run(), loop, until_ns=world.options.end_ns),
        trace=world.trace,
        loop=loop,
        made=lambda: all_rows(server.disk for server in world.servers.values()),
    )
    report.acknowledged = world.history.acknowledged
    report.operations = world.operations_done
    report.loss_accepted = world.loss.accepted
    return report


def run_loglet_seed_twice(seed: int, options: LogletWorldOptions | None = None) -> LogletReport:
    """Run a seed, and once more when all is well: another outcome is a violation, too."""
    return judge_twice(lambda: run_loglet_seed(seed, options))
