"""Small clusters by seed: leaders move, pause, are deposed; nothing is lost, doubled or unequal."""

import os
import random

import pytest

from ...seeds import show
from .breakages import BREAKAGES
from .world import Options, run_seed

SEEDS = int(os.environ.get("PERDURE_ROLE_SEEDS", "6"))
FRESH = 8
SEEDS_MAX = 100

HEAVY = Options(clients=8, operations=20, partitions=3)
SHORT = Options(end_ns=10_000_000_000)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_is_lost_doubled_or_unequal(seed: int) -> None:
    report = run_seed(seed)
    assert report.violated == "", f"seed {seed}"
    assert report.compared > 0


def test_fresh_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    seeds = [random.SystemRandom().randrange(1 << 32) for _ in range(FRESH)]
    show(capsys, f"role seeds {seeds}")
    for seed in seeds:
        assert run_seed(seed).violated == "", f"seed {seed}"


def test_many_invocations_are_handed_over() -> None:
    report = run_seed(1, HEAVY)
    assert report.violated == ""
    assert report.operations == 8 * 20
    assert report.epochs > 6


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert run_seed(7).digest == run_seed(7).digest


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_broken_rule_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BREAKAGES[name](monkeypatch)
    found = next((seed for seed in range(SEEDS_MAX) if run_seed(seed, SHORT).violated), None)
    assert found is not None, f"{name}: not found within {SEEDS_MAX} seeds"
    monkeypatch.undo()
    assert run_seed(found, SHORT).violated == "", "this seed fails without the breakage, too"
