"""What a context tells of its invocation: chance, time, the request, the attempt and its end."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from perdure.core.ids import InvocationId, invocation_id_text
from perdure.core.protocol import messages
from perdure.sdk import Context
from perdure.sdk.errors import ForbiddenCallError

from .fake_node import (
    INVOCATION_ID,
    InlineHost,
    Journal,
    attempt_of,
    frames_of,
    handler_of,
    input_frame,
    parsed,
    start_frame,
)
from .test_commands import NOW_NS, exchange, only


def test_chance_is_the_invocations_own() -> None:
    """Seeded by Start, the same in every replay, and different for each draw."""
    drawn: list[Any] = []

    async def it(ctx: Context) -> None:
        drawn.append((ctx.uuid(), ctx.random().random(), ctx.uuid()))

    exchange(handler_of(it), "it")

    assert drawn[0] == drawn[1]
    assert drawn[0][0] != drawn[0][2]
    assert drawn[0][0].version == 4


def test_time_is_a_step() -> None:
    """The node's clock, recorded under the name that other SDKs give it."""

    async def it(ctx: Context) -> float:
        return await ctx.time()

    host = InlineHost()
    host.time_ns = NOW_NS
    attempt, _ = attempt_of(handler_of(it), "it", host)
    sent = frames_of(attempt.feed(Journal().opening()))

    assert only(sent, messages.RUN_COMMAND).name == "timestamp"
    proposed = frames_of(host.run_steps())
    assert parsed(proposed[0]).value == b"1000000000.0"


def test_request_and_fence_tell_what_this_attempt_is() -> None:
    """The fence differs from attempt to attempt."""
    seen: list[Any] = []

    async def it(ctx: Context) -> None:
        request = ctx.request()
        seen.extend([request.id, request.body, request.headers, request.attempt_headers, ctx.fence])
        seen.append(request.attempt_finished_event)

    attempt, _ = attempt_of(handler_of(it), "it")
    attempt.number = (3, 2)
    attempt.feed(Journal(b"body").opening())

    assert seen[:5] == [invocation_id_text(InvocationId(INVOCATION_ID)), b"body", {}, {}, (3, 2)]
    assert seen[5].is_set()


def test_request_has_the_idempotency_key_that_the_caller_gave() -> None:
    """None without one."""
    seen: list[Any] = []

    async def it(ctx: Context) -> None:
        seen.append(ctx.request().idempotency_key)

    for fields in ({}, {"idempotency_key": "once"}):
        attempt, _ = attempt_of(handler_of(it), "it")
        attempt.feed(start_frame(1, **fields) + input_frame(b""))

    assert seen == [None, "once"]


def test_end_of_an_attempt_can_be_waited_for_elsewhere() -> None:
    """In a step or a program around it; the handler itself cannot."""
    events: list[Any] = []

    async def it(ctx: Context) -> None:
        event = ctx.request().attempt_finished_event
        with pytest.raises(ForbiddenCallError, match="its own attempt"):
            await event.wait()
        events.append(event)
        await ctx.sleep(timedelta(hours=1))

    async def main() -> list[bool]:
        attempt, _ = attempt_of(handler_of(it), "it")
        loop = asyncio.get_running_loop()
        loop.call_soon(attempt.feed, Journal().opening())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        (event,) = events
        waiting = asyncio.create_task(event.wait())
        await asyncio.sleep(0)
        before = [event.is_set(), waiting.done()]
        loop.call_soon(attempt.abort)
        await waiting
        await event.wait()
        return [*before, event.is_set()]

    assert asyncio.run(main()) == [False, False, True]
