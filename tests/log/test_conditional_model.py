"""The conditional append under faults: a model of the replicated log around the real classes.

``PERDURE_MODEL_SEEDS=2000 pytest tests/log/test_conditional_model.py`` runs more seeds and prints
what they came to with ``-s``; ``PERDURE_MODEL_FIRST_SEED`` says where they begin, and with one seed
repeats a run.
"""

import os
import time
from collections import Counter

import pytest

from .model.checkers import Violation
from .model.mutations import EVICT_UNCOMMITTED, MUTATIONS, Mutation
from .model.world import Rules, World

SEEDS = int(os.environ.get("PERDURE_MODEL_SEEDS", "120"))
FIRST_SEED = int(os.environ.get("PERDURE_MODEL_FIRST_SEED", "1"))

MET = (
    *("Committed", "Conflict", "StaleSnapshot", "Duplicate", "OutOfOrder", "Fenced", "Sealed"),
    *("WrongSegment", "Overloaded", "Indeterminate", "repairs", "trims", "reconfigurations"),
)
"""What every run of a hundred seeds or more has to have met often."""

MUTATION_SEEDS = 100
"""A broken protocol has to be found within so many seeds."""

FINDS = 2
"""As many seeds have to find it, so that a change of the schedule does not hide it again."""


def failure(seed: int, world: World, violation: Exception) -> str:
    """What was violated, what happened before, how to see it again."""
    return (
        f"seed {seed}: {violation}\n{world.trace_text()}\n"
        f"again: PERDURE_MODEL_FIRST_SEED={seed} PERDURE_MODEL_SEEDS=1 "
        "pytest tests/log/test_conditional_model.py -k every_invariant"
    )


def test_every_invariant_holds_whatever_fails() -> None:
    """All seeds, and together they have met everything that the model can do."""
    figures: Counter[str] = Counter()
    began = time.perf_counter()
    for seed in range(FIRST_SEED, FIRST_SEED + SEEDS):
        world = World(seed)
        try:
            world.run()
        except Exception as violation:
            pytest.fail(
                failure(seed, world, violation), pytrace=not isinstance(violation, Violation)
            )
        figures["records"] += world.history.tail - 1
        figures["reconfigurations"] += world.reconfigurations
        figures["repairs"] += world.history.repaired
        figures["trims"] += world.trims
        figures["lost disks"] += any(server.lost_up_to for server in world.servers)
        figures["events"] += world.events
        figures.update(world.history.told_count)
        for request in world.history.requests:
            figures[f"requests {request.state}"] += 1
    seconds = time.perf_counter() - began
    print(f"{SEEDS} seeds from {FIRST_SEED}, {SEEDS / seconds:.0f} per second: {dict(figures)}")

    assert figures["requests open"] == 0
    if SEEDS >= 100:
        assert figures["records"] > 10 * SEEDS
        for name in MET:
            assert figures[name] > SEEDS / 10, name
        assert figures["lost disks"] > 0


def test_one_seed_is_one_run() -> None:
    """The same seed gives the same log, answers and trace."""

    def outcome(seed: int) -> tuple[list[bytes], dict[str, int], str]:
        world = World(seed)
        world.run()
        log = world.history.log
        bodies = [log[lsn].body for lsn in sorted(log)]
        return bodies, world.history.told_count, world.trace_text()

    assert outcome(7) == outcome(7)
    assert outcome(7) != outcome(8)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_broken_protocol_is_found(mutation: Mutation) -> None:
    """Each mutation violates what it is expected to violate, and nothing else."""
    found: Counter[str] = Counter()
    with mutation.applied():
        for seed in range(1, MUTATION_SEEDS + 1):
            try:
                World(seed, mutation.rules).run()
            except Violation as violation:
                found[violation.invariant] += 1
                if found.total() == FINDS:
                    break

    assert found.total() == FINDS
    assert set(found) <= mutation.found_by


def test_evicting_what_is_not_committed_costs_liveness_only() -> None:
    """The floor may be out of reach for a while, but nothing wrong is ever admitted or told."""
    out_of_reach = 0
    with EVICT_UNCOMMITTED.applied():
        for seed in range(1, 41):
            world = World(seed, EVICT_UNCOMMITTED.rules)
            world.run()
            out_of_reach += bool(world.tolerated)

    assert out_of_reach >= FINDS


def test_mutations_leave_the_product_as_it_was() -> None:
    """After the block a seed that found the mutation passes."""
    mutation = MUTATIONS[1]
    with mutation.applied(), pytest.raises(Violation):
        World(1, mutation.rules).run()
    World(1, Rules()).run()
