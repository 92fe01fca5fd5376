"""The replay check: handlers that do other things in a replay are found out, others are not."""

import asyncio
import itertools
import logging
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from perdure.sdk import Context, ObjectContext, Service, TerminalError, VirtualObject
from perdure.testing import Environment, ReplayMismatchError, run
from perdure.testing.replay_check import ReplayMode

from . import users_app as app


def checked(
    function: Callable[..., Any], *, replay_check: ReplayMode = "whole", **options: Any
) -> Any:
    """Call a handler in an environment of its own."""
    service = Service("Service")
    service.handler("it")(function)

    async def main() -> Any:
        async with Environment(service, replay_check=replay_check, **options) as env:
            return await env.client.service_call(function, None)

    return run(main())


def line_of(function: Callable[..., Any], offset: int) -> str:
    """``file:line`` in a function, counted from its definition."""
    code = function.__code__
    return f"{code.co_filename}:{code.co_firstlineno + offset}"


def test_another_step_in_the_replay_fails_the_test_with_its_line() -> None:
    names = itertools.count()

    async def changes(ctx: Context) -> None:
        await ctx.run_typed(f"step {next(names)}", str)

    with pytest.raises(ReplayMismatchError) as caught:
        checked(changes)

    text = str(caught.value)
    assert text.startswith("Service/it does not replay: [PD0710] journal mismatch at command 1")
    assert "the code now does Run (name 'step 1', completion 1)" in text
    assert "the journal has Run (name 'step 0', completion 1)" in text
    assert line_of(changes, 1) in text


def test_a_step_that_is_left_out_fails_the_test() -> None:
    turns = itertools.count()

    async def shrinks(ctx: Context) -> None:
        if next(turns) == 0:
            await ctx.run_typed("only once", str)

    with pytest.raises(ReplayMismatchError, match="the code ends, the journal goes on with Run"):
        checked(shrinks)


def test_a_step_too_many_fails_the_test_with_its_line() -> None:
    turns = itertools.count()

    async def grows(ctx: Context) -> None:
        if next(turns) > 0:
            await ctx.run_typed("more", str)

    with pytest.raises(ReplayMismatchError) as caught:
        checked(grows)

    assert "the code now does Run (name 'more', completion 1), where the journal" in str(
        caught.value
    )
    assert line_of(grows, 2) in str(caught.value)


def test_a_handler_that_waits_where_it_had_ended_fails_the_test() -> None:
    turns = itertools.count()

    async def waits(ctx: Context) -> None:
        if next(turns) > 0:
            await ctx.awakeable()[1]

    with pytest.raises(ReplayMismatchError, match="where it has ended"):
        checked(waits)


def test_chance_in_the_order_of_calls_is_found() -> None:
    chance = random.Random(1)

    async def shuffles(ctx: Context) -> None:
        names = list("abcdefgh")
        chance.shuffle(names)
        for name in names:
            await ctx.run_typed(name, str)

    with pytest.raises(ReplayMismatchError, match="journal mismatch at command 1"):
        checked(shuffles)


def test_handlers_that_never_end_are_checked_where_they_stand() -> None:
    names = itertools.count()
    service = Service("Service")

    @service.handler()
    async def it(ctx: Context) -> None:
        await ctx.sleep(timedelta(days=1), name=f"sleep {next(names)}")

    async def main() -> None:
        async with Environment(service, skip_time=False) as env:
            await env.client.service_send(it, None)
            await env.advance(timedelta(hours=1))

    with pytest.raises(ReplayMismatchError, match="sleep 1"):
        run(main())


def test_a_prefix_finds_what_depends_on_how_far_the_journal_goes() -> None:
    """Here the third run of the code is another one, which the whole journal alone never sees."""
    turns = itertools.count()

    async def third(ctx: Context) -> None:
        name = "other" if next(turns) == 2 else "same"
        await ctx.run_typed(name, str)

    checked(third)
    turns = itertools.count()
    with pytest.raises(ReplayMismatchError, match="Run \\(name 'other'"):
        checked(third, replay_check="every prefix")


def test_it_can_be_switched_off() -> None:
    names = itertools.count()

    async def changes(ctx: Context) -> None:
        await ctx.run_typed(f"step {next(names)}", str)

    checked(changes, replay_check="off")

    assert next(names) == 1


def test_a_mismatch_in_a_real_replay_fails_the_test_even_when_switched_off() -> None:
    names = itertools.count()

    async def changes(ctx: Context) -> None:
        await ctx.run_typed(f"step {next(names)}", str)
        await ctx.sleep(timedelta(days=1))

    with pytest.raises(ReplayMismatchError, match="step 1"):
        checked(changes, replay_check="off", always_suspend=True)


@pytest.mark.parametrize("replay_check", ["whole", "every prefix"])
@pytest.mark.parametrize("always_suspend", [False, True])
def test_steps_are_never_run_by_it(replay_check: ReplayMode, always_suspend: bool) -> None:
    ran: list[str] = []

    async def works(ctx: Context) -> None:
        async def later() -> None:
            ran.append("coroutine")

        await ctx.run_typed("function", lambda: ran.append("function"))
        await ctx.sleep(timedelta(days=2))
        await ctx.run_typed("coroutine", later)

    checked(works, replay_check=replay_check, always_suspend=always_suspend)

    assert ran == ["function", "coroutine"]


def test_it_logs_nothing_twice(caplog: pytest.LogCaptureFixture) -> None:
    async def logs(ctx: Context) -> None:
        logging.getLogger("of the handler").warning("once")

    checked(logs)

    assert [record.message for record in caplog.records if record.message == "once"] == ["once"]


def test_a_blocking_handler_is_checked_too() -> None:
    names = itertools.count()

    def changes(ctx: Context) -> str:
        ctx.run_typed(f"step {next(names)}", str)
        return "done"

    with pytest.raises(ReplayMismatchError, match="step 1"):
        checked(changes)


def test_a_failing_try_is_left_to_the_next_one() -> None:
    tries: list[int] = []

    async def flaky(ctx: Context) -> int:
        await ctx.run_typed("before", str)
        tries.append(len(tries))
        if len(tries) < 3:
            raise ValueError("chance")
        return await ctx.run_typed("after", lambda: len(tries))

    assert checked(flaky) == 3


@pytest.mark.parametrize("replay_check", ["whole", "every prefix"])
@pytest.mark.parametrize("always_suspend", [False, True])
def test_handlers_that_replay_are_left_in_peace(
    replay_check: ReplayMode, always_suspend: bool
) -> None:
    objects = VirtualObject("Objects")

    @objects.handler()
    async def everything(ctx: ObjectContext) -> list[Any]:
        keys = await ctx.state_keys()
        ctx.set("a", 1)
        ctx.set("b", await ctx.get("a"))
        ctx.clear("a")
        both = await asyncio.gather(
            ctx.object_call(app.add, "x", 1), ctx.service_call(app.remind, 1)
        )
        try:
            await ctx.service_call(fails, None)
        except TerminalError as error:
            both.append(error.message)
        async with asyncio.timeout(10):
            await asyncio.sleep(5)
        ctx.object_send(app.add, "x", 1)
        return [keys, both, await ctx.get("a"), ctx.uuid().version]

    failing = Service("Failing")

    @failing.handler()
    async def fails(ctx: Context) -> None:
        raise TerminalError("no")

    async def main() -> Any:
        services = [*app.services, objects, failing]
        async with Environment(
            services, replay_check=replay_check, always_suspend=always_suspend
        ) as env:
            first = await env.client.object_call(everything, "k", None)
            return first, await env.client.object_call(everything, "k", None)

    first, second = run(main())
    assert first == [[], [1, "reminded", "no"], None, 4]
    assert second == [["b"], [3, "reminded", "no"], None, 4]
