"""Every promise holds in simulated worlds, and a seed is all it takes to see one again.

``PERDURE_SIM_SEEDS`` says how many general worlds there are, ``PERDURE_SIM_FIRST_SEED`` where they
begin.
"""

import os

import pytest

from perdure.admin.cli.main import run
from perdure.core.random import SystemRandom
from perdure.testing.simulation import WorldOptions, run_seed
from perdure.testing.simulation.node import SimulatedNode
from perdure.testing.simulation.run import SeedReport
from perdure.testing.simulation.verdict import judge_twice

from ..seeds import check_same_in_every_process, show
from .breakages import LOST_BATCHES

SEEDS = int(os.environ.get("PERDURE_SIM_SEEDS", "100"))
FIRST_SEED = int(os.environ.get("PERDURE_SIM_FIRST_SEED", "0"))
CHUNK = 10
FRESH = 8

_PRINT_DIGESTS = """
from perdure.testing.simulation import run_seed
for seed in range(6):
    print(run_seed(seed).digest)
"""


@pytest.mark.parametrize("first", range(FIRST_SEED, FIRST_SEED + SEEDS, CHUNK))
def test_every_promise_holds(first: int) -> None:
    seeds = range(first, min(first + CHUNK, FIRST_SEED + SEEDS))
    reports = [run_seed(seed) for seed in seeds]

    failed = [
        f"{report.detail}\nrun it again with: perdure sim --seed {report.seed}"
        for report in reports
        if report.violated
    ]
    assert failed == [], "\n".join(failed)
    assert sum(report.operations for report in reports) > len(seeds)


def test_worlds_have_faults_in_them() -> None:
    reports = [run_seed(seed) for seed in range(20)]
    lines = "\n".join(line for report in reports for line in report.lines)

    assert sum(report.lives > 1 for report in reports) > 5
    for fault in ("loses its power", "is killed", "dies", "freezes", "are cut", "will fail"):
        assert fault in lines
    # Of the bare log: what it is made to go through, and every kind of answer that matters.
    for event in ("stranger's seal", "new segment", "closed", "is in doubt"):
        assert event in lines
    for answer in ("Committed", "Conflict", "StaleSnapshot", "OutOfOrder", "Duplicate", "Sealed"):
        assert f"{answer}(" in lines
    # In some of them appends come from another process than the one that orders the log.
    away = [
        [line for line in report.lines if "far-plain" in line or "far-appender" in line]
        for report in reports
    ]
    assert sum(bool(found) for found in away) >= len(reports) // 10
    for answer in ("Committed", "Indeterminate"):
        assert any(f"{answer}(" in line for found in away for line in found)


def test_a_world_may_be_without_a_bare_log() -> None:
    report = run_seed(2, WorldOptions(bare_log=False))

    assert report.violated == ""
    assert not any("writer-" in line for line in report.lines)


def test_a_lost_batch_ends_in_an_error_that_names_its_place() -> None:
    """It is never passed over in silence: not by a reader of a log, not by a partition."""
    reports = [run_seed(seed, LOST_BATCHES) for seed in range(30)]
    lines = [line for report in reports for line in report.lines]
    lost = sum("is lost" in line for line in lines)
    told_by = {line.split()[1] for line in lines if "fails: PD0804" in line}

    assert [report.detail for report in reports if report.violated] == []
    assert lost > 10
    assert told_by == {"far", "log", "node"}


SNAPSHOTS = WorldOptions(snapshots=True)


@pytest.mark.parametrize("first", range(FIRST_SEED, FIRST_SEED + SEEDS // 4, CHUNK))
def test_every_promise_holds_where_stores_are_lost_and_built_anew(first: int) -> None:
    """At the end the store is as a replay of the whole log makes it, however it came to be."""
    reports = [run_seed(seed, SNAPSHOTS) for seed in range(first, first + CHUNK)]

    failed = [
        f"{report.detail}\nrun it again with: perdure sim --snapshots --seed {report.seed}"
        for report in reports
        if report.violated
    ]
    assert failed == [], "\n".join(failed)
    lines = "\n".join(line for report in reports for line in report.lines)
    for event in ("snapshot taken", "is lost for good", "snapshot restored"):
        assert event in lines


def test_every_promise_holds_where_stores_are_lost_for_fresh_seeds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = SystemRandom().bits(31)
    show(capsys, f"seeds {first} to {first + FRESH - 1}, with snapshots")
    reports = [run_seed(seed, SNAPSHOTS) for seed in range(first, first + FRESH)]
    assert [report.detail for report in reports if report.violated] == []


def test_a_world_without_faults_has_none() -> None:
    report = run_seed(1, WorldOptions(faults=False))

    assert (report.violated, report.lives) == ("", 1)


@pytest.mark.parametrize("seed", [2, 3])
def test_the_same_seed_gives_the_same_bytes(seed: int) -> None:
    first, second = run_seed(seed), run_seed(seed)

    assert first.lines == second.lines
    assert first.digest == second.digest


def test_another_seed_gives_other_bytes() -> None:
    assert len({run_seed(seed).digest for seed in range(10)}) == 10


def test_bytes_do_not_depend_on_the_process() -> None:
    check_same_in_every_process(_PRINT_DIGESTS, seeds=6)


def broken(node: SimulatedNode) -> None:
    """Have every request refused as one that no client should repeat."""
    assert node.engine is not None
    node.engine.dispatcher._body_bytes_max = -1


def test_a_failing_seed_says_what_was_broken_and_how_to_see_it_again() -> None:
    first = run_seed(5, WorldOptions(alter_node=broken))
    second = run_seed(5, WorldOptions(alter_node=broken))

    assert first.violated == "no sound request is refused"
    assert "PD0505" in first.detail
    assert first.lines
    assert first.lines == second.lines


def test_command_prints_the_trace_of_one_seed(capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["sim", "--seed", "7", "--twice"])

    printed = capsys.readouterr().out
    assert code == 0
    assert printed.startswith("      0.0")
    assert "starts, life 1" in printed
    assert "every promise held" in printed


def test_command_runs_worlds_that_lose_stores(capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["sim", "--snapshots", "--seed", "4", "--twice"])

    assert code == 0
    assert "snapshot taken" in capsys.readouterr().out
    assert run(["sim", "--snapshots", "--histories"]) == 2


def test_command_runs_many_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["sim", "--seeds", "3", "--first", "11"])

    assert code == 0
    assert capsys.readouterr().out.startswith("seeds 11 to 13: 3 run, 0 failed")


def test_command_shows_how_to_run_a_failing_seed_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.testing.simulation.run.check_end", lambda *_: 1 // 0)

    code = run(["sim", "--seeds", "1", "--first", "9"])

    printed = capsys.readouterr().out
    assert code == 1
    assert "seed 9 FAILED: nothing raises ZeroDivisionError" in printed
    assert "run it again with: perdure sim --seed 9" in printed
    assert "failed: 9" in printed


def test_another_outcome_of_the_same_seed_is_a_violation() -> None:
    def outcomes(*lines: str) -> SeedReport:
        reports = iter([SeedReport(1, digest=line, lines=["same", line]) for line in lines])
        return judge_twice(lambda: next(reports))

    assert outcomes("a", "a").violated == ""
    assert outcomes("a", "b").violated == "the same seed gives the same bytes"
    assert "line 2 of the trace:\na\nb" in outcomes("a", "b").detail
