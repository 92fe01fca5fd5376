"""Every promise holds in generated histories, and a seed is all it takes to see one again.

``PERDURE_HISTORIES`` says how many there are, ``PERDURE_HISTORIES_FIRST_SEED`` where they begin;
without it they begin where no run has begun before. docs/proof.md counts those that were run.
"""

import os
import random

import pytest

from perdure.admin.cli.main import run
from perdure.testing.histories import HistoryOptions, run_history
from perdure.testing.histories.history import History

from ..seeds import check_same_in_every_process, show

HISTORIES = int(os.environ.get("PERDURE_HISTORIES", "500"))
# The same in all processes that share the tests of a run.
_FRESH = random.Random(os.environ.get("PYTEST_XDIST_TESTRUNUID")).randrange(10**6, 10**9)
FIRST_SEED = int(os.environ.get("PERDURE_HISTORIES_FIRST_SEED", _FRESH))
CHUNK = 50

_PRINT_DIGESTS = """
from perdure.testing.histories import run_history
for seed in range(20):
    print(run_history(seed).digest)
"""


@pytest.mark.parametrize("chunk", range(0, HISTORIES, CHUNK))
def test_every_promise_holds(chunk: int, capsys: pytest.CaptureFixture[str]) -> None:
    first = FIRST_SEED + chunk
    if not chunk:
        show(capsys, f"histories from seed {FIRST_SEED} on")
    reports = [run_history(seed) for seed in range(first, first + min(CHUNK, HISTORIES - chunk))]

    failed = [
        f"{report.detail}\nrun it again with: perdure sim --histories --seed {report.seed}"
        for report in reports
        if report.violated
    ]
    assert failed == [], "\n".join(failed)
    assert sum(report.invocations for report in reports) > 2 * len(reports)


def test_histories_have_in_them_what_they_are_for() -> None:
    reports = [run_history(seed) for seed in range(60)]
    lines = "\n".join(line for report in reports for line in report.lines)

    assert [report.detail for report in reports if report.violated] == []
    assert sum(report.lives > 1 for report in reports) > 10
    assert sum(report.refused for report in reports) > 10
    for event in ("loses its power", "is killed", "is cut off", "freezes", "log is sealed"):
        assert event in lines
    for event in ("asks again", "Kill(", "Pause(", "Resume(", "Restart(", "Purge(", "PatchState("):
        assert event in lines


def test_a_history_without_faults_has_none() -> None:
    report = run_history(3, HistoryOptions(faults=False))

    assert (report.violated, report.lives) == ("", 1)
    assert report.invocations > 0


def test_the_same_seed_gives_the_same_bytes_in_every_process() -> None:
    check_same_in_every_process(_PRINT_DIGESTS, seeds=20)


def test_command_runs_many_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["sim", "--histories", "--seeds", "3", "--first", "11", "--twice"])

    assert code == 0
    assert capsys.readouterr().out.startswith("seeds 11 to 13: 3 run, 0 failed")


def test_command_prints_the_course_of_one_seed(capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["sim", "--histories", "--seed", "7"])

    printed = capsys.readouterr().out
    assert code == 0
    assert "asks for" in printed
    assert "every promise held" in printed


def test_command_shows_how_to_run_a_failing_seed_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(History, "_check_end", lambda _self: 1 // 0)

    code = run(["sim", "--histories", "--seeds", "1", "--first", "9"])

    printed = capsys.readouterr().out
    assert code == 1
    assert "seed 9 FAILED: nothing raises ZeroDivisionError" in printed
    assert "run it again with: perdure sim --histories --seed 9" in printed
