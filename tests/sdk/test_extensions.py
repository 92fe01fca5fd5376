"""What libraries build on: the current context, values by context, loggers that know of replay."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import perdure.sdk as restate
from perdure.sdk import Context, Service, getLogger
from perdure.sdk.extensions import contextvar, current_context

from .fake_node import Journal, attempt_of, to_the_end


@contextvar
@asynccontextmanager
async def connection() -> AsyncIterator[str]:
    yield "connected"


def test_the_current_context_is_that_of_the_handler() -> None:
    """In its tasks and steps too; outside there is none."""
    seen: list[Any] = []
    service = Service("S")

    @service.handler()
    async def it(ctx: Context) -> None:
        seen.append(current_context() is ctx)
        await ctx.run("a", lambda: seen.append(current_context() is ctx))

    to_the_end(service, "it", Journal())

    assert seen == [True, True]
    assert current_context() is None


def test_what_a_manager_gives_is_there_for_the_handler() -> None:
    """By the name of the manager."""
    service = Service("S", invocation_context_managers=[connection])
    seen: list[str] = []

    @service.handler()
    async def it(ctx: Context) -> None:
        seen.append(connection.value)

    to_the_end(service, "it", Journal())

    assert seen == ["connected"]
    with pytest.raises(LookupError, match="connection has no value here"):
        _ = connection.value


def test_what_is_logged_in_a_replay_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """Each line is there once, however often the handler is run."""
    logger = getLogger("test.replay")
    assert getLogger("test.replay") is logger
    assert len(logger.filters) == 1
    service = Service("S")

    @service.handler()
    async def it(ctx: Context) -> None:
        logger.info("before")
        await ctx.run("a", lambda: 1)
        logger.info("after")

    journal = Journal()
    with caplog.at_level(logging.INFO, "test.replay"):
        to_the_end(service, "it", journal)
        assert caplog.messages == ["before", "after"]
        caplog.clear()
        attempt, _host = attempt_of(service, "it")
        attempt.feed(journal.opening())
        assert attempt.ended
        logger.info("outside")

    assert caplog.messages == ["outside"]


def test_the_module_of_that_name_is_ours() -> None:
    """As users of the official SDK reach it."""
    assert restate.logging.getLogger is getLogger
    assert issubclass(restate.RestateLoggingFilter, logging.Filter)
