"""What a world came to: the invariant that did not hold, if any, and what was seen instead."""

import traceback
from collections.abc import Callable
from typing import Protocol, TypeVar

from .loop import SimulationStalledError
from .violation import InvariantViolation


class Verdict(Protocol):
    """The part of a report that says whether all was well; both empty when it was."""

    violated: str
    detail: str


class TracedVerdict(Verdict, Protocol):
    """A verdict with what it was found from: a world's trace, and a hash over all that it made."""

    digest: str
    lines: list[str]


R = TypeVar("R", bound=TracedVerdict)


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


def judge_twice(run: Callable[[], R], *, twice: bool = True, keep_lines: int = 0) -> R:
    """Run a world, and when `twice` once more: another outcome is a violation, too.

    Args:
        keep_lines: how much of the trace's end to keep, 0 for all; nothing of a seed that is well.
    """
    report = run()
    if twice and not report.violated:
        again = run()
        if again.digest != report.digest:
            report.violated = "the same seed gives the same bytes"
            report.detail = _first_difference(report, again)
    if keep_lines:
        report.lines = report.lines[-keep_lines:] if report.violated else []
    return report


def _first_difference(first: TracedVerdict, second: TracedVerdict) -> str:
    for number, (line, other) in enumerate(zip(first.lines, second.lines, strict=False)):
        if line != other:
            return f"line {number + 1} of the trace:\n{line}\n{other}"
    if len(first.lines) != len(second.lines):
        return f"the traces have {len(first.lines)} and {len(second.lines)} lines"
    return "the traces are the same, the stores are not"
