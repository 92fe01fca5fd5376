"""Virtual objects, as apps for the official SDK write them: state, sends, calls by name."""

import asyncio
import json
import typing
from datetime import timedelta

import pytest

import perdure.sdk as restate
from perdure.sdk import (
    Context,
    HttpError,
    ObjectContext,
    ObjectSharedContext,
    RestateClient,
    Service,
    VirtualObject,
)
from perdure.sdk.context import RestateDurableCallFuture, SendHandle
from perdure.sdk.exceptions import TerminalError

from .running import used

pytestmark = pytest.mark.usefixtures("each_way")

counter = VirtualObject("counter")
maps = VirtualObject("maps", enable_lazy_state=True)
proxy = Service("proxy")


@counter.handler()
async def increment(ctx: ObjectContext, value: int) -> int:
    n = await ctx.get("counter", type_hint=int) or 0
    n += value
    ctx.set("counter", n)
    return n


@counter.handler(kind="shared")
async def count(ctx: ObjectSharedContext) -> int:
    return await ctx.get("counter") or 0


@counter.handler()
async def reset(ctx: ObjectContext) -> None:
    ctx.clear("counter")


class Entry(typing.TypedDict):
    key: str
    value: typing.Any


@maps.handler(name="set")
async def put(ctx: ObjectContext, entry: Entry) -> None:
    ctx.set(entry["key"], entry["value"])


@maps.handler(name="get")
async def get_entry(ctx: ObjectContext, key: str) -> typing.Any:
    return await ctx.get(key)


@maps.handler(name="clearAll")
async def clear_all(ctx: ObjectContext) -> list[Entry]:
    entries = []
    for key in await ctx.state_keys():
        value = await ctx.get(key)
        entries.append(Entry(key=key, value=value))
        ctx.clear(key)
    ctx.clear_all()
    return entries


class ProxyRequest(typing.TypedDict):
    service: str
    key: str | None
    handler: str
    message: typing.Iterable[int]
    delay_ms: typing.NotRequired[int | None]
    idempotency_key: typing.NotRequired[str | None]


def passed_on(ctx: Context, req: ProxyRequest) -> RestateDurableCallFuture[bytes]:
    return ctx.generic_call(
        req["service"],
        req["handler"],
        bytes(req["message"]),
        req.get("key"),
        idempotency_key=req.get("idempotency_key"),
    )


@proxy.handler()
async def call(ctx: Context, req: ProxyRequest) -> typing.Iterable[int]:
    return list(await passed_on(ctx, req))


@proxy.handler(name="oneWayCall")
async def one_way_call(ctx: Context, req: ProxyRequest) -> str:
    delay = req.get("delay_ms")
    handle: SendHandle = ctx.generic_send(
        req["service"],
        req["handler"],
        bytes(req["message"]),
        req.get("key"),
        send_delay=None if delay is None else timedelta(milliseconds=delay),
        idempotency_key=req.get("idempotency_key"),
    )
    return await handle.invocation_id()


@proxy.handler(name="manyCalls")
async def many_calls(ctx: Context, requests: typing.Iterable[ProxyRequest]) -> int:
    waiting = [passed_on(ctx, req) for req in requests]
    for each in waiting:
        await each
    return len(waiting)


@proxy.handler()
async def add_by_function(ctx: Context, key: str) -> list[int]:
    first = await ctx.object_call(increment, key=key, arg=5)
    ctx.object_send(increment, key=key, arg=5)
    handle = ctx.object_send(increment, key, 5, idempotency_key="only once")
    again = ctx.object_send(increment, key, 5, idempotency_key="only once")
    assert await handle.invocation_id() == await again.invocation_id()
    third = await ctx.attach_invocation(await handle.invocation_id(), type_hint=int)
    last = await ctx.object_call(count, key, None)
    return [first, third, last]


def test_objects_keep_state_under_their_key() -> None:
    """One writer at a time; shared handlers read."""

    async def use(client: RestateClient) -> list[typing.Any]:
        return [
            await client.object_call(increment, key="a", arg=5),
            await client.object_call(increment, key="a", arg=-2),
            await client.object_call(increment, key="b", arg=1),
            await client.object_call(count, key="a", arg=None),
            await client.object_call(reset, key="a", arg=None),
            await client.object_call(count, key="a", arg=None),
        ]

    assert used(use, counter) == [5, 3, 1, 3, None, 0]


def test_state_is_read_key_by_key_where_it_is_lazy() -> None:
    """Keys are listed, and cleared one by one or all at once."""

    async def use(client: RestateClient) -> list[typing.Any]:
        await client.object_call(put, "m", Entry(key="x", value=1))
        await client.object_call(put, "m", Entry(key="y", value={"z": [None]}))
        read = await client.object_call(get_entry, "m", "y")
        entries = await client.object_call(clear_all, "m", None)
        return [read, entries, await client.object_call(clear_all, "m", None)]

    assert used(use, maps) == [
        {"z": [None]},
        [{"key": "x", "value": 1}, {"key": "y", "value": {"z": [None]}}],
        [],
    ]


def test_handlers_call_objects_by_function_and_by_name() -> None:
    """With the answer, without it, after a delay, and once however often it is asked for."""

    async def use(client: RestateClient) -> list[typing.Any]:
        message = list(b"5")
        request = ProxyRequest(service="counter", key="p", handler="increment", message=message)
        answer = await client.service_call(call, request)
        await client.service_call(many_calls, [request, request])
        late = await client.service_call(one_way_call, ProxyRequest(**request, delay_ms=1))
        await client.attach(late)
        functions = await client.service_call(add_by_function, "f")
        return [bytes(answer), await client.object_call(count, "p", None), functions]

    assert used(use, counter, proxy) == [b"5", 20, [5, 15, 15]]


def test_a_key_of_idempotency_makes_one_call_of_many() -> None:
    """From outside; the handle tells which, and its result is there by that."""

    async def use(client: RestateClient) -> list[typing.Any]:
        first = await client.object_send(increment, key="i", arg=2, idempotency_key="op1")
        second = await client.object_send(increment, key="i", arg=2, idempotency_key="op1")
        result = await client.object_call(increment, key="i", arg=2, idempotency_key="op1")
        generic = await client.generic_call("counter", "count", b"", key="i")
        return [first.invocation_id == second.invocation_id, result, json.loads(generic)]

    assert used(use, counter) == [True, 2, 2]


def test_calls_run_side_by_side() -> None:
    """Those of one key one after the other."""

    async def use(client: RestateClient) -> list[int]:
        await asyncio.gather(*[client.object_call(increment, str(n % 3), 1) for n in range(30)])
        return [await client.object_call(count, str(n), None) for n in range(3)]

    assert used(use, counter) == [10, 10, 10]


def test_unknown_handlers_are_http_errors() -> None:
    """404, as at the HTTP front door."""

    async def use(client: RestateClient) -> None:
        await client.generic_call("counter", "nothing", b"", key="a")

    with pytest.raises(HttpError) as caught:
        used(use, counter)
    assert caught.value.status_code == 404
    assert issubclass(TerminalError, Exception)
    assert restate.TerminalError is TerminalError
