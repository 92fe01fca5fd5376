"""Failures, retries and compensation, as apps for the official SDK write them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from perdure.sdk import (
    Context,
    HttpError,
    InvocationRetryPolicy,
    RestateClient,
    RunOptions,
    Service,
    TerminalError,
)
from perdure.sdk.exceptions import RetryableError, is_internal_exception
from perdure.sdk.extensions import contextvar, current_context

from .running import used

AT_ONCE = timedelta(milliseconds=1)

failing = Service(
    "Failing",
    invocation_retry_policy=InvocationRetryPolicy(initial_interval=AT_ONCE, max_interval=AT_ONCE),
)
tries: list[str] = []


@failing.handler(name="terminally")
async def terminally(ctx: Context, message: str) -> None:
    raise TerminalError(message=message, status_code=418, metadata={"kind": "tea"})


@failing.handler()
async def calls_terminally(ctx: Context, message: str) -> str:
    try:
        await ctx.service_call(terminally, arg=message)
    except TerminalError as error:
        return f"{error.status_code} {error.message} {error.metadata}"
    raise AssertionError


@failing.handler()
async def passes_failures_on(ctx: Context, message: str) -> None:
    await ctx.service_call(terminally, arg=message)


@failing.handler()
async def succeeds_in_the_end(ctx: Context) -> int:
    tries.append("handler")
    if len(tries) < 4:
        raise ValueError(f"failed at try {len(tries)}")
    return len(tries)


@failing.handler()
async def told_when_to_try_again(ctx: Context) -> int:
    tries.append("handler")
    if len(tries) < 2:
        raise RetryableError("busy", retry_after=AT_ONCE)
    return len(tries)


@failing.handler()
async def with_a_step_that_succeeds_in_the_end(ctx: Context) -> int:
    def step() -> int:
        tries.append("step")
        if len(tries) < 4:
            raise ValueError(f"failed at try {len(tries)}")
        return len(tries)

    return await ctx.run_typed("step", step)


@failing.handler()
async def gives_a_step_up(ctx: Context) -> str:
    async def call_out(address: str) -> None:
        tries.append(address)
        raise RuntimeError("nobody there")

    options: RunOptions[None] = RunOptions(max_attempts=3, initial_retry_interval=AT_ONCE)
    try:
        await ctx.run_typed("call out", call_out, options, address="there")
    except TerminalError as error:
        return error.message
    raise AssertionError


@failing.handler()
async def compensates(ctx: Context, name: str) -> None:
    undo: list[Any] = []
    try:
        for step in ("flight", "car"):
            undo.append(lambda step=step: ctx.run("undo", tries.append, args=(step,)))
            await ctx.run(step, lambda step=step: tries.append(f"book {step}"))
        await ctx.service_call(terminally, "payment declined")
    except TerminalError:
        for action in reversed(undo):
            await action()
        raise


@failing.handler()
async def catches_everything(ctx: Context) -> str:
    try:
        await ctx.sleep(AT_ONCE)
    except BaseException as error:
        if is_internal_exception(error):
            raise
        raise AssertionError from error
    return "done"


@contextvar
@asynccontextmanager
async def database() -> AsyncIterator[str]:
    yield "connected"


managed = Service("Managed", invocation_context_managers=[database])


@managed.handler()
async def reads(ctx: Context) -> list[Any]:
    request = ctx.request()
    assert current_context() is ctx
    return [database.value, request.id.startswith("inv_1"), request.headers.get("x-one")]


def result_of(handler: Any, argument: Any = None) -> Any:
    """What a handler gives; the tries that it notes begin anew."""
    tries.clear()
    return used(lambda client: client.service_call(handler, arg=argument), failing)


def test_terminal_errors_reach_whoever_called() -> None:
    """Handlers and clients."""
    assert result_of(calls_terminally, "I am a teapot") == "418 I am a teapot {'kind': 'tea'}"
    for handler in (terminally, passes_failures_on):
        with pytest.raises(HttpError, match="HTTP 418: I am a teapot"):
            result_of(handler, "I am a teapot")


def test_other_errors_are_tried_again() -> None:
    """In handlers and in steps, and after the time that the error asks for."""
    assert result_of(succeeds_in_the_end) == 4
    assert result_of(with_a_step_that_succeeds_in_the_end) == 4
    assert result_of(told_when_to_try_again) == 2


def test_steps_are_given_up_when_their_options_say_so() -> None:
    """With a terminal error that says why."""
    assert "nobody there" in result_of(gives_a_step_up)
    assert tries == ["there"] * 3


def test_what_was_done_is_undone() -> None:
    """In the opposite order, and the failure goes on."""
    with pytest.raises(HttpError, match="payment declined"):
        result_of(compensates, "trip")
    assert tries == ["book flight", "book car", "car", "flight"]


def test_control_flow_is_told_from_errors() -> None:
    """A handler that catches everything lets it by."""
    assert result_of(catches_everything) == "done"


def test_managers_and_requests_are_there_for_the_handler() -> None:
    """What was sent along, too."""

    async def use(client: RestateClient) -> Any:
        return await client.service_call(reads, None, headers={"X-One": "1"})

    assert used(use, managed) == ["connected", True, "1"]
