"""Crashes: of the worker or the node, at a step or at every step, and what is compared."""

import asyncio
import itertools
from typing import Any

import pytest

from perdure.sdk import Context, HttpError, Service
from perdure.testing import (
    CrashAt,
    CrashMismatchError,
    Environment,
    ReplayMismatchError,
    crash_everywhere,
    run,
)

from . import users_app as app


async def transfer(env: Environment) -> list[Any]:
    """A saga that needs five steps."""
    await env.set_state(app.account, "ann", {"balance": 10})
    answer = await env.client.service_call(app.transfer, ["ann", "bob"])
    return [answer, env.state("Account", "ann"), env.state("Account", "bob")]


async def everyday(env: Environment) -> list[Any]:
    """A bit of everything."""
    app.mailbox.clear()
    client = env.client
    found: list[Any] = [await client.service_call(app.fan_out, 3)]
    found.append(await client.service_call(app.poll, 2))
    found.append(await client.service_call(app.blocking, 2))
    handle = await client.workflow_send(app.run, "ann", "ann@example.com")
    await client.workflow_call(app.click, "ann", "secret")
    found.append(await client.attach(handle.invocation_id, type_hint=str))
    run_of_bob = asyncio.ensure_future(client.workflow_call(app.run, "bob", "bob@example.com"))
    await asyncio.sleep(60)
    await client.workflow_call(app.click, "bob", "clicked")
    found.append(await run_of_bob)
    return found


@pytest.mark.parametrize("what", ["worker", "node"])
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("always_suspend", [False, True])
def test_a_saga_survives_a_crash_at_every_step(
    what: Any, before: bool, always_suspend: bool
) -> None:
    found = run(
        crash_everywhere(
            app.services, transfer, what=what, before=before, always_suspend=always_suspend
        )
    )

    assert found == ["done", {"balance": 0}, {"balance": 10}]


def test_a_crash_happens_once_after_its_step() -> None:
    turns: list[int] = []
    service = Service("Service")

    @service.handler()
    async def it(ctx: Context) -> list[str]:
        turns.append(0)
        return [await ctx.run_typed(name, lambda name=name: name) for name in "abc"]

    async def main(crash: CrashAt | None) -> tuple[list[str], int, int]:
        turns.clear()
        async with Environment(service, crash=crash, replay_check="off") as env:
            found = await env.client.service_call(it, None)
            return found, len(turns), len(env.crash_points)

    # The results of three steps, and the Output.
    assert run(main(None)) == (["a", "b", "c"], 1, 4)
    assert run(main(CrashAt(2)))[:2] == (["a", "b", "c"], 2)
    assert run(main(CrashAt(99)))[:2] == (["a", "b", "c"], 1)


@pytest.mark.parametrize(("before", "ran"), [(False, 1), (True, 2)])
def test_a_step_runs_twice_only_when_its_result_was_lost(before: bool, ran: int) -> None:
    runs: list[int] = []
    service = Service("Service")

    @service.handler()
    async def it(ctx: Context) -> None:
        await ctx.run_typed("step", lambda: runs.append(0))

    async def main() -> None:
        async with Environment(service, crash=CrashAt(1, before=before)) as env:
            await env.client.service_call(it, None)

    run(main())

    assert len(runs) == ran


def test_another_result_after_a_crash_fails_the_scenario_with_its_place() -> None:
    attempts = itertools.count()
    service = Service("Service")

    @service.handler()
    async def it(ctx: Context) -> int:
        attempt = next(attempts)
        await ctx.run_typed("step", str)
        return attempt

    async def scenario(env: Environment) -> int:
        nonlocal attempts
        attempts = itertools.count()
        return await env.client.service_call(it, None)

    with pytest.raises(
        CrashMismatchError,
        match=r"worker after step 1 of 2 \(the result of completion 1 of Service/it\) gives 1",
    ):
        run(crash_everywhere(service, scenario, replay_check="off"))


def test_a_crash_finds_handlers_that_do_not_replay_and_says_where_it_was() -> None:
    names = itertools.count()
    service = Service("Service")

    @service.handler()
    async def it(ctx: Context) -> None:
        await ctx.run_typed(f"step {next(names)}", str)

    async def scenario(env: Environment) -> None:
        await env.client.service_call(it, None)

    with pytest.raises(ReplayMismatchError) as caught:
        run(crash_everywhere(service, scenario, replay_check="off"))

    assert caught.value.__notes__[0].startswith("a crash of the worker after step 1 of 2")


@pytest.mark.parametrize("what", ["worker", "node"])
def test_everything_survives_a_crash_by_hand(what: str) -> None:
    async def main() -> Any:
        async with Environment(app.services) as env:
            handle = await env.client.service_send(app.remind, 30)
            for _ in range(3):
                await (env.crash_worker() if what == "worker" else env.crash_node())
            return await env.client.attach(handle.invocation_id, type_hint=str)

    assert run(main()) == "reminded"


@pytest.mark.parametrize("what", ["worker", "node"])
def test_services_objects_and_workflows_survive_crashes(what: Any) -> None:
    found = run(crash_everywhere(app.services, everyday, what=what))

    assert found == [[0, 1, 2], 2, "slept", "secret", "clicked"]


def test_a_call_that_may_not_be_repeated_says_that_the_node_has_crashed() -> None:
    """As the client does that calls by name, and so cannot tell an object from a workflow."""

    async def main() -> None:
        async with Environment(app.services, crash=CrashAt(1, "node", before=True)) as env:
            await env.client.generic_call("Counter", "add", b"1", key="ann")

    with pytest.raises(HttpError, match=r"503.*not known"):
        run(main())
