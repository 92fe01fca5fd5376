"""Worlds of a replicated loglet: fixed seeds, fresh ones, the same bytes, and what is broken."""

import random

import pytest

from perdure.testing.simulation.replicated import (
    LogletWorldOptions,
    run_loglet_seed,
    run_loglet_seed_twice,
)

from ..seeds import check_found, show
from .loglet_breakages import BREAKAGES

FIXED_SEEDS = range(6)
FRESH_SEEDS = 8
SEEDS_MAX = 100
LOSSES = (2, 3, 10)
"""Seeds of worlds whose operator is not refused; in the first and the last records are missing."""


def check(seed: int, *, twice: bool) -> None:
    report = run_loglet_seed_twice(seed) if twice else run_loglet_seed(seed)
    assert not report.violated, f"seed {seed}: {report.violated}: {report.detail}"


@pytest.mark.parametrize("seed", FIXED_SEEDS)
def test_nothing_acknowledged_is_lost(seed: int) -> None:
    check(seed, twice=seed < 3)


def test_fresh_seeds_are_well(capsys: pytest.CaptureFixture[str]) -> None:
    first = random.SystemRandom().getrandbits(32)
    show(capsys, f"loglet seeds {first} to {first + FRESH_SEEDS - 1}")
    for seed in range(first, first + FRESH_SEEDS):
        check(seed, twice=False)


def test_what_lay_on_lost_disks_alone_is_lost_and_nothing_else() -> None:
    """Holes that nobody gives, an end by word, and another segment behind it."""
    for seed in LOSSES:
        report = run_loglet_seed(seed, LogletWorldOptions(loss=True))
        assert not report.violated, f"seed {seed}: {report.violated}: {report.detail}"
        assert report.loss_accepted


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_broken_loglet_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = BREAKAGES[name](monkeypatch)

    check_found(
        name,
        monkeypatch,
        lambda seed: run_loglet_seed(seed, options),
        lambda seed: run_loglet_seed(seed, options),
        range(SEEDS_MAX),
    )
