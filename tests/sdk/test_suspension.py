"""Suspension: when a blocked handler gives up its place, and for what it is woken again."""

import asyncio
from datetime import timedelta

from perdure.core.ids import InvocationId, invocation_id_text
from perdure.core.protocol import messages
from perdure.sdk import Context, Service, TerminalError, gather

from .fake_node import (
    CANCEL,
    SUSPEND,
    Frame,
    Journal,
    attempt_of,
    error_of,
    frames_of,
    handler_of,
    note,
    parsed,
    run_completion,
    signal,
    types_of,
)

OUTPUT_END = [messages.OUTPUT_COMMAND, messages.END]
HOUR = timedelta(hours=1)
CHILD = invocation_id_text(InvocationId(bytes(24)))
callee = Service("Callee")


@callee.handler()
async def work(ctx: Context) -> None:
    pass


def waits(frames: list[Frame]) -> tuple[list[int], list[int], list[str]]:
    """What the Suspension at the end names."""
    assert types_of(frames)[-1] == messages.SUSPENSION, types_of(frames)
    body = parsed(frames[-1])
    completions, signals = list(body.waiting_completions), list(body.waiting_signals)
    return completions, signals, list(body.waiting_named_signals)


def suspended(service: Service, *frames: bytes) -> tuple[list[int], list[int], list[str]]:
    """What a handler waits for when it is told to suspend after `frames`."""
    attempt, _ = attempt_of(service, "it")
    attempt.feed(Journal().opening())
    for each in frames:
        attempt.feed(each)
    found = waits(frames_of(attempt.feed(SUSPEND)))
    assert attempt.ended
    return found


def test_suspension_of_the_transcript() -> None:
    """One sleep, and the signal that cancels."""

    async def it(ctx: Context) -> None:
        await ctx.sleep(HOUR)

    attempt, _ = attempt_of(handler_of(it), "it")
    attempt.feed(Journal().opening())

    assert attempt.feed(SUSPEND).hex() == "00010000000000060a0101120101"
    assert attempt.ended


def test_request_waits_until_the_handler_is_blocked() -> None:
    """Asked before there is anything to do, or while entries still arrive."""

    async def it(ctx: Context) -> None:
        await ctx.sleep(HOUR)
        await ctx.sleep(HOUR)

    attempt, _ = attempt_of(handler_of(it), "it")
    journal = Journal()
    assert attempt.feed(SUSPEND) == b""
    sent = frames_of(attempt.feed(journal.opening()))

    assert types_of(sent) == [messages.SLEEP_COMMAND, messages.SUSPENSION]
    journal.entries = [
        messages.frame(*sent[0]),
        note(messages.SLEEP_COMPLETION, 1),
    ]
    again, _ = attempt_of(handler_of(it), "it")
    assert types_of(frames_of(again.feed(journal.opening()))) == [messages.SLEEP_COMMAND]
    assert waits(frames_of(again.feed(SUSPEND))) == ([2], [1], [])


def test_everything_that_is_waited_for_is_named() -> None:
    """Completions, awakeables, named signals, ids of invocations and timers."""

    async def it(ctx: Context) -> None:
        call = ctx.service_call(work, None)
        waited = [
            call,
            ctx.awakeable()[1],
            ctx.signal("go"),
            ctx.signal("go"),
            asyncio.sleep(3600),
            call.invocation_id(),
            ctx.sleep(HOUR),
        ]
        await gather(*waited)

    assert suspended(handler_of(it)) == ([1, 2, 3, 4], [1, 17], ["go"])
    known = note(messages.CALL_INVOCATION_ID, 1, invocation_id=CHILD)
    assert suspended(handler_of(it), known, signal(17)) == ([2, 3, 4], [1], ["go"])


def test_what_nobody_waits_for_does_not_wake() -> None:
    """A call that was left alone, a timer that was cancelled, what has come already."""

    async def it(ctx: Context) -> None:
        ctx.service_call(work, None)
        async with asyncio.timeout(60):
            await ctx.sleep(HOUR)
        await ctx.sleep(HOUR)

    assert suspended(handler_of(it)) == ([3, 4], [1], [])
    assert suspended(handler_of(it), note(messages.SLEEP_COMPLETION, 3)) == ([5], [1], [])


def test_cancellation_that_has_come_is_not_waited_for_again() -> None:
    """It is in the journal for good and would wake the invocation at once, for ever."""

    async def it(ctx: Context) -> None:
        try:
            await ctx.sleep(HOUR)
        except TerminalError:
            await ctx.sleep(HOUR)

    assert suspended(handler_of(it), CANCEL) == ([2], [], [])


def test_steps_are_not_left_in_the_middle() -> None:
    """A closure that runs, or whose result is on its way, ends first."""

    async def it(ctx: Context) -> None:
        await gather(ctx.run("step", lambda: 5), ctx.sleep(HOUR))

    attempt, host = attempt_of(handler_of(it), "it")
    attempt.feed(Journal().opening())

    assert attempt.feed(SUSPEND) == b""
    assert len(host.steps) == 1
    assert types_of(frames_of(host.run_steps())) == [messages.PROPOSE_RUN_COMPLETION]
    assert attempt.feed(SUSPEND) == b""
    sent = frames_of(attempt.feed(run_completion(1, b"5")))
    assert waits(sent) == ([2], [1], [])


def test_steps_that_have_not_begun_are_run_first() -> None:
    """The request came before the handler got to them."""

    async def it(ctx: Context) -> None:
        await ctx.run("step", lambda: 5)
        await ctx.sleep(HOUR)

    attempt, host = attempt_of(handler_of(it), "it")
    attempt.feed(SUSPEND)

    assert types_of(frames_of(attempt.feed(Journal().opening()))) == [messages.RUN_COMMAND]
    assert len(host.steps) == 1


def test_handler_is_unwound_without_commands() -> None:
    """Its clean-up runs, as it does at every end of an attempt, and can do nothing durable."""
    seen: list[str] = []

    async def it(ctx: Context) -> None:
        try:
            await ctx.sleep(HOUR)
        except TerminalError:
            seen.append("terminal")
        finally:
            try:
                ctx.service_send(work, None)
            except BaseException as error:
                seen.append(type(error).__name__)

    assert suspended(handler_of(it)) == ([1], [1], [])
    assert seen == ["AttemptEnded"]


def test_waiting_for_nothing_durable_is_no_suspension() -> None:
    """It would never be woken."""

    async def it(ctx: Context) -> None:
        await asyncio.Event().wait()

    attempt, _ = attempt_of(handler_of(it), "it")
    attempt.feed(SUSPEND)
    sent = frames_of(attempt.feed(Journal().opening()))

    assert types_of(sent) == [messages.ERROR]
    assert "deadlocked" in parsed(sent[0]).message
    assert "deadlocked" in error_of(it)
    line = it.__code__.co_firstlineno + 1
    assert f"test_suspension.py:{line}" in parsed(sent[0]).message


def test_handler_that_has_ended_waits_for_the_ids_of_those_it_cancelled() -> None:
    async def it(ctx: Context) -> None:
        await ctx.service_call(work, None)

    assert suspended(handler_of(it), CANCEL) == ([1], [], [])
