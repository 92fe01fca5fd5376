"""Running seeds: one world from its first event to its last check, and what came of it."""

from dataclasses import dataclass

from .chance import Chance
from .checkers import check_end, check_survival
from .disk import all_rows
from .log_checkers import check_log_end
from .loop import SimulationLoop, run_simulated
from .verdict import WorldReport, judge_twice, judge_world
from .world import World, WorldOptions

JITTER_NS_MAX = 50_000


@dataclass(slots=True)
class SeedReport(WorldReport):
    """What one seed came to."""

    operations: int = 0
    lives: int = 0


def run_seed(seed: int, options: WorldOptions | None = None) -> SeedReport:
    """Run the world of a seed. What it finds is in the report; only a bug in here raises."""
    loop = SimulationLoop(jitter=Chance(seed, "timers"), jitter_ns_max=JITTER_NS_MAX)
    world = World(seed, options or WorldOptions(), loop)
    report = SeedReport(seed)

    def run() -> None:
        run_simulated(world.run(), loop, until_ns=world.options.end_ns)
        _check(world)

    judge_world(
        report, run, trace=world.trace, loop=loop, made=lambda: all_rows(world.disks.values())
    )
    report.operations = len(world.history.operations)
    report.lives = world.lives
    return report


def _check(world: World) -> None:
    """What must hold when a world has ended. Raises InvariantViolation."""
    if world.ended_early:
        records = world.observer.read(world.disks["log"].rows())
        check_survival(records, records, world.history)
        world.raw.check_survival([])
        return
    check_end(world.disks, world.observer, world.history)
    check_log_end(world.raw.read_all(), world.raw.history)


def run_seed_twice(
    seed: int, options: WorldOptions | None = None, *, twice: bool = True, keep_lines: int = 0
) -> SeedReport:
    """Run a seed, and when `twice` once more: another outcome is a violation, too.

    Args:
        keep_lines: how much of the trace's end to keep, 0 for all; nothing of a seed that is well.
    """
    return judge_twice(lambda: run_seed(seed, options), twice=twice, keep_lines=keep_lines)
