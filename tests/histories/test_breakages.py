"""Histories find each rule that is broken on purpose, within its number of seeds."""

import pytest

from perdure.testing.histories import run_history

from .breakages import BREAKAGES

SEEDS_MAX = 200


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_broken_rule_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BREAKAGES[name](monkeypatch)

    found = next((seed for seed in range(SEEDS_MAX) if run_history(seed).violated), None)

    assert found is not None, f"{name}: not found within {SEEDS_MAX} seeds"
    monkeypatch.undo()
    assert run_history(found).violated == "", "this seed fails without the breakage, too"
