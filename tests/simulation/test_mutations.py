"""Worlds find what is broken: each breakage within its number of seeds."""

import dataclasses

import pytest

from perdure.testing.simulation import run_seed

from .breakages import BREAKAGES

SEEDS_MAX = 200


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_broken_product_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = BREAKAGES[name](monkeypatch)

    found = next((seed for seed in range(SEEDS_MAX) if run_seed(seed, options).violated), None)

    assert found is not None, f"{name}: not found within {SEEDS_MAX} seeds"
    monkeypatch.undo()
    sound = run_seed(found, dataclasses.replace(options, alter_node=None))
    assert sound.violated == "", "this seed fails without the breakage, too"
