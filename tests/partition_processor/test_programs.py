"""Whole programs on a node and workers in one process, on virtual time: nothing waits for ever."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from perdure.core.random import SeededRandom
from perdure.ingress.requests import Completed, InvocationRequest
from perdure.partition_processor.tables import keys
from perdure.partition_processor.tables.invocations import Invocation, decode_invocation
from perdure.sdk import (
    Context,
    ObjectContext,
    Service,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
    app,
)
from perdure.testing.in_process import InProcessNode
from perdure.testing.simulation import SimulationClock, SimulationLoop
from perdure.testing.simulation.loop import run_simulated

family = Service("Family")
counter = VirtualObject("Counter")


@family.handler()
async def child(ctx: Context, number: int) -> int:
    return number * 2


@family.handler()
async def parent(ctx: Context, number: int) -> int:
    first = ctx.service_call(child, number)
    second = ctx.service_call(child, number + 1)
    return await first + await second


@family.handler()
async def descend(ctx: Context, depth: int) -> int:
    if depth == 0:
        return 0
    return 1 + await ctx.service_call(descend, depth - 1)


@counter.handler()
async def add(ctx: ObjectContext, amount: int) -> int:
    await ctx.sleep(timedelta(seconds=1))
    value = (await ctx.get("value", type_hint=int) or 0) + amount
    ctx.set("value", value)
    return value


@family.handler()
async def adds(ctx: Context, number: int) -> list[int]:
    return [await ctx.object_call(add, f"k{number % 3}", 1) for _ in range(2)]


def with_node(
    main: Callable[[InProcessNode], Awaitable[None]], *options: str, attempts_max: int
) -> None:
    """Run a test with a node and one worker that has so many places, on virtual time."""
    loop = SimulationLoop()

    async def around() -> None:
        node = InProcessNode(options=options, clock=SimulationClock(loop), random=SeededRandom(1))
        async with node:
            await node.add_worker(app([family, counter, order, stuck]), attempts_max=attempts_max)
            await main(node)
            assert node.failures == []

    # What waits for ever is an error, and no hang.
    run_simulated(around(), loop, until_ns=4 * 3600 * 10**9)


def answers(node: InProcessNode, handler: str, count: int) -> list[Awaitable[Any]]:
    """So many calls of a handler, at once."""
    return [
        node.submit(InvocationRequest("Family", handler, None, json.dumps(number).encode()))
        for number in range(count)
    ]


def invocations(node: InProcessNode) -> list[Invocation]:
    """Every invocation of the first partition."""
    transaction = node.engine.manager.processors[0].transaction
    rows = transaction.scan(keys.INVOCATIONS, keys.prefix_end(keys.INVOCATIONS))
    return [decode_invocation(row) for _, row in rows]


def value(reply: Any) -> Any:
    """What a call came to."""
    assert isinstance(reply, Completed), reply
    assert reply.failure is None, reply.failure
    return json.loads(reply.value)


@pytest.mark.parametrize("partitions", [1, 4])
def test_two_hundred_parents_of_two_finish_on_sixty_four_places(partitions: int) -> None:
    async def main(node: InProcessNode) -> None:
        begun = asyncio.get_running_loop().time()
        replies = await asyncio.gather(*answers(node, "parent", 200))
        assert [value(reply) for reply in replies] == [number * 4 + 2 for number in range(200)]
        # No timeout had to help.
        assert asyncio.get_running_loop().time() - begun < 1

    with_node(main, f"partitions.count={partitions}", attempts_max=64)


@pytest.mark.parametrize("attempts_max", [1, 2])
def test_callers_of_callers_finish_on_a_single_place(attempts_max: int) -> None:
    async def main(node: InProcessNode) -> None:
        begun = asyncio.get_running_loop().time()
        replies = await asyncio.gather(*answers(node, "descend", 12))
        assert [value(reply) for reply in replies] == list(range(12))
        assert asyncio.get_running_loop().time() - begun < 1

    with_node(main, "partitions.count=2", attempts_max=attempts_max)


@pytest.mark.parametrize("inactivity", ["60s", "0s"])
def test_objects_that_sleep_while_they_are_locked_finish_on_few_places(inactivity: str) -> None:
    async def main(node: InProcessNode) -> None:
        replies = await asyncio.gather(*answers(node, "adds", 30))
        found = sorted(number for reply in replies for number in value(reply))
        assert found == sorted([*range(1, 21)] * 3)

    with_node(main, "partitions.count=3", f"retry.inactivity_timeout={inactivity}", attempts_max=2)


order = Workflow("Order")


@order.main()
async def run(ctx: WorkflowContext, number: int) -> list[Any]:
    ctx.set("number", number)
    return [await ctx.promise("approved", type_hint=str).value(), number]


@order.handler()
async def approve(ctx: WorkflowSharedContext, by: str) -> int | None:
    await ctx.promise("approved").resolve(by)
    return await ctx.get("number", type_hint=int)


@family.handler()
async def resolve(ctx: Context, awakeable: str) -> None:
    ctx.resolve_awakeable(awakeable, "resolved")


@family.handler()
async def story(ctx: Context, number: int) -> list[Any]:
    """Calls, a sleep, an awakeable, a step, an object, a workflow and its promise."""
    awakeable, resolved = ctx.awakeable(type_hint=str)
    ctx.service_send(resolve, awakeable, send_delay=timedelta(seconds=1))
    called, _, found = await asyncio.gather(
        ctx.service_call(child, number), ctx.sleep(timedelta(seconds=2)), resolved
    )

    # Plain functions run in threads, of which virtual time knows nothing.
    async def stepping() -> int:
        return number + 100

    stepped = await ctx.run_typed("step", stepping)
    key = f"w{number}"
    run_id = await ctx.workflow_send(run, key, number).invocation_id()
    seen = await ctx.workflow_call(approve, key, "Ann")
    ended = await ctx.attach_invocation(run_id, type_hint=list[Any])
    added = await ctx.object_call(add, key, number)
    return [called, found, stepped, seen, ended, added]


@pytest.mark.parametrize(
    ("inactivity", "attempts_max"), [("60s", 1_000), ("0s", 1_000), ("0s", 1), ("60s", 1)]
)
def test_a_program_gives_the_same_answers_however_often_it_is_suspended(
    inactivity: str, attempts_max: int
) -> None:
    async def main(node: InProcessNode) -> None:
        replies = await asyncio.gather(*answers(node, "story", 8))
        assert [value(reply) for reply in replies] == [
            [number * 2, "resolved", number + 100, number, ["Ann", number], number]
            for number in range(8)
        ]

    options = ("partitions.count=3", f"retry.inactivity_timeout={inactivity}")
    with_node(main, *options, attempts_max=attempts_max)


stuck = Service("Stuck")
begun: list[int] = []
given_up: list[int] = []


@stuck.handler()
async def step(ctx: Context, number: int) -> int:
    """Its step never ends the first time."""

    async def never_the_first_time() -> int:
        begun.append(number)
        if len(begun) == 1:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                given_up.append(number)
        return number

    return await ctx.run_typed("step", never_the_first_time)


@stuck.handler(inactivity_timeout=timedelta(hours=1))
async def patient(ctx: Context, number: int) -> int:
    await ctx.sleep(timedelta(minutes=30))
    return number


@stuck.handler()
async def waits(ctx: Context, number: int) -> int:
    await ctx.sleep(timedelta(minutes=30))
    return number


TIMEOUTS = ("partitions.count=1", "retry.inactivity_timeout=10s", "retry.abort_timeout=20s")


def test_a_step_that_never_ends_is_given_up_after_both_timeouts_and_tried_again() -> None:
    begun.clear()
    given_up.clear()

    async def main(node: InProcessNode) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        future = node.submit(InvocationRequest("Stuck", "step", None, b"7"))
        await asyncio.sleep(29)
        assert (begun, given_up) == ([7], [])
        assert value(await future) == 7
        # Both timeouts, what the ticks of the watch add, and the wait before the next attempt.
        assert 30 <= loop.time() - start < 38
        assert given_up == [7]
        (completed,) = [row for row in invocations(node) if row.handler == "step"]
        assert completed.attempt == 2
        assert completed.last_failure is not None
        assert completed.last_failure.startswith("[408] ")

    with_node(main, *TIMEOUTS, attempts_max=10)


def test_a_handler_that_waits_is_suspended_after_the_inactivity_timeout_and_not_given_up() -> None:
    async def main(node: InProcessNode) -> None:
        invoker = node.engine.manager.invoker
        futures = [
            node.submit(InvocationRequest("Stuck", handler, None, b"7"))
            for handler in ("waits", "patient")
        ]
        await asyncio.sleep(5)
        assert [len(session.attempts) for session in invoker.sessions] == [2]
        await asyncio.sleep(15)
        assert [len(session.attempts) for session in invoker.sessions] == [1]
        replies = await asyncio.gather(*futures)
        assert [value(reply) for reply in replies] == [7, 7]
        attempts = {row.handler: row.attempt for row in invocations(node)}
        assert attempts == {"waits": 2, "patient": 1}
        assert all(row.last_failure is None for row in invocations(node))

    with_node(main, *TIMEOUTS, attempts_max=10)
