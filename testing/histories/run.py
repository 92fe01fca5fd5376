"""Running histories by their seeds."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from ..simulation.chance import Chance
from ..simulation.verdict import WorldReport, judge
from .history import History, HistoryOptions
from .tight_limits import tight_limits


@dataclass(slots=True)
class HistoryReport(WorldReport):
    """What one seed came to.

    Attributes:
        invocations: how many completed.
        operations: records in all logs.
        lives: of the node.
        refused: records that the logs refused.
    """

    invocations: int = 0
    operations: int = 0
    lives: int = 0
    refused: int = 0


def run_history(seed: int, options: HistoryOptions | None = None) -> HistoryReport:
    """Run the history of a seed. What it finds is in the report; only a bug in here raises."""
    report = HistoryReport(seed)
    history: History | None = None
    with _silence(), tight_limits(Chance(seed, "limits")):

        def run() -> None:
            nonlocal history
            history = History(seed, options or HistoryOptions())
            history.run()

        judge(report, run)
        if history is not None:
            history.close()
            _fill(report, history)
    return report


def _fill(report: HistoryReport, history: History) -> None:
    report.lines = history.lines
    report.virtual_ns = history.virtual_ns
    report.lives = history.lives
    report.operations = sum(len(log.records) for log in history.logs)
    report.refused = sum(log.refused for log in history.logs)
    report.invocations = sum(len(each.results) for each in history.observers)
    report.digest = "".join(each.progress[-1].digest.hex() for each in history.observers)


def run_history_twice(seed: int, *, twice: bool = True, keep_lines: int = 0) -> HistoryReport:
    """Run a seed, and when `twice` once more: another outcome is a violation, too.

    Args:
        keep_lines: how many of the last lines to keep, 0 for all; none of a seed that is well.
    """
    report = run_history(seed)
    if twice and not report.violated and run_history(seed).digest != report.digest:
        report.violated = "the same seed gives the same records"
        report.detail = f"another digest than {report.digest}"
    if keep_lines:
        report.lines = report.lines[-keep_lines:] if report.violated else []
    return report


@contextmanager
def _silence() -> Iterator[None]:
    """Failing attempts are what histories are made of: nobody needs to read of each."""
    logger = logging.getLogger("perdure.sdk")
    disabled, configuration = logger.disabled, structlog.get_config()
    logger.disabled = True
    silent = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=silent, cache_logger_on_first_use=False)
    try:
        yield
    finally:
        logger.disabled = disabled
        structlog.configure(**configuration)
