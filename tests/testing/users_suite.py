"""A user's tests, run by `test_users_suite` in a pytest of their own."""

import asyncio
import sys
from datetime import timedelta
from typing import Any

import pytest

import perdure.testing

from . import users_app as app

DAY = timedelta(days=1)


def refuse_ports(event: str, arguments: tuple[Any, ...]) -> None:
    """Fail whatever opens a port or a connection."""
    if event in ("socket.bind", "socket.connect", "socket.getaddrinfo"):
        raise AssertionError(f"{event} {arguments}")


sys.addaudithook(refuse_ports)


@pytest.fixture
def perdure_app() -> list[Any]:
    app.mailbox.clear()
    return app.services


async def test_counter_counts(perdure_env: perdure.testing.Environment) -> None:
    client = perdure_env.client
    assert [await client.object_call(app.add, "ann", 2) for _ in range(3)] == [2, 4, 6]
    assert await client.object_call(app.read, "ann", None) == 6
    assert perdure_env.state(app.counter, "ann") == {"value": 6}


async def test_transfer_moves_money(perdure_env: perdure.testing.Environment) -> None:
    await perdure_env.set_state(app.account, "ann", {"balance": 10})
    assert await perdure_env.client.service_call(app.transfer, ["ann", "bob"]) == "done"
    assert perdure_env.state("Account", "bob") == {"balance": 10}


async def test_transfer_is_undone(perdure_env: perdure.testing.Environment) -> None:
    await perdure_env.set_state(app.account, "ann", {"balance": 10})
    assert await perdure_env.client.service_call(app.transfer, ["ann", "closed"]) == "undone"
    assert perdure_env.state("Account", "ann") == {"balance": 10}


async def test_reminder_comes_after_days(perdure_env: perdure.testing.Environment) -> None:
    began = perdure_env.now()
    assert await perdure_env.client.service_call(app.remind, 90) == "reminded"
    assert perdure_env.now() - began >= 90 * DAY
    assert app.mailbox == ["after 90 days"]


async def test_approval_is_given(perdure_env: perdure.testing.Environment) -> None:
    client = perdure_env.client
    handle = await client.service_send(app.approve, None)
    while not app.mailbox:
        await asyncio.sleep(60)
    await client.resolve_awakeable(app.mailbox[0], "yes")
    assert await client.attach(handle.invocation_id, type_hint=str) == "yes"


async def test_approval_is_not_given(perdure_env: perdure.testing.Environment) -> None:
    assert await perdure_env.client.service_call(app.approve, None) == "nobody answered"


async def test_parts_run_at_the_same_time(perdure_env: perdure.testing.Environment) -> None:
    assert await perdure_env.client.service_call(app.fan_out, 5) == [0, 1, 2, 3, 4]


async def test_poll_looks_once_a_day(perdure_env: perdure.testing.Environment) -> None:
    began = perdure_env.now()
    assert await perdure_env.client.service_call(app.poll, 30) == 30
    assert perdure_env.now() - began >= 30 * DAY


async def test_blocking_handler_sleeps(perdure_env: perdure.testing.Environment) -> None:
    assert await perdure_env.client.service_call(app.blocking, 400) == "slept"
    assert app.mailbox == ["blocking"]


async def test_workflow_waits_for_the_click(perdure_env: perdure.testing.Environment) -> None:
    client = perdure_env.client
    handle = await client.workflow_send(app.run, "ann", "ann@example.com")
    await client.workflow_call(app.click, "ann", "secret")
    assert await client.attach(handle.invocation_id, type_hint=str) == "secret"
    assert perdure_env.state(app.sign_up, "ann") == {"status": "member"}


def test_transfer_survives_a_crash_anywhere() -> None:
    async def scenario(env: perdure.testing.Environment) -> Any:
        app.mailbox.clear()
        await env.set_state(app.account, "ann", {"balance": 10})
        answer = await env.client.service_call(app.transfer, ["ann", "bob"])
        return answer, env.state("Account", "ann"), env.state("Account", "bob")

    found = perdure.testing.run(perdure.testing.crash_everywhere(app.services, scenario))
    assert found == ("done", {"balance": 0}, {"balance": 10})
