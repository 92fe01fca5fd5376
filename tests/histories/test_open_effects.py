"""What a leader was told to do, less what is done, is what the store says, at every LSN."""

from typing import Any

import pytest

from perdure.partition_processor.effects import ArmRetry, Effect, Ship, StartAttempt
from perdure.partition_processor.pending import pending_effects
from perdure.testing.histories import open_effects, run_history
from perdure.testing.histories.open_effects import SAME_EFFECTS, OpenEffects

SEEDS = range(20)


def test_open_effects_are_compared_after_every_record(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0
    compare = OpenEffects._compare

    def count(self: OpenEffects) -> None:
        nonlocal compared
        compared += 1
        compare(self)

    monkeypatch.setattr(OpenEffects, "_compare", count)
    reports = [run_history(seed) for seed in SEEDS]

    assert [report.detail for report in reports if report.violated] == []
    assert compared == sum(report.operations for report in reports) > 20 * len(reports)


@pytest.mark.parametrize("kind", [StartAttempt, ArmRetry, Ship])
def test_an_effect_that_cannot_be_derived_is_found(
    kind: type[Effect], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(*arguments: Any) -> list[Effect]:
        return [item for item in pending_effects(*arguments) if not isinstance(item, kind)]

    monkeypatch.setattr(open_effects, "pending_effects", forgetful)

    assert SAME_EFFECTS in {run_history(seed).violated for seed in SEEDS}


def test_a_timer_that_cannot_be_derived_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_effects, "pending_timers", lambda *_arguments: iter(()))

    assert SAME_EFFECTS in {run_history(seed).violated for seed in SEEDS}
