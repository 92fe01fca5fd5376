"""The environment: an app in one process, on a clock that jumps."""

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure.core.errors import PerdureError
from perdure.sdk import Context, HttpError, Service, TerminalError
from perdure.sdk.service import ServiceBase
from perdure.testing import CrashAt, Environment, StalledError, run

from . import users_app as app

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def used(
    use: Callable[[Environment], Awaitable[Any]], *services: ServiceBase, **options: Any
) -> Any:
    """What `use` gives with an environment of the services."""
    app.mailbox.clear()

    async def main() -> Any:
        async with Environment(services or app.services, **options) as env:
            return await use(env)

    return run(main())


def service_of(function: Callable[..., Any]) -> Service:
    """A service with one handler."""
    service = Service("Service")
    service.handler("it")(function)
    return service


@pytest.mark.parametrize("always_suspend", [False, True])
def test_days_pass_in_no_time_and_by_the_clock(always_suspend: bool) -> None:
    async def use(env: Environment) -> timedelta:
        began = env.now()
        await env.client.service_call(app.remind, 300)
        return env.now() - began

    took = used(use, always_suspend=always_suspend)

    assert took == 300 * DAY


def test_the_clock_starts_where_it_is_told_to() -> None:
    start = datetime(2040, 2, 29, tzinfo=UTC)

    async def use(env: Environment) -> datetime:
        return env.now()

    assert start <= used(use, start_time=start) < start + timedelta(seconds=1)


def test_two_runs_with_one_seed_give_the_same_ids() -> None:
    async def use(env: Environment) -> str:
        return (await env.client.service_send(app.remind, 1)).invocation_id

    assert used(use) == used(use)
    assert used(use) != used(use, seed=1)


def test_without_skipping_time_passes_by_advance_only() -> None:
    async def use(env: Environment) -> list[str]:
        handle = await env.client.service_send(app.remind, 2)
        seen = []
        for hours in (23, 23, 2.5):
            await env.advance(hours * HOUR)
            seen.append(env.status(handle.invocation_id))
        return seen

    assert used(use, skip_time=False) == ["suspended", "suspended", "completed"]


def test_a_wait_that_time_cannot_end_while_it_stands_still_says_so() -> None:
    async def use(env: Environment) -> None:
        await env.client.service_call(app.remind, 2)

    with pytest.raises(StalledError, match=r"env\.advance.*Shop/remind is running after Sleep"):
        used(use, skip_time=False)


def test_a_wait_for_what_never_comes_names_the_invocation() -> None:
    async def forever(ctx: Context) -> None:
        await ctx.awakeable()[1]

    async def use(env: Environment) -> None:
        await env.client.service_call(forever, None)

    with pytest.raises(StalledError, match="Service/it is suspended"):
        used(use, service_of(forever))


def test_an_error_of_the_test_itself_comes_through() -> None:
    async def use(env: Environment) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        used(use)


def test_every_way_of_the_client_works() -> None:
    async def use(env: Environment) -> None:
        client = env.client
        sent = await client.service_send(app.approve, None, send_delay=DAY)
        with pytest.raises(HttpError) as early:
            await client.get_output(sent.invocation_id)
        assert early.value.status_code == 470
        await asyncio.sleep(2 * 86400)
        await client.reject_awakeable(app.mailbox[0], "no")
        with pytest.raises(HttpError, match="no"):
            await client.attach(sent.invocation_id)

        first = await client.object_call(app.add, "ann", 1, idempotency_key="once")
        assert first == await client.object_call(app.add, "ann", 1, idempotency_key="once")
        assert (await client.lookup(app.add, "ann", "once")).startswith("inv_")

        sleeping = await client.service_send(app.remind, 1000)
        await asyncio.sleep(3600)
        await client.cancel(sleeping.invocation_id)
        with pytest.raises(HttpError, match="409"):
            await client.attach(sleeping.invocation_id)

        assert await client.generic_call("Counter", "read", b"", key="ann") == b"1"

    used(use)


def test_signals_reach_handlers() -> None:
    async def waits(ctx: Context) -> str:
        return await ctx.signal("go", type_hint=str)

    async def use(env: Environment) -> str:
        handle = await env.client.service_send(waits, None)
        await env.client.send_signal(handle.invocation_id, "go", "now")
        return await env.client.attach(handle.invocation_id, type_hint=str)

    assert used(use, service_of(waits)) == "now"


def test_state_can_be_read_and_set() -> None:
    async def use(env: Environment) -> tuple[dict[str, Any], dict[str, Any]]:
        await env.set_state(app.counter, "ann", {"value": 40, "raw": b"\xff"})
        await env.client.object_call(app.add, "ann", 2)
        return env.state(app.counter, "ann"), env.state("Counter", "bob")

    assert used(use) == ({"value": 42, "raw": b"\xff"}, {})


def test_journals_can_be_read() -> None:
    async def use(env: Environment) -> list[str]:
        handle = await env.client.service_send(app.remind, 1)
        await env.client.attach(handle.invocation_id)
        with pytest.raises(KeyError, match="not known"):
            env.journal(handle.invocation_id[:-4] + "AAAA")
        return [entry.text.split()[0] for entry in env.journal(handle.invocation_id)]

    journal = ["Input", "Sleep", "completion", "Run", "completion", "Output"]
    assert used(use) == journal


def test_quiet_handlers_suspend_in_their_time() -> None:
    async def use(env: Environment) -> list[str]:
        handle = await env.client.service_send(app.remind, 1)
        seen = []
        for _ in range(2):
            await env.advance(timedelta(seconds=50))
            seen.append(env.status(handle.invocation_id))
        return seen

    assert used(use) == ["running", "suspended"]


def test_failing_handlers_are_tried_again_without_waiting() -> None:
    tries: list[datetime] = []

    async def flaky(ctx: Context) -> str:
        tries.append(env_now())
        if len(tries) < 5:
            raise ValueError("not yet")
        return "done"

    def env_now() -> datetime:
        return environment[0].now()

    environment: list[Environment] = []

    async def use(env: Environment) -> str:
        environment.append(env)
        return await env.client.service_call(flaky, None)

    assert used(use, service_of(flaky)) == "done"
    assert tries[4] - tries[0] > timedelta(seconds=5)


def test_a_handler_that_fails_for_good_fails_its_caller() -> None:
    async def fails(ctx: Context) -> None:
        raise TerminalError("no", 418)

    async def use(env: Environment) -> None:
        await env.client.service_call(fails, None)

    with pytest.raises(HttpError, match="418"):
        used(use, service_of(fails))


@pytest.fixture
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a busy machine takes for a step."""
    monkeypatch.setattr("perdure.testing.virtual_time.STILL_SECONDS", 60.0)


@pytest.mark.usefixtures("_still")
def test_steps_in_threads_hold_time_still() -> None:
    async def works(ctx: Context) -> str:
        return await ctx.run_typed("work", work)

    def work() -> str:
        time.sleep(0.02)
        return threading.current_thread().name

    async def use(env: Environment) -> tuple[str, timedelta]:
        began = env.now()
        name = await env.client.service_call(works, None)
        return name, env.now() - began

    name, took = used(use, service_of(works))

    assert name.startswith("perdure-step")
    assert took < timedelta(milliseconds=20)


@pytest.mark.usefixtures("_still")
def test_steps_with_open_sockets_hold_time_still() -> None:
    near, far = socket.socketpair()
    near.setblocking(False)

    async def asks(ctx: Context) -> str:
        return await ctx.run_typed("ask", ask)

    async def ask() -> str:
        threading.Timer(0.02, far.send, (b"answer",)).start()
        return (await asyncio.get_running_loop().sock_recv(near, 100)).decode()

    async def use(env: Environment) -> tuple[str, timedelta]:
        began = env.now()
        await env.client.service_send(app.remind, 1)
        answer = await env.client.service_call(asks, None)
        return answer, env.now() - began

    with near, far:
        answer, took = used(use, *app.services, service_of(asks))

    assert answer == "answer"
    assert took < timedelta(seconds=1)


def test_time_needs_no_thread() -> None:
    async def use(env: Environment) -> list[threading.Thread]:
        await env.client.object_call(app.add, "ann", 1)
        assert await env.client.service_call(app.approve, None) == "nobody answered"
        return [each for each in threading.enumerate() if not each.name.startswith("perdure-step")]

    before = set(threading.enumerate())

    assert set(used(use)) <= before


def test_options_of_the_node_can_be_given() -> None:
    async def fails(ctx: Context) -> None:
        raise ValueError("always")

    async def use(env: Environment) -> None:
        await env.client.service_call(fails, None)

    options = ("retry.max_attempts=2", "retry.on_max_attempts=kill", "partitions.count=3")
    with pytest.raises(HttpError, match="always"):
        used(use, service_of(fails), options=options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"options": ["retry"]}, "is not of the form section.key=value"),
        ({"options": ["retry.never=1"]}, "retry.never"),
        ({"replay_check": "sometimes"}, "none of 'whole', 'every prefix', 'off'"),
        ({"crash": CrashAt(0)}, "steps count from 1"),
        ({"crash": CrashAt(1, "disk")}, "'worker' or 'node'"),  # type: ignore[arg-type]
    ],
)
def test_options_that_are_none_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PerdureError, match=message):
        Environment(app.counter, **options)


def test_two_environments_share_a_loop_one_after_the_other() -> None:
    async def main() -> list[int]:
        found = []
        for _ in range(2):
            async with Environment(app.counter) as env:
                found.append(await env.client.object_call(app.add, "ann", 1))
        return found

    assert run(main()) == [1, 1]


def test_an_environment_is_used_once() -> None:
    async def main() -> None:
        env = Environment(app.counter)
        async with env, env:
            await env.client.object_call(app.add, "ann", 1)
        async with env:
            raise AssertionError("not reached")

    with pytest.raises(AssertionError, match="used once"):
        run(main())


def test_plain_asyncio_run_will_do() -> None:
    async def main() -> str:
        async with Environment(app.services) as env:
            return await env.client.service_call(app.remind, 30)

    assert asyncio.run(main()) == "reminded"
