"""Generated worlds: every history is linearizable, every broken rule is found."""

import itertools
import random
from collections import Counter

import pytest

from ...seeds import show
from .breakages import BREAKAGES, Breakage
from .world import Plan, World, run_world

PLANS = {
    "three servers": Plan(3),
    "five servers, lost storage": Plan(5, wipes=True),
    "three servers, list changes": Plan(3, changes=8, wipes=True),
    "five servers, list changes": Plan(5, changes=8, wipes=True),
    "one server": Plan(1),
    "many faults": Plan(3, calls=25, faults=40),
    "one key, list changes": Plan(
        3, calls=15, changes=12, faults=40, keys=1, kinds=("lag", "cut", "crash"), step_ms=15
    ),
}
SEEDS = range(4)
FRESH_SEEDS = 2
SEEDS_MAX = 100
"""A broken rule has to be found within so many worlds."""


@pytest.mark.parametrize("plan", PLANS)
def test_worlds_are_linearizable(plan: str, capsys: pytest.CaptureFixture[str]) -> None:
    fresh = [random.SystemRandom().getrandbits(32) for _ in range(FRESH_SEEDS)]
    show(capsys, f"metadata seeds {fresh}, {plan}")
    counts: Counter[str] = Counter()
    for seed in (*SEEDS, *fresh):
        counts += run_world(seed, PLANS[plan]).counts

    # Worlds are rough, and calls get through all the same.
    for answer in ("Get Found", "Put Stored", "Put Refused", "Look Listed", "Delete Deleted"):
        assert counts[answer] > 0, counts
    assert counts["crash"] + counts["power lost in an operation"] > 0, counts
    if PLANS[plan].changes:
        assert counts["added"] > 0, counts
        assert counts["removed"] > 0, counts


@pytest.mark.parametrize("plan", ["many faults", "five servers, list changes"])
def test_the_same_seed_gives_the_same_bytes(plan: str) -> None:
    first, again = (run_world(7, PLANS[plan]) for _ in range(2))

    assert first.lines == again.lines
    assert first.digest == again.digest
    assert first.digest != run_world(8, PLANS[plan]).digest


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.__name__)
def test_a_broken_rule_is_found(breakage: Breakage, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, likely = BREAKAGES[breakage]
    world_type = breakage(monkeypatch) or World
    found = None
    # The seed that found it last comes first, as some take seconds to find anew.
    for seed in itertools.chain([likely], range(SEEDS_MAX)):
        try:
            run_world(seed, plan, world_type)
        except AssertionError:
            found = seed
            break

    assert found is not None, f"not found within {SEEDS_MAX} seeds"
    monkeypatch.undo()
    run_world(found, plan)
