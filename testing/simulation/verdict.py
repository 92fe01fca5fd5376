"""What a world came to: the invariant that did not hold, if any, and what was seen instead."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from .loop import SimulationLoop, SimulationStalledError
from .trace import Trace, logs_in_trace
from .violation import InvariantViolation


class Verdict(Protocol):
    """The part of a report that says whether all was well; both empty when it was."""

    violated: str
    detail: str


class TracedVerdict(Verdict, Protocol):
    """A verdict with what it was found from: a world's trace, and a hash over all that it made."""

    digest: str
    lines: list[str]


@dataclass(slots=True)
class WorldReport:
    """What one seed came to; each kind of world adds what it counts.

    Attributes:
        violated: the invariant that did not hold, empty when all did.
        detail: what was seen instead, with the place in the code for anything but an invariant.
        digest: a hash over all that the world made; the same seed gives the same one.
        virtual_ns: how long the world lived.
        lines: the trace.
    """

    seed: int
    violated: str = ""
    detail: str = ""
    digest: str = ""
    virtual_ns: int = 0
    lines: list[str] = field(default_factory=list)


R = TypeVar("R", bound=TracedVerdict)


def judge_world(
    report: WorldReport,
    run: Callable[[], None],
    *,
    trace: Trace,
    loop: SimulationLoop,
    made: Callable[[], list[bytes]],
) -> None:
    """Run a world whose logs go into its trace, and fill in what all reports have.

    Args:
        made: what the digest is over besides the trace, once it has ended.
    """
    with logs_in_trace(trace):
        judge(report, run)
    report.lines = trace.lines
    report.digest = trace.digest(*made(), report.violated.encode())
    report.virtual_ns = loop.now_ns


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
