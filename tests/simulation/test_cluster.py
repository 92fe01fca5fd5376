"""Clusters of several nodes live through faults, and a seed is all it takes to see it again.

``PERDURE_CLUSTER_SEEDS`` says how many of them have fixed seeds, ``PERDURE_CLUSTER_FIRST_SEED``
where those begin. Some more have seeds that nobody has run before; they are printed.
"""

import os

import pytest

from perdure.core.random import SystemRandom
from perdure.node.controller.steadiness import Steadiness
from perdure.testing.simulation.cluster import ClusterOptions, ClusterReport, run_cluster_seed
from perdure.testing.simulation.cluster.faults import KINDS

from ..seeds import check_same_in_every_process, show
from .cluster_breakages import CLUSTER_BREAKAGES

SEEDS = int(os.environ.get("PERDURE_CLUSTER_SEEDS", "2"))
FIRST_SEED = int(os.environ.get("PERDURE_CLUSTER_FIRST_SEED", "0"))
FRESH = 8
FOUND_WITHIN = 100
S = 1_000_000_000

FLAPPING = ClusterOptions(
    count=3, kinds=("cut off",), faults_ns=40 * S, gap_ns=(S, 2 * S), loss=False
)

_PRINT_DIGESTS = """
from perdure.testing.simulation.cluster import ClusterOptions, run_cluster_seed
for seed in (3, 4):
    print(run_cluster_seed(seed, ClusterOptions(count=3)).digest)
"""


def failures(reports: list[ClusterReport]) -> list[str]:
    return [
        f"run_cluster_seed({report.seed}): {report.detail}" for report in reports if report.violated
    ]


def test_every_promise_holds() -> None:
    reports = [run_cluster_seed(seed) for seed in range(FIRST_SEED, FIRST_SEED + SEEDS)]

    assert failures(reports) == []
    assert sum(report.deaths for report in reports) > 0
    assert all(report.placements for report in reports)


def test_every_promise_holds_for_fresh_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    first = SystemRandom().bits(31)
    show(capsys, f"cluster seeds {first} to {first + FRESH - 1}")
    reports = [run_cluster_seed(first + number) for number in range(FRESH)]

    assert failures(reports) == []


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_fault_alone_is_borne(kind: str) -> None:
    report = run_cluster_seed(1, ClusterOptions(count=3, kinds=(kind,), faults_ns=5 * S))

    assert failures([report]) == []
    assert report.faults[kind] > 0


def test_bytes_do_not_depend_on_the_process() -> None:
    check_same_in_every_process(_PRINT_DIGESTS, seeds=2)


@pytest.mark.parametrize("name", CLUSTER_BREAKAGES)
def test_a_broken_rule_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = CLUSTER_BREAKAGES[name](monkeypatch)

    assert any(run_cluster_seed(seed, options).violated for seed in range(FOUND_WITHIN))


def lead_moves(seed: int) -> int:
    report = run_cluster_seed(seed, FLAPPING)
    assert failures([report]) == []
    return report.lead_moves


def test_who_flaps_does_not_carry_leads_to_and_fro(monkeypatch: pytest.MonkeyPatch) -> None:
    calm = sum(lead_moves(seed) for seed in range(2))
    monkeypatch.setattr(
        Steadiness,
        "settled",
        lambda self, _now_ns: frozenset(
            node_id for node_id, record in self._records.items() if record.well
        ),
    )
    hasty = sum(lead_moves(seed) for seed in range(2))

    assert calm < hasty
