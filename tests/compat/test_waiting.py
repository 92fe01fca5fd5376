"""Awakeables, signals, timers and combinators, as apps for the official SDK write them."""

import asyncio
import typing
from datetime import timedelta
from typing import Any

import pytest

from perdure.sdk import (
    Context,
    HttpError,
    ObjectContext,
    ObjectSharedContext,
    RestateClient,
    RestateDurableFuture,
    RestateDurableSleepFuture,
    Service,
    TerminalError,
    VirtualObject,
    as_completed,
    gather,
    select,
    wait_completed,
)

from .running import used

pytestmark = pytest.mark.usefixtures("each_way")

MILLISECOND = timedelta(milliseconds=1)

interpreter = VirtualObject("Interpreter")
waiter = Service("Waiter")


class Awakeable(typing.TypedDict):
    kind: typing.Literal["awakeable"]
    name: str


class Sleep(typing.TypedDict):
    kind: typing.Literal["sleep"]
    milliseconds: int


class Fail(typing.TypedDict):
    kind: typing.Literal["fail"]
    reason: str


Command = Awakeable | Sleep | Fail


class Script(typing.TypedDict):
    mode: typing.Literal["one", "any", "any successful", "all"]
    commands: typing.Iterable[Command]


def begun(ctx: ObjectContext, command: Command) -> RestateDurableFuture[Any]:
    if command["kind"] == "awakeable":
        identity, awakeable = ctx.awakeable(type_hint=str)
        ctx.set(command["name"], identity)
        return awakeable
    if command["kind"] == "sleep":
        return ctx.sleep(timedelta(milliseconds=command["milliseconds"]))

    def fail(reason: str) -> None:
        raise TerminalError(message=reason)

    return ctx.run("fail", fail, args=(command["reason"],))


async def said(future: RestateDurableFuture[Any]) -> Any:
    if isinstance(future, RestateDurableSleepFuture):
        await future
        return "slept"
    return await future


@interpreter.handler(name="interpret")
async def interpret(ctx: ObjectContext, script: Script) -> Any:
    futures = [begun(ctx, command) for command in script["commands"]]
    if script["mode"] == "one":
        return await said(futures[0])
    if script["mode"] == "all":
        return [await said(each) for each in await gather(*futures)]
    if script["mode"] == "any":
        done, _pending = await wait_completed(*futures)
        return await said(done[0])
    async for each in as_completed(*futures):
        try:
            return await said(each)
        except TerminalError:
            pass
    return "all failed"


@interpreter.handler(kind="shared")
async def resolve(ctx: ObjectSharedContext, name: str) -> bool:
    identity = await ctx.get(name, type_hint=str)
    if identity is None:
        return False
    ctx.resolve_awakeable(identity, f"resolved {name}")
    return True


@interpreter.handler(kind="shared")
async def reject(ctx: ObjectSharedContext, name: str) -> bool:
    identity = await ctx.get(name, type_hint=str)
    if identity is None:
        return False
    ctx.reject_awakeable(identity, f"rejected {name}", 418)
    return True


@waiter.handler()
async def for_signal(ctx: Context) -> str:
    match await select(word=ctx.signal("word", type_hint=str), late=ctx.sleep(timedelta(days=1))):
        case ["word", word]:
            return str(word)
        case other:
            return str(other)


@waiter.handler()
async def tell(ctx: Context, invocation_id: str) -> None:
    ctx.resolve_signal(invocation_id, "word", "told")


@waiter.handler()
async def until_cancelled(ctx: Context) -> str:
    try:
        await ctx.sleep(timedelta(days=1))
    except TerminalError as error:
        return f"{error.status_code} {error.message}"
    return "slept"


@waiter.handler()
async def cancel(ctx: Context, invocation_id: str) -> None:
    ctx.cancel_invocation(invocation_id)


@waiter.handler()
async def sorted_by_sleep(ctx: Context, milliseconds: list[int]) -> list[int]:
    async def slept(each: int) -> int:
        await ctx.sleep(each * MILLISECOND)
        return each

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(slept(each)) for each in milliseconds]
    return [each.result() for each in tasks]


outer = Service("Outer")
asked: dict[str, str] = {}


@outer.handler()
async def wait(ctx: Context) -> Any:
    identity, awakeable = ctx.awakeable()
    await ctx.run("tell", lambda: asked.setdefault(ctx.request().id, identity))
    return await awakeable


@outer.handler()
async def ping(ctx: Context) -> None:
    return None


def interpreted(script: Script, *answers: tuple[Any, str]) -> Any:
    """What a script gives when its awakeables are answered in this order."""

    async def use(client: RestateClient) -> Any:
        handle = await client.object_send(interpret, "i", script)
        for answer, name in answers:
            while not await client.object_call(answer, "i", name):
                pass
        return await client.attach(handle.invocation_id)

    return used(use, interpreter)


A, B = (Awakeable(kind="awakeable", name=name) for name in "ab")
SLEEP = Sleep(kind="sleep", milliseconds=1)
LONG = Sleep(kind="sleep", milliseconds=10**9)
FAIL = Fail(kind="fail", reason="failed")


def test_one_future_is_waited_for() -> None:
    """An awakeable, a sleep, or a step that fails for good."""
    assert interpreted({"mode": "one", "commands": [A]}, (resolve, "a")) == "resolved a"
    assert interpreted({"mode": "one", "commands": [SLEEP]}) == "slept"
    with pytest.raises(HttpError, match="418: rejected a"):
        interpreted({"mode": "one", "commands": [A]}, (reject, "a"))
    with pytest.raises(HttpError, match="500: failed"):
        interpreted({"mode": "one", "commands": [FAIL]})


def test_several_futures_are_waited_for() -> None:
    """For all, the first, or the first that does not fail."""
    assert interpreted({"mode": "all", "commands": [SLEEP, A]}, (resolve, "a")) == [
        "slept",
        "resolved a",
    ]
    assert interpreted({"mode": "any", "commands": [LONG, A, B]}, (resolve, "b")) == "resolved b"
    assert interpreted({"mode": "any", "commands": [LONG, SLEEP]}) == "slept"
    either: Script = {"mode": "any successful", "commands": [A, FAIL, B]}
    assert interpreted(either, (reject, "a"), (resolve, "b")) == "resolved b"


def test_signals_reach_a_handler_by_its_invocation() -> None:
    """From another handler and from outside."""

    async def use(client: RestateClient) -> list[Any]:
        inside = await client.service_send(for_signal, None)
        outside = await client.service_send(for_signal, None)
        await client.service_call(tell, inside.invocation_id)
        await client.send_signal(outside.invocation_id, "word", "sent")
        return [await client.attach(each.invocation_id) for each in (inside, outside)]

    assert used(use, waiter) == ["told", "sent"]


def test_cancellation_is_a_terminal_error_where_the_handler_waits() -> None:
    """From another handler and from outside."""

    async def use(client: RestateClient) -> list[Any]:
        inside = await client.service_send(until_cancelled, None)
        outside = await client.service_send(until_cancelled, None)
        await client.service_call(cancel, inside.invocation_id)
        await client.cancel(outside.invocation_id)
        return [await client.attach(each.invocation_id) for each in (inside, outside)]

    for result in used(use, waiter):
        assert result.startswith("409 ")


def test_plain_task_groups_wait_for_sleeps() -> None:
    """What asyncio has works in handlers as it stands."""
    assert used(lambda client: client.service_call(sorted_by_sleep, [3, 1, 2]), waiter) == [3, 1, 2]


def test_awakeables_are_completed_from_outside() -> None:
    """By the id that the handler made known."""

    async def use(client: RestateClient) -> list[Any]:
        asked.clear()
        handles = [await client.service_send(wait, None) for _ in range(2)]
        while len(asked) < 2:
            await client.service_call(ping, None)
        ids = [asked[handle.invocation_id] for handle in handles]
        await client.resolve_awakeable(ids[0], {"a": 1})
        await client.reject_awakeable(ids[1], "no", 403)
        result = await client.attach(handles[0].invocation_id)
        with pytest.raises(HttpError, match="403: no"):
            await client.attach(handles[1].invocation_id)
        return [result]

    assert used(use, outer) == [{"a": 1}]
