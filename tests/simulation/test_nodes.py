"""Whole nodes live through faults of machines, disks, links and processes, and nothing is lost.

``PERDURE_NODES_SEEDS`` says how many worlds have seeds that nobody has run before; they are
printed, and ``perdure sim --nodes --seed N`` shows one again.
"""

import os

import pytest

from perdure.core.random import SystemRandom
from perdure.testing.simulation.loop import SimulationLoop
from perdure.testing.simulation.nodes import NodesOptions, NodesReport, apart, run_nodes_seed
from perdure.testing.simulation.nodes.differing import FAULT
from perdure.testing.simulation.nodes.faults import DISK_LOST, KINDS
from perdure.testing.simulation.nodes.world import NodesWorld
from perdure.testing.simulation.nodes.zones import FAILURE, LOG_ZONES

from ..seeds import check_found, check_same_in_every_process, show
from .nodes_breakages import NODES_BREAKAGES

FRESH = int(os.environ.get("PERDURE_NODES_SEEDS", "20"))
PARTS = 4
SEEDS_MAX = 100
S = 1_000_000_000

_PRINT_DIGESTS = """
from perdure.testing.simulation.nodes import run_nodes_seed
for seed in (3, 4):
    print(run_nodes_seed(seed).digest)
"""


def failures(reports: list[NodesReport]) -> list[str]:
    return [
        f"{report.detail}\nrun it again with: perdure sim --nodes --seed {report.seed}"
        for report in reports
        if report.violated
    ]


@pytest.mark.parametrize("part", range(PARTS))
def test_every_promise_holds_for_fresh_seeds(part: int, capsys: pytest.CaptureFixture[str]) -> None:
    """In parts, which processes that run the tests share."""
    count = len(range(part, FRESH, PARTS))
    first = SystemRandom().bits(31)
    show(capsys, f"seeds of whole nodes {first} to {first + count - 1}")
    reports = [run_nodes_seed(first + number) for number in range(count)]

    assert failures(reports) == [], "\n".join(failures(reports))
    assert all(report.virtual_ns >= 30 * S for report in reports)
    assert sum(report.looks for report in reports) >= count
    assert sum(report.leaders for report in reports) >= count


def test_logs_are_ordered_apart_from_their_leaders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "SHARE", 1.0)
    reports = [run_nodes_seed(seed) for seed in range(90_000, 90_003)]

    assert failures(reports) == [], "\n".join(failures(reports))
    assert all(report.apart > 50 for report in reports)


@pytest.mark.parametrize("kinds", [KINDS[:7], KINDS[7:14], (*KINDS[14:], DISK_LOST)])
def test_each_kind_of_fault_happens(kinds: tuple[str, ...]) -> None:
    options = NodesOptions(count=3, kinds=kinds, gap_ns=(S // 50, S // 2), faults_ns=10 * S)
    reports = [run_nodes_seed(seed, options) for seed in range(2)]

    assert failures(reports) == [], "\n".join(failures(reports))
    assert {kind for report in reports for kind in report.faults} == set(kinds)


def test_zones_fail_and_copies_differ() -> None:
    options = NodesOptions(count=4, zones=True, differing=True)
    reports = [run_nodes_seed(seed, options) for seed in range(2)]

    assert failures(reports) == [], "\n".join(failures(reports))
    assert {FAILURE, FAULT} <= {kind for report in reports for kind in report.faults}


def test_every_node_appends_to_a_log_and_everything_counts_once() -> None:
    options = NodesOptions(producing=True)
    reports = [run_nodes_seed(seed, options) for seed in range(3)]

    assert failures(reports) == [], "\n".join(failures(reports))
    assert all(report.appends > 100 for report in reports)


def test_worlds_with_zones_copies_that_differ_or_appends_are_some_of_all() -> None:
    worlds = [NodesWorld(seed, NodesOptions(), SimulationLoop()) for seed in range(200)]
    zoned = [world for world in worlds if world.zones.of]
    assert 0.15 < len(zoned) / len(worlds) < 0.35
    assert all(len(set(world.zones.of.values())) >= LOG_ZONES for world in zoned)
    assert 0.1 < sum(world.differing.wanted for world in worlds) / len(worlds) < 0.3
    assert 0.15 < sum(world.producing.wanted for world in worlds) / len(worlds) < 0.35


def test_bytes_do_not_depend_on_the_process() -> None:
    check_same_in_every_process(_PRINT_DIGESTS, seeds=2)


FOUND = {
    "commit_below_quorum": 2,
    "seal_below_f_majority": 1,
    "retries_forgotten": 5,
    "outbox_taken_twice": 2,
    "trimmed_below_no_snapshot": 1,
    "an_empty_disk_is_let_in": 1,
    "one_zone_is_enough": 10,
    "set_aside_for_this_life": 1,
    "set_aside_without_a_sync": 4,
    "set_aside_and_goes_on": 2,
    "the_lead_stays_with_who_is_set_aside": 6,
}
"""Where to look first, so that not all are tried: the seed that showed a breakage last time.

What is changed in the product or in the worlds makes other worlds of the same seeds. So breakages
have worlds of which about each fifth shows them, and a seed that shows nothing any more costs
seconds, not minutes.
"""


@pytest.mark.parametrize("name", NODES_BREAKAGES)
def test_a_broken_rule_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = NODES_BREAKAGES[name](monkeypatch)
    seeds = sorted(range(SEEDS_MAX), key=lambda seed: seed != FOUND.get(name, 0))

    check_found(
        name,
        monkeypatch,
        lambda seed: run_nodes_seed(seed, options),
        lambda seed: run_nodes_seed(seed, options),
        seeds,
    )
