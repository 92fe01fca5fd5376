"""The apps in ``examples/``: each does what its first lines say."""

from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perdure.sdk import HttpError, RestateClient
from perdure.sdk.loading import load_app
from perdure.testing import Environment, run

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
APPS = ("approval", "counter", "fan_out", "greeter", "money_transfer", "reminder", "sign_up")

modes: list[bool] = []
"""Whether handlers suspend whenever they wait; of the test that runs now."""


@pytest.fixture(params=[False, True], ids=["waiting", "suspending"], autouse=True)
def _mode(request: pytest.FixtureRequest) -> Iterator[None]:
    modes[:] = [request.param]
    yield
    modes.clear()


def handlers_of(name: str) -> tuple[list[Any], dict[str, Any]]:
    """The services of an example and its handlers, by ``Service/handler``."""
    app = load_app(EXAMPLES / f"{name}.py").app
    table = app.handler_table()
    handlers = {f"{service}/{handler}": each.function for (service, handler), each in table.items()}
    return list(app.services.values()), handlers


def used(use: Callable[[RestateClient], Awaitable[Any]], *services: Any) -> Any:
    """What a use of a client gives, on a clock that jumps over what is slept."""

    async def main() -> Any:
        async with Environment(services, always_suspend=modes[0]) as env:
            return await use(env.client)

    return run(main())


def test_every_app_has_a_test() -> None:
    """Those that offer handlers."""
    apps = {path.stem for path in EXAMPLES.glob("*.py") if "perdure.sdk" in path.read_text()}

    assert apps == set(APPS)


@pytest.mark.parametrize("name", APPS)
def test_apps_say_how_they_are_run(name: str) -> None:
    """In their first lines, with one command per line."""
    text = (EXAMPLES / f"{name}.py").read_text()

    assert f"\nperdure worker examples/{name}.py --connect 127.0.0.1:5122\n" in text


def test_greeter_greets() -> None:
    """The smallest app."""
    services, handlers = handlers_of("greeter")

    assert used(
        lambda client: client.service_call(handlers["Greeter/greet"], "Ann"), *services
    ) == ("Hello Ann")


def test_counter_counts_under_its_key() -> None:
    """And nobody else's."""
    services, handlers = handlers_of("counter")

    async def use(client: RestateClient) -> list[int]:
        for _ in range(3):
            await client.object_call(handlers["Counter/add"], "ann", 2)
        get = handlers["Counter/get"]
        return [await client.object_call(get, key, None) for key in ("ann", "bob")]

    assert used(use, *services) == [6, 0]


def test_transfers_are_done_or_undone() -> None:
    """No money is lost on the way."""
    services, handlers = handlers_of("money_transfer")
    transfer = handlers["Transfers/transfer"]
    order = load_type(transfer)

    async def use(client: RestateClient) -> list[Any]:
        await client.object_call(handlers["Account/deposit"], "ann", 100)
        outcome: list[Any] = [await client.service_call(transfer, order("ann", "bob", 30))]
        await client.object_call(handlers["Account/close"], "bob", None)
        for amount in (30, 500):
            with pytest.raises(HttpError) as failed:
                await client.service_call(transfer, order("ann", "bob", amount))
            outcome.append(failed.value.message)
        balance = handlers["Account/balance"]
        return outcome + [await client.object_call(balance, key, None) for key in ("ann", "bob")]

    assert used(use, *services) == [
        "ann paid bob 30",
        "the account of bob is closed",
        "ann has 70, which is less than 500",
        70,
        30,
    ]


def load_type(handler: Any) -> Any:
    """The class of a handler's argument."""
    return next(hint for name, hint in handler.__annotations__.items() if name == "order")


def test_words_are_counted_side_by_side() -> None:
    """Each text in an invocation of its own."""
    services, handlers = handlers_of("fan_out")
    texts = ["a log is a log", "a rose is a rose"]

    assert used(
        lambda client: client.service_call(handlers["Words/count_all"], texts), *services
    ) == {"a": 4, "is": 2, "log": 2, "rose": 2}


def test_reminders_come_after_their_days(capsys: pytest.CaptureFixture[str]) -> None:
    """Once."""
    services, handlers = handlers_of("reminder")
    remind = handlers["Reminders/remind"]
    reminder = next(hint for name, hint in remind.__annotations__.items() if name == "reminder")

    async def main() -> Any:
        async with Environment(services, always_suspend=modes[0]) as env:
            before = env.now()
            handle = await env.client.service_send(remind, reminder("water the plants", 3))
            said = await env.client.attach(handle.invocation_id)
            return said, env.now() - before

    said, waited = run(main())

    assert said == "water the plants"
    assert timedelta(days=3) <= waited < timedelta(days=3, minutes=1)
    assert capsys.readouterr().out.count("Do not forget: water the plants") == 1


def test_articles_are_forgotten_when_nobody_answers() -> None:
    """For a week."""
    services, handlers = handlers_of("approval")

    assert (
        used(
            lambda client: client.object_call(handlers["Article/publish"], "first", None), *services
        )
        == "forgotten"
    )


@pytest.mark.parametrize(("answer", "status"), [(True, "published"), (False, "declined")])
def test_articles_are_published_when_they_are_approved(answer: bool, status: str) -> None:
    """By whoever has the id."""
    services, handlers = handlers_of("approval")

    async def use(client: RestateClient) -> list[Any]:
        before = await client.object_call(handlers["Article/status"], "first", None)
        handle = await client.object_send(handlers["Article/publish"], "first", None)
        while not (
            approval := await client.object_call(handlers["Article/awaited"], "first", None)
        ):
            pass
        await client.resolve_awakeable(approval, answer)
        result = await client.attach(handle.invocation_id)
        return [before, result, await client.object_call(handlers["Article/status"], "first", None)]

    assert used(use, *services) == ["waiting", status, status]


def test_users_sign_up_with_the_secret_of_their_mail(capsys: pytest.CaptureFixture[str]) -> None:
    """And not with another one."""
    services, handlers = handlers_of("sign_up")
    run, click = handlers["SignUp/run"], handlers["SignUp/click"]

    async def use(client: RestateClient) -> list[Any]:
        results = []
        for user, wrong in (("ann", False), ("bob", True)):
            handle = await client.workflow_send(run, user, f"{user}@example.com")
            mail = ""
            while "secret=" not in mail:
                await client.workflow_call(handlers["SignUp/status"], user, None)
                mail += capsys.readouterr().out
            secret = mail.partition("secret=")[2].split()[0]
            await client.workflow_call(click, user, "guessed" if wrong else secret)
            results.append(await client.attach(handle.invocation_id))
            results.append(await client.workflow_call(handlers["SignUp/status"], user, None))
        return results

    assert used(use, *services) == [True, "signed up", False, "refused"]
