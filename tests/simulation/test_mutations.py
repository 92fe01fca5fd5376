"""Worlds find what is broken: each breakage within its number of seeds."""

import dataclasses

import pytest

from perdure.testing.simulation import run_seed

from ..seeds import check_found
from .breakages import BREAKAGES

SEEDS_MAX = 200


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_broken_product_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = BREAKAGES[name](monkeypatch)

    sound = dataclasses.replace(options, alter_node=None)
    check_found(
        name,
        monkeypatch,
        lambda seed: run_seed(seed, options),
        lambda seed: run_seed(seed, sound),
        range(SEEDS_MAX),
    )
