"""A cancelled handler: where its error comes out, what is cancelled with it, how it may go on."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from perdure.core.ids import InvocationId, invocation_id_text
from perdure.core.protocol import messages
from perdure.core.protocol.messages import frame
from perdure.sdk import Context, Service, TerminalError, gather, select

from .fake_node import (
    CANCEL,
    Frame,
    Journal,
    attempt_of,
    frames_of,
    handler_of,
    note,
    parsed,
    run_completion,
    types_of,
)

OUTPUT_END = [messages.OUTPUT_COMMAND, messages.END]
CHILDREN = [invocation_id_text(InvocationId(bytes((number,)) * 24)) for number in range(4)]
HOUR = timedelta(hours=1)

callee = Service("Callee")
told: list[str] = []


@callee.handler()
async def work(ctx: Context) -> None:
    pass


def run(service: Service, *notes: bytes) -> list[Frame]:
    """What a handler sends when given notifications one by one; a replay sends the same."""
    journal = Journal()
    attempt, _ = attempt_of(service, "it")
    answer = attempt.feed(journal.opening())
    journal.take(answer)
    sent = frames_of(answer)
    for each in notes:
        journal.entries.append(each)
        answer = attempt.feed(each)
        journal.take(answer)
        sent += frames_of(answer)
    if attempt.ended and types_of(sent)[-2:] == OUTPUT_END:
        journal.entries.pop()
        again, _ = attempt_of(service, "it")
        assert frames_of(again.feed(journal.opening())) == sent[-2:]
    return sent


def failure_of(sent: list[Frame]) -> tuple[int, str]:
    """The terminal failure that an invocation ended with."""
    assert types_of(sent)[-2:] == OUTPUT_END, sent
    failure = parsed(sent[-2]).failure
    return failure.code, failure.message


async def leaf(ctx: Context) -> None:
    try:
        await ctx.sleep(HOUR)
    except TerminalError as error:
        told.append(f"{error.status_code} {error.message}")
        raise


async def awaits(ctx: Context) -> None:
    await leaf(ctx)


async def awaits_a_task(ctx: Context) -> None:
    await asyncio.create_task(leaf(ctx))


async def gathers(ctx: Context) -> None:
    await asyncio.gather(leaf(ctx), leaf(ctx))


async def gathers_exceptions(ctx: Context) -> None:
    await asyncio.gather(leaf(ctx), leaf(ctx), return_exceptions=True)


async def gathers_futures(ctx: Context) -> None:
    try:
        await asyncio.gather(ctx.sleep(HOUR), ctx.sleep(HOUR))
    except TerminalError:
        told.extend(["409 cancelled"] * 2)
        raise


async def gathers_ours(ctx: Context) -> None:
    try:
        await gather(ctx.sleep(HOUR), ctx.sleep(HOUR))
    except TerminalError:
        told.extend(["409 cancelled"] * 2)
        raise


async def selects(ctx: Context) -> None:
    try:
        await select(a=ctx.sleep(HOUR), b=ctx.awakeable()[1])
    except TerminalError:
        told.append("409 cancelled")
        raise


async def groups(ctx: Context) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(leaf(ctx))
        group.create_task(leaf(ctx))


async def waits_in_a_group(ctx: Context) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(leaf(ctx))
        await leaf(ctx)


async def times_out(ctx: Context) -> None:
    async with asyncio.timeout(7200):
        await leaf(ctx)


async def waits_for(ctx: Context) -> None:
    await asyncio.wait_for(leaf(ctx), 7200)


async def waits_for_an_event(ctx: Context) -> None:
    keeps = asyncio.create_task(leaf(ctx))
    try:
        await asyncio.Event().wait()
    except TerminalError:
        told.append("409 cancelled")
        keeps.cancel()
        raise


async def generates(ctx: Context) -> None:
    async def numbers() -> Any:
        await leaf(ctx)
        yield 1

    async for _ in numbers():
        pass


@pytest.mark.parametrize(
    ("handler", "tellers"),
    [
        (awaits, 1),
        (awaits_a_task, 1),
        (gathers, 2),
        (gathers_exceptions, 2),
        (gathers_futures, 2),
        (gathers_ours, 2),
        (selects, 1),
        (groups, 2),
        (waits_in_a_group, 2),
        (times_out, 1),
        (waits_for, 1),
        (waits_for_an_event, 2),
        (generates, 1),
    ],
)
def test_error_comes_out_where_the_handler_waits(
    handler: Callable[[Context], Awaitable[None]], tellers: int
) -> None:
    """As terminal error 409, in the tasks that it waits for and then in itself."""
    told.clear()

    sent = run(handler_of(handler), CANCEL)  # type: ignore[arg-type]

    assert failure_of(sent) == (409, "cancelled")
    assert told[:tellers] == ["409 cancelled"] * tellers
    assert len(told) == 2 * tellers, "once live and once in the replay"


def test_calls_that_run_are_cancelled_too_and_sends_are_not() -> None:
    """One signal each, in the order of the calls, before the handler hears of it itself."""

    async def it(ctx: Context) -> None:
        done = ctx.service_call(work, None)
        ctx.service_send(work, None)
        await done
        try:
            await gather(*(ctx.service_call(work, None) for _ in range(2)))
        finally:
            ctx.service_send(work, None)

    sent = run(
        handler_of(it),
        *(
            note(messages.CALL_INVOCATION_ID, completion, invocation_id=CHILDREN[number])
            for number, completion in enumerate((1, 3))
        ),
        note(messages.CALL_COMPLETION, 2, value=b""),
        *(
            note(messages.CALL_INVOCATION_ID, completion, invocation_id=CHILDREN[number])
            for number, completion in ((2, 4), (3, 6))
        ),
        CANCEL,
    )

    assert failure_of(sent) == (409, "cancelled")
    signals = [parsed(each) for each in sent if each[0] == messages.SEND_SIGNAL_COMMAND]
    assert [(one.target_invocation_id, one.idx) for one in signals] == [
        (CHILDREN[2], 1),
        (CHILDREN[3], 1),
    ]
    assert types_of(sent)[-5:-2] == [
        messages.SEND_SIGNAL_COMMAND,
        messages.SEND_SIGNAL_COMMAND,
        messages.ONE_WAY_CALL_COMMAND,
    ]


def test_call_whose_id_comes_later_is_cancelled_then() -> None:
    """The node tells ids soon, but not before everything else."""

    async def it(ctx: Context) -> None:
        try:
            await ctx.service_call(work, None)
        except TerminalError:
            await ctx.sleep(HOUR)

    sent = run(
        handler_of(it),
        CANCEL,
        note(messages.CALL_INVOCATION_ID, 1, invocation_id=CHILDREN[0]),
        note(messages.SLEEP_COMPLETION, 3),
    )

    assert types_of(sent) == [
        messages.CALL_COMMAND,
        messages.SLEEP_COMMAND,
        messages.SEND_SIGNAL_COMMAND,
        *OUTPUT_END,
    ]
    assert parsed(sent[-2]).HasField("value")


def test_handler_ends_only_when_the_calls_it_cancelled_have_been_told() -> None:
    """Their ids may still be on the way; those called would go on for ever, and nobody know it."""

    async def it(ctx: Context) -> None:
        left = asyncio.create_task(leaf(ctx))
        await asyncio.sleep(0)
        await gather(*(ctx.service_call(work, None) for _ in range(2)))
        await left

    ids = [
        note(messages.CALL_INVOCATION_ID, completion, invocation_id=CHILDREN[number])
        for number, completion in enumerate((2, 4))
    ]
    waiting = run(handler_of(it), CANCEL, ids[0])
    # Neither another cancellation nor what comes for tasks that are left starts anything.
    sent = run(handler_of(it), CANCEL, ids[0], CANCEL, note(messages.SLEEP_COMPLETION, 1), ids[1])

    assert types_of(waiting) == [
        messages.SLEEP_COMMAND,
        messages.CALL_COMMAND,
        messages.CALL_COMMAND,
        messages.SEND_SIGNAL_COMMAND,
    ]
    assert failure_of(sent) == (409, "cancelled")
    signals = [parsed(each) for each in sent if each[0] == messages.SEND_SIGNAL_COMMAND]
    assert [(one.target_invocation_id, one.idx) for one in signals] == [
        (CHILDREN[0], 1),
        (CHILDREN[1], 1),
    ]
    assert len(sent) == len(waiting) + 3


def test_handler_that_returns_after_a_timeout_waits_for_the_id_of_the_callee() -> None:
    async def it(ctx: Context) -> None:
        with suppress(TerminalError):
            await ctx.service_call(work, None, timeout=timedelta(seconds=2))

    late = note(messages.SLEEP_COMPLETION, 3)
    waiting = run(handler_of(it), late)
    sent = run(
        handler_of(it), late, note(messages.CALL_INVOCATION_ID, 1, invocation_id=CHILDREN[0])
    )

    assert types_of(waiting) == [messages.CALL_COMMAND, messages.SLEEP_COMMAND]
    assert types_of(sent)[2:] == [messages.SEND_SIGNAL_COMMAND, *OUTPUT_END]


def test_handler_that_fails_does_not_wait_for_ids() -> None:
    """It is tried again, and may not come to the same end."""

    async def it(ctx: Context) -> None:
        try:
            await ctx.service_call(work, None)
        except TerminalError:
            raise RuntimeError("this time") from None

    sent = run(handler_of(it), CANCEL)

    assert types_of(sent) == [messages.CALL_COMMAND, messages.ERROR]


def test_handler_may_compensate_and_go_on() -> None:
    """Every way of waiting works as before, until the next cancellation."""

    async def it(ctx: Context) -> str:
        with pytest.raises(TerminalError) as terminal:
            async with asyncio.TaskGroup() as group:
                group.create_task(leaf(ctx))
        assert isinstance(terminal.value, asyncio.CancelledError)
        await ctx.run("compensate", lambda: None)
        async with asyncio.timeout(5):
            await ctx.run("more", lambda: None)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await ctx.sleep(HOUR)
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
        task = asyncio.create_task(leaf(ctx))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert not isinstance(caught.value, TerminalError)
        return "went on"

    service = handler_of(it)
    sent = run(
        service,
        CANCEL,
        run_completion(2, b""),
        run_completion(3, b""),
        note(messages.SLEEP_COMPLETION, 6),
    )

    assert parsed(sent[-2]).value.content == b'"went on"', parsed(sent[-1])
    with pytest.raises(AssertionError):
        failure_of(run(service, CANCEL))
    assert failure_of(run(service, CANCEL, CANCEL)) == (409, "cancelled")


def test_cancelled_step_is_given_up() -> None:
    """Its closure is cancelled where it can be, and what it brings is dropped."""

    async def it(ctx: Context) -> str:
        try:
            return await ctx.run("step", lambda: "result")
        except TerminalError as error:
            return error.message

    attempt, host = attempt_of(handler_of(it), "it")
    attempt.feed(Journal().opening())
    sent = frames_of(attempt.feed(CANCEL))

    assert parsed(sent[0]).value.content == b'"cancelled"'
    assert len(host.cancelled) == 1
    assert host.run_steps() == b""


def test_cancellation_that_a_plain_future_passes_on_is_the_same_failure() -> None:
    """A future made by hand knows nothing of reasons."""

    async def it(ctx: Context) -> None:
        ctx.sleep(HOUR)
        await asyncio.Future()

    assert failure_of(run(handler_of(it), CANCEL)) == (409, "cancelled")


# Timeouts


def test_handlers_timeout_ends_it_with_408() -> None:
    """As a cancellation does, calls included; the timer is a sleep from the start."""
    service = Service("Service")

    @service.handler("it", timeout=timedelta(seconds=5))
    async def it(ctx: Context) -> None:
        await ctx.service_call(work, None)

    sent = run(
        service,
        note(messages.CALL_INVOCATION_ID, 1, invocation_id=CHILDREN[0]),
        note(messages.SLEEP_COMPLETION, 3),
    )

    assert types_of(sent) == [
        messages.CALL_COMMAND,
        messages.SLEEP_COMMAND,
        messages.SEND_SIGNAL_COMMAND,
        *OUTPUT_END,
    ]
    assert parsed(sent[1]).wake_up_time == 5000
    assert failure_of(sent) == (408, "Service/it did not end within 5 s")


def test_handler_that_ends_in_time_has_no_timer() -> None:
    """A timer is sent when the handler blocks, not before."""
    service = Service("Service")

    @service.handler("it", timeout=timedelta(seconds=5))
    async def it(ctx: Context) -> int:
        return 1

    assert types_of(run(service)) == OUTPUT_END


def test_calls_timeout_cancels_the_callee() -> None:
    """The caller gets 408 and may go on."""

    async def it(ctx: Context) -> str:
        try:
            await ctx.service_call(work, None, timeout=timedelta(seconds=2))
        except TerminalError as error:
            return f"{error.status_code} {error.message}"
        return "answered"

    start = note(messages.CALL_INVOCATION_ID, 1, invocation_id=CHILDREN[0])
    late = run(handler_of(it), start, note(messages.SLEEP_COMPLETION, 3))
    in_time = run(handler_of(it), start, note(messages.CALL_COMPLETION, 2, value=b""))

    assert types_of(late)[:3] == [
        messages.CALL_COMMAND,
        messages.SLEEP_COMMAND,
        messages.SEND_SIGNAL_COMMAND,
    ]
    assert parsed(late[-2]).value.content == b'"408 Callee/work did not answer within 2 s"'
    assert parsed(in_time[-2]).value.content == b'"answered"'
    assert messages.SEND_SIGNAL_COMMAND not in types_of(in_time)


# Code that does not let go


def test_code_that_swallows_its_end_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    """In a loop that would never end; the log names the line."""

    lets_go = False

    async def it(ctx: Context) -> None:
        while True:
            try:
                await ctx.sleep(HOUR)
            except BaseException:
                if lets_go:
                    raise

    attempt, _ = attempt_of(handler_of(it), "it")
    attempt.feed(Journal().opening())
    attempt.feed(frame(messages.ABORT, b""))
    lets_go = True  # When the interpreter ends, at the latest.

    assert attempt.ended
    assert "swallows the end of its attempt" in caplog.text
    assert f"test_cancellation.py:{it.__code__.co_firstlineno + 3}" in caplog.text


def test_handler_that_swallows_cancellations_goes_on_until_it_waits() -> None:
    """Each one is raised once; it is no loop."""

    async def it(ctx: Context) -> int:
        swallowed = 0
        while swallowed < 3:
            try:
                await ctx.sleep(HOUR)
            except asyncio.CancelledError:
                swallowed += 1
        return swallowed

    sent = run(handler_of(it), CANCEL, CANCEL, CANCEL)

    assert parsed(sent[-2]).value.content == b"3"
