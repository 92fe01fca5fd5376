"""What a world came to: the invariant that did not hold, if any, and what was seen instead."""

import traceback
from collections.abc import Callable
from typing import Protocol

from .loop import SimulationStalledError
from .violation import InvariantViolation


class Verdict(Protocol):
    """The part of a report that says whether all was well; both empty when it was."""

    violated: str
    detail: str


def judge(report: Verdict, run: Callable[[], None]) -> None:
    """Run a world and note what it raises in its report."""
    try:
        run()
    except InvariantViolation as violation:
        report.violated = violation.invariant
        report.detail = str(violation)
    except SimulationStalledError as stalled:
        report.violated = "all work is finished in time"
        report.detail = str(stalled)
    except Exception as error:
        report.violated = f"nothing raises {type(error).__name__}"
        report.detail = "".join(traceback.format_exception(error))
