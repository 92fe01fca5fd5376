"""Handlers of every kind with a real node in one process, suspended never and at every wait."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from perdure.sdk import (
    BlockingContext,
    Context,
    ObjectContext,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
    app,
)
from perdure.testing.in_process import InProcessNode

SHORT = timedelta(milliseconds=20)

service = Service("S")
thing = VirtualObject("Thing")
flow = Workflow("Flow")
undone: list[str] = []


@service.handler()
async def naps(ctx: Context, seconds: float) -> str:
    try:
        await asyncio.sleep(seconds)
    except TerminalError as error:
        reason = error.message
        await ctx.run("undo", lambda: undone.append(reason))
        raise
    return "napped"


@service.handler(timeout=SHORT)
async def limited(ctx: Context) -> str:
    return await ctx.service_call(naps, 3600)


@service.handler()
async def resolves(ctx: Context, awakeable: str) -> None:
    ctx.resolve_awakeable(awakeable, {"x": 1})


@service.handler()
def blocking(ctx: BlockingContext, number: int) -> list[Any]:
    slept = ctx.service_call(naps, 0.01)
    return [slept, ctx.run("number", lambda: number)]


@thing.handler()
async def add(ctx: ObjectContext, amount: int) -> list[Any]:
    value = (await ctx.get("value", type_hint=int) or 0) + amount
    ctx.set("value", value)
    return [value, await ctx.state_keys()]


@flow.main()
async def run(ctx: WorkflowContext, number: int) -> str:
    ctx.set("number", number)
    return await ctx.promise("approved", type_hint=str).value()


@flow.handler()
async def approve(ctx: WorkflowSharedContext, by: str) -> None:
    await ctx.promise("approved").resolve(by)


@flow.handler()
async def look(ctx: WorkflowSharedContext) -> list[Any]:
    return [await ctx.promise("approved").peek(), await ctx.get("number")]


@service.handler()
async def calls(ctx: Context) -> list[Any]:
    gathered = await asyncio.gather(*(ctx.service_call(naps, 0.01) for _ in range(3)))
    added = [await ctx.object_call(add, "k", amount) for amount in (5, 6)]
    return [gathered, added, await ctx.service_call(blocking, 7)]


@service.handler()
async def gives_up(ctx: Context) -> list[Any]:
    found: list[Any] = []
    for call in (
        ctx.service_call(naps, 3600, timeout=SHORT),
        ctx.service_call(limited, None),
    ):
        try:
            await call
        except TerminalError as error:
            found.append([error.status_code, error.message])
    sent = await ctx.service_send(naps, 3600).invocation_id()
    ctx.cancel_invocation(sent)
    try:
        await ctx.attach_invocation(sent)
    except TerminalError as error:
        found.append([error.status_code, error.message])
    return found


@service.handler()
async def waits(ctx: Context) -> list[Any]:
    awakeable, future = ctx.awakeable()
    ctx.service_send(resolves, awakeable, send_delay=SHORT)
    found = [await future]
    try:
        async with asyncio.timeout(0.02):
            await ctx.awakeable()[1]
    except TimeoutError:
        found.append("late")
    run_id = await ctx.workflow_send(run, "w", 3).invocation_id()
    await ctx.workflow_call(approve, "w", "Ann")
    found.append(await ctx.attach_invocation(run_id))
    found.append(await ctx.workflow_call(look, "w", None))
    return found


EXPECTED: dict[str, list[Any]] = {
    "calls": [
        ["napped"] * 3,
        [[5, ["value"]], [11, ["value"]]],
        ["napped", 7],
    ],
    "gives_up": [
        [408, "S/naps did not answer within 0.02 s"],
        [408, "S/limited did not end within 0.02 s"],
        [409, "cancelled"],
    ],
    "waits": [{"x": 1}, "late", "Ann", ["Ann", 3]],
}


def with_node(main: Callable[[InProcessNode], Awaitable[None]], *options: str) -> None:
    """Run a test with a node and a worker."""

    async def around() -> None:
        async with asyncio.timeout(60), InProcessNode(options=options) as node:
            await node.add_worker(app([service, thing, flow]))
            await main(node)

    asyncio.run(around())


@pytest.mark.parametrize("inactivity", ["60s", "0s"])
@pytest.mark.parametrize("handler", list(EXPECTED))
def test_what_handlers_ask_for_comes_true(handler: str, inactivity: str) -> None:
    """In one attempt, and in one per wait."""
    undone.clear()

    async def main(node: InProcessNode) -> None:
        completed = await node.call("S", handler)
        assert completed.failure is None, completed.failure
        assert json.loads(completed.value) == EXPECTED[handler]

    with_node(main, "partitions.count=2", f"retry.inactivity_timeout={inactivity}")

    if handler == "gives_up":
        assert undone == ["cancelled"] * 3
