"""What a blocked handler waits for, and what one that has ended has not waited for."""

import logging
from typing import Any

from ..core.protocol.messages import SIGNAL_CANCEL
from .attempt_base import AttemptBase
from .durable_tasks import CommandFuture, DurableFuture
from .source_lines import function_line

logger = logging.getLogger("perdure.sdk")


def waits_for_others(attempt: AttemptBase) -> bool:
    """Whether a signal or the id of an invocation may still wake the handler."""
    signals, children = attempt._signals, attempt._children
    return (signals is not None and any(signals.waiting())) or (
        children is not None and any(children.awaited())
    )


def suspend(attempt: AttemptBase) -> bool:
    """End the attempt until something arrives that its blocked handler waits for.

    False while a step runs or its result is on its way, and when nothing durable is waited for.
    """
    if any(not step.future.done() for step in attempt._steps.values()):
        return False
    futures = {each: future for each, (future, _) in attempt._pending.items() if not future.done()}
    completions = [each for each, future in futures.items() if _is_waited_for(future)]
    if attempt._children is not None:
        completions += attempt._children.awaited()
    keys = []
    if attempt._signals is not None:
        keys = [key for key, future in attempt._signals.waiting() if _is_waited_for(future)]
    if not completions and not keys:
        # Nobody waits for these, but whoever waits has nothing else to come.
        completions = list(futures)
        if not completions:
            return False
    indexes = {key for key in keys if isinstance(key, int)}
    if attempt._cancellation is None:
        # Once it has come it is in the journal for good, and would wake the invocation at once.
        indexes.add(SIGNAL_CANCEL)
    names = dict.fromkeys(key for key in keys if isinstance(key, str))
    attempt.machine.suspend(sorted(completions), sorted(indexes), list(names))
    return True


def _is_waited_for(future: DurableFuture[Any]) -> bool:
    return bool(future._callbacks)


def warn_of_the_forgotten(attempt: AttemptBase) -> None:
    """Say which steps a handler that has returned never ran, and what it never waited for."""
    forgotten: list[str] = []
    for completion_id, (future, _read) in attempt._pending.items():
        step = attempt._steps.get(completion_id)
        if step is not None and not step.started and not future.done():
            line = function_line(step.action)
            forgotten.append(f"step {step.name!r} ({line}), which did not run")
        else:
            forgotten += _forgotten(future)
    if attempt._signals is not None:
        for _key, future in attempt._signals.waiting():
            forgotten += _forgotten(future)
    if forgotten:
        logger.warning(
            "handler %s ended without ever awaiting %s",
            attempt._handler.target,
            ", ".join(forgotten),
        )


def _forgotten(future: DurableFuture[Any]) -> list[str]:
    if not isinstance(future, CommandFuture) or future.done() or future.awaited:
        return []
    code, line = future.line
    return [f"{future.command} at {code.co_filename}:{line}"]
