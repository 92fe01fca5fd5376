"""A step may be given a time for each try: what takes longer counts as failed."""

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from perdure.core.protocol import messages
from perdure.sdk import Context, RunOptions, Service

from .fake_node import error_of, handler_of
from .test_steps import outcomes_of

SHORT = timedelta(milliseconds=1)
LONG = timedelta(hours=1)

ended: list[str] = []
free = threading.Event()


async def hangs() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("cancelled")


def blocks() -> None:
    free.wait(60)


def within(action: Callable[..., Any], **options: Any) -> Service:
    """A service whose handler runs one step with options."""

    async def it(ctx: Context) -> Any:
        return await ctx.run_typed("step", action, RunOptions(**options))

    return handler_of(it)


@pytest.mark.parametrize("action", [hangs, blocks, lambda: hangs()])
def test_try_that_takes_too_long_has_failed(action: Callable[..., Any]) -> None:
    """A coroutine is cancelled, a function left alone; the attempt is told at once."""
    free.clear()
    try:
        (error,) = outcomes_of(within(action, timeout=SHORT), 1)
    finally:
        free.set()

    assert error.related_command_name == "step"
    assert error.related_command_type == messages.RUN_COMMAND
    assert "step 'step' took longer than 0.001 s" in error.message
    assert action is blocks or ended


def test_last_try_that_takes_too_long_fails_for_good() -> None:
    """As any other failure does."""
    proposal = outcomes_of(within(hangs, timeout=SHORT, max_attempts=1), 1)[0]

    assert "took longer than 0.001 s" in proposal.failure.message


def test_try_that_ends_in_time_leaves_no_timer() -> None:
    """The result counts, and nothing follows it."""
    proposal = outcomes_of(within(lambda: 5, timeout=LONG), 1)[0]

    assert proposal.value == b"5"


def test_timeout_is_a_timedelta() -> None:
    """Anything else is refused where it is given."""

    async def it(ctx: Context) -> None:
        await ctx.run_typed("step", int, RunOptions(timeout=5))  # type: ignore[arg-type]

    assert "step 'step': timeout is a timedelta, not int" in error_of(it)
