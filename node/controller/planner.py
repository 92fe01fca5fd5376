"""The planner: from what is known to where each partition is to be. A pure function.

It keeps what can stay, repairs what must change, then balances a little. The same facts give the
same plan, and planning again from a plan changes nothing once balance is reached.
"""

from dataclasses import dataclass

from ...metadata.placement import Placement
from .balance import balance
from .repair import repair
from .sketch import Facts, Sketch


@dataclass(frozen=True, slots=True)
class Plan:
    """Where everything is to be, and what an operator should know about it."""

    placement: Placement
    warnings: tuple[str, ...]


def plan(facts: Facts, current: Placement | None) -> Plan:
    """The placement that follows from the facts; `current` is None where there is none yet."""
    sketch = Sketch(facts, current)
    repair(sketch)
    # Whoever has just died or come back may change that again soon: balance waits.
    if all(node in facts.settled or node in facts.lost for node in sketch.workers):
        # A few at a time: each costs its partition a change of leader or a copy.
        balance(sketch, moves_max=max(1, facts.nodes.partition_count // 8))
    return Plan(sketch.finish(), tuple(sketch.warnings))
