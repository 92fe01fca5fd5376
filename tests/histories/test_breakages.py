"""Histories find each rule that is broken on purpose, within its number of seeds."""

import pytest

from perdure.testing.histories import run_history

from ..seeds import check_found
from .breakages import BREAKAGES

SEEDS_MAX = 200


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_broken_rule_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BREAKAGES[name](monkeypatch)

    check_found(name, monkeypatch, run_history, run_history, range(SEEDS_MAX))
