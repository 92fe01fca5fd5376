"""Plain asyncio in a handler: it works, it repeats, and what cannot repeat is refused."""

import asyncio
import contextvars
import functools
import gc
import logging
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from perdure.core.protocol import messages
from perdure.sdk import (
    Context,
    TerminalError,
    as_completed,
    gather,
    select,
    wait_completed,
)
from perdure.sdk.attempt import Attempt
from perdure.sdk.durable_loop import DurableLoop, new_loop
from perdure.sdk.steps import Step

from .fake_node import (
    InlineHost,
    Journal,
    attempt_of,
    error_of,
    frames_of,
    handler_of,
    input_frame,
    output_of,
    parsed,
    run_completion,
    start_frame,
    to_the_end,
    types_of,
)

REPLAYS = 40
seen: list[Any] = []


async def gathers(ctx: Context) -> list[int]:
    async def chain(number: int) -> int:
        first = await ctx.run(f"a{number}", lambda: number)
        await asyncio.sleep(0)
        return first + await ctx.run(f"b{number}", lambda: 10)

    return list(await asyncio.gather(*(chain(number) for number in range(4))))


async def groups(ctx: Context) -> list[int]:
    done: list[int] = []

    async def chain(number: int) -> None:
        done.append(await ctx.run(f"a{number}", lambda: number))
        done.append(await ctx.run(f"b{number}", lambda: -number))

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(chain(number))
    return done


async def cancels(ctx: Context) -> list[str]:
    order: list[str] = []

    async def waits(number: int) -> None:
        try:
            await ctx.run(f"slow{number}", lambda: number)
            await asyncio.Event().wait()
        finally:
            order.append(f"slow{number}")

    async def fails() -> None:
        await ctx.run("fails", lambda: 0)
        raise KeyError("now")

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(12):
                group.create_task(waits(number))
            group.create_task(fails())
    except* KeyError:
        pass
    await asyncio.gather(*(ctx.run(name, lambda: 1) for name in order))
    return order


async def waits_in_sets(ctx: Context) -> list[str]:
    tasks = {asyncio.ensure_future(ctx.run(f"s{number}", lambda: 1)) for number in range(9)}
    done, _pending = await asyncio.wait(tasks)
    names = [task.get_name() for task in {asyncio.create_task(asyncio.sleep(0)) for _ in done}]
    for name in names:
        await ctx.run(name, lambda: 1)
    return names


@pytest.mark.parametrize("function", [gathers, groups, cancels, waits_in_sets])
def test_many_replays_issue_the_same_commands(
    function: Callable[..., Coroutine[Any, Any, Any]],
) -> None:
    """Steps end in an odd order; every replay of that journal, cut anywhere, does the same."""
    service = handler_of(function)
    journal = Journal()

    def odd(steps: list[Step]) -> list[Step]:
        return steps[::2] + steps[1::2][::-1]

    to_the_end(service, "it", journal, order=odd)
    stored = list(journal.entries)
    assert len(stored) > 9

    noise = []
    for replay in range(REPLAYS):
        # Other objects at other addresses, as another process would have them.
        noise.append([object() for _ in range(replay * 7)])
        cut = len(stored) * replay // REPLAYS
        again = Journal(b"", stored[:cut])
        sent = to_the_end(service, "it", again, order=odd)
        assert again.entries[:cut] == stored[:cut]
        assert types_of(sent)[-2:] == [messages.OUTPUT_COMMAND, messages.END]

        whole = Journal(b"", list(stored))
        assert types_of(to_the_end(service, "it", whole)) == [messages.END]
        assert whole.entries == stored


def test_exactly_one_notification_per_blocking() -> None:
    """Two results that arrive together are seen one after the other."""
    seen.clear()

    async def it(ctx: Context) -> None:
        async def one(name: str) -> None:
            await ctx.run(name, lambda: 0)
            seen.append(name)
            await asyncio.sleep(0)
            seen.append(name + "+")

        await asyncio.gather(one("a"), one("b"))

    attempt, _host = attempt_of(handler_of(it), "it")
    attempt.feed(Journal().opening())
    attempt.feed(run_completion(2, b"0") + run_completion(1, b"0"))

    assert seen == ["b", "b+", "a", "a+"]


def test_task_group_takes_steps_as_they_are() -> None:
    """create_task wants a coroutine elsewhere; here a step's future will do."""

    async def it(ctx: Context) -> int:
        async with asyncio.TaskGroup() as group:
            one: Any = group.create_task(ctx.run("one", lambda: 1))  # type: ignore[arg-type]
            two: Any = group.create_task(ctx.run("two", lambda: 2))  # type: ignore[arg-type]
        return int(one.result() + two.result())

    assert output_of(it) == b"3"


def test_combinators_give_journal_order() -> None:
    """select, gather, as_completed and wait_completed."""

    async def it(ctx: Context) -> list[Any]:
        steps = [ctx.run(f"s{number}", lambda number=number: number) for number in range(4)]
        winner = await select(zero=steps[0], three=steps[3])
        order = [await future async for future in as_completed(*steps)]
        done, waiting = await wait_completed(*steps)
        all_of_them = [await future for future in await gather(*steps)]
        return [winner, order, len(done), len(waiting), all_of_them]

    value = output_of(it, order=lambda steps: steps[::-1])

    assert value == b'[["three",3],[3,2,1,0],4,0,[0,1,2,3]]'


def test_hashes_follow_creation_order() -> None:
    """Equal seeds give equal hashes, whatever the addresses."""

    def hashes() -> list[int]:
        loop = new_loop(7)
        loop.enter()
        try:
            return [hash(loop.create_future()) for _ in range(3)]
        finally:
            loop.leave()

    assert hashes() == hashes() == [7, 8, 9]


def test_deadlock_is_an_error_with_the_line() -> None:
    """Waiting for an event that nothing sets."""

    async def it(ctx: Context) -> None:
        await ctx.run("one", lambda: 1)
        await asyncio.Event().wait()

    message = error_of(it)

    assert "handler is deadlocked" in message
    assert f"test_durable_loop.py:{it.__code__.co_firstlineno + 2}" in message


def test_sleep_zero_yields_and_records_nothing() -> None:
    """It is free, any number of times."""

    async def it(ctx: Context) -> int:
        for _ in range(1000):
            await asyncio.sleep(0)
        return 1

    assert types_of(to_the_end(handler_of(it), "it", Journal())) == [
        messages.OUTPUT_COMMAND,
        messages.END,
    ]


def test_loop_time_is_record_time() -> None:
    """Seconds of the newest record seen, and never back."""
    seen.clear()

    async def it(ctx: Context) -> None:
        loop = asyncio.get_running_loop()
        seen.append(loop.time())
        await ctx.run("one", lambda: 1)
        seen.append(loop.time())
        await ctx.run("two", lambda: 2)
        seen.append(loop.time())

    attempt, _host = attempt_of(handler_of(it), "it")
    attempt.feed(Journal().opening(), 5_000_000_000)
    attempt.feed(run_completion(1, b"1"), 8_500_000_000)
    attempt.feed(run_completion(2, b"2"), 7_000_000_000)

    assert seen == [5.0, 8.5, 8.5]


def test_tasks_left_at_return_are_cancelled_without_commands(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A warning names them; their cleanup cannot issue anything."""
    seen.clear()

    async def it(ctx: Context) -> int:
        async def left() -> None:
            try:
                await ctx.run("never", lambda: 1)
            finally:
                try:
                    ctx.run("cleanup", lambda: 2)
                except BaseException as error:
                    seen.append(type(error).__name__)
                    raise

        task = asyncio.create_task(left(), name="the-left-one")
        await asyncio.sleep(0)
        return int(not task.done())

    with caplog.at_level(logging.WARNING, "perdure.sdk"):
        sent = to_the_end(handler_of(it), "it", Journal())

    assert types_of(sent) == [messages.RUN_COMMAND, messages.OUTPUT_COMMAND, messages.END]
    assert seen == ["AttemptEnded"]
    assert "the-left-one" in caplog.text


def test_async_generators_are_closed_in_creation_order() -> None:
    """Abandoned ones end with the handler, on its loop, and not when the collector comes."""
    seen.clear()

    async def it(ctx: Context) -> int:
        async def numbers(name: str) -> AsyncIterator[int]:
            try:
                for number in range(3):
                    yield number
            finally:
                seen.append((name, type(asyncio.get_running_loop()) is DurableLoop))

        for name in "abc":
            async for _number in numbers(name):
                break
        gc.collect()
        seen.append("returns")
        return 1

    assert output_of(it) == b"1"
    assert seen == ["returns", ("a", True), ("b", True), ("c", True)]


def test_context_variables_start_fresh_and_reach_steps() -> None:
    """An attempt sees none of another's; a step sees its handler's."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    variable.set("outside")

    async def it(ctx: Context) -> list[str]:
        before = variable.get()
        variable.set("inside")
        seen_in_step = await ctx.run("step", lambda: "x")
        return [before, variable.get(), seen_in_step]

    assert output_of(it) == b'["none","inside","x"]'


def test_terminal_errors_in_a_group_are_terminal() -> None:
    """Retrying what failed for good would fail for ever."""

    async def it(ctx: Context) -> None:
        async def fails() -> None:
            raise TerminalError("no", 422)

        async with asyncio.TaskGroup() as group:
            group.create_task(fails())

    sent = to_the_end(handler_of(it), "it", Journal())

    assert parsed(sent[0]).failure.code == 422


def test_too_many_callbacks_warn(caplog: pytest.LogCaptureFixture) -> None:
    """A handler that spins is named once, with its line."""

    async def it(ctx: Context) -> int:
        for _ in range(100_001):
            await asyncio.sleep(0)
        return 1

    with caplog.at_level(logging.WARNING, "perdure.sdk"):
        assert output_of(it) == b"1"

    assert "test_durable_loop.py:" in caplog.text


def test_leaving_a_handler_by_exit_fails_the_attempt() -> None:
    """The worker goes on."""

    async def it(ctx: Context) -> None:
        raise SystemExit(3)

    assert "SystemExit(3)" in error_of(it)


def test_abort_unwinds_a_blocked_handler() -> None:
    """Its finally blocks run, and can issue nothing."""
    seen.clear()

    async def it(ctx: Context) -> None:
        try:
            await ctx.run("one", lambda: 1)
        finally:
            seen.append("unwound")

    attempt, host = attempt_of(handler_of(it), "it")
    attempt.feed(Journal().opening())
    attempt.abort()

    assert seen == ["unwound"]
    assert attempt.take_output() == b""
    assert len(host.cancelled) == 1
    assert attempt.feed(run_completion(1, b"1")) == b""


def test_ended_attempts_leave_no_circle() -> None:
    """Memory goes with the last reference; the collector has nothing to find."""

    async def it(ctx: Context) -> int:
        return await ctx.run("one", lambda: 1)

    service = handler_of(it)
    gc.collect()
    gc.disable()
    try:
        host = InlineHost()
        attempt = Attempt(service.handlers["it"], host)
        attempt.feed(Journal().opening())
        host.run_steps()
        attempt.feed(run_completion(1, b"1"))
        assert attempt.ended
        gone = weakref.ref(attempt)
        loop = weakref.ref(attempt.loop)
        del attempt

        assert gone() is None
        assert loop() is None
    finally:
        gc.enable()


def test_swallowed_end_does_not_go_on() -> None:
    """A handler that catches everything cannot issue a command after a mismatch."""

    async def it(ctx: Context) -> None:
        for number in range(3):
            try:
                await ctx.run(f"s{number}", functools.partial(int, 1))
            except BaseException as error:
                seen.append(type(error).__name__)

    seen.clear()
    other = Journal()
    to_the_end(handler_of(gathers), "it", other)
    attempt, _host = attempt_of(handler_of(it), "it")
    answer = frames_of(attempt.feed(start_frame(2) + input_frame(b"") + other.entries[0]))

    assert types_of(answer) == [messages.ERROR]
    assert parsed(answer[0]).code == 570
    assert set(seen) == {"AttemptEnded"}
