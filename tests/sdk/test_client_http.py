"""The client over HTTP: which route each request takes."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import httpx
import pytest

from perdure.core.clock import ManualClock
from perdure.core.random import SeededRandom
from perdure.sdk.client import RestateClient, create_client
from perdure.sdk.client_http import HttpRequests
from perdure.sdk.client_types import HttpError
from perdure.sdk.errors import UnsupportedOptionError

from .test_client import Greeting, add, greet, run

BASE = "http://front:8080"


def used(use: Any, answer: Any) -> tuple[Any, list[httpx.Request]]:
    """What a use of the client gives and the HTTP requests that it made."""
    requests: list[httpx.Request] = []

    def respond(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        if isinstance(answer, Exception):
            raise answer
        response: httpx.Response = answer
        return response

    async def main() -> Any:
        transport = httpx.MockTransport(respond)
        async with httpx.AsyncClient(transport=transport) as http:
            client = RestateClient(
                HttpRequests(http, [BASE]), clock=ManualClock(), random=SeededRandom(1)
            )
            return await use(client)

    return asyncio.run(main()), requests


def test_calls_are_posted_to_their_handler() -> None:
    """With the content type that it takes and the key in the path."""
    result, (request,) = used(
        lambda client: client.service_call(greet, Greeting("Ann"), headers={"a": "b"}),
        httpx.Response(200, content=b'"Hi"', headers={"x-restate-id": "inv_1a"}),
    )
    _result, (keyed,) = used(
        lambda client: client.object_call(add, "a/b", 1, idempotency_key="i"),
        httpx.Response(200, content=b"2"),
    )

    assert result == "Hi"
    assert (request.method, str(request.url)) == ("POST", f"{BASE}/Greeter/greet")
    assert request.content == b'{"name":"Ann"}'
    assert request.headers["content-type"] == "application/json"
    assert request.headers["a"] == "b"
    assert keyed.url.raw_path == b"/Counter/a%2Fb/add"
    assert keyed.headers["idempotency-key"] == "i"


def test_sends_are_posted_with_their_delay() -> None:
    """In milliseconds."""
    body = {"invocationId": "inv_1s", "status": "PreviouslyAccepted"}
    handle, (request,) = used(
        lambda client: client.object_send(add, "k", 1, timedelta(seconds=1.5)),
        httpx.Response(202, json=body),
    )

    assert request.url.raw_path == b"/Counter/k/add/send?delay=1500"
    assert (handle.invocation_id, handle.status_code) == ("inv_1s", 200)


def test_invocations_are_asked_for_by_what_is_known() -> None:
    """As JSON."""
    found = httpx.Response(200, json={"invocationId": "inv_1f"})
    done = httpx.Response(200, content=b"5")
    attached, (attach,) = used(lambda client: client.attach("inv_1a"), done)
    _output, (output,) = used(lambda client: client.get_output("inv_1a"), done)
    looked_up, (workflow,) = used(lambda client: client.lookup(run, "ann"), found)
    _looked_up, (idempotent,) = used(lambda client: client.lookup(add, "k", "i"), found)

    assert (attached, looked_up) == (5, "inv_1f")
    assert [each.url.path for each in (attach, output, workflow)] == [
        "/restate/attach",
        "/restate/output",
        "/restate/lookup",
    ]
    assert json.loads(attach.content) == {"target": "invocation", "invocationId": "inv_1a"}
    assert json.loads(workflow.content) == {
        "target": "workflow",
        "workflowName": "Signup",
        "workflowKey": "ann",
    }
    assert json.loads(idempotent.content) == {
        "target": "idempotentInvocation",
        "service": "Counter",
        "key": "k",
        "handler": "add",
        "idempotencyKey": "i",
    }


def test_awakeables_are_completed() -> None:
    """With a value or a reason."""
    done = httpx.Response(202)
    _result, (resolved,) = used(lambda client: client.resolve_awakeable("sign_1a", 5), done)
    _result, (rejected,) = used(lambda client: client.reject_awakeable("sign_1a", "no"), done)

    assert (resolved.url.path, resolved.content) == ("/restate/awakeables/sign_1a/resolve", b"5")
    assert (rejected.url.path, rejected.content) == ("/restate/awakeables/sign_1a/reject", b"no")


def test_answers_that_are_errors_are_raised() -> None:
    """With the message of their body, else the phrase of the status."""
    body = {"code": 418, "message": "I am a teapot", "source": "invocation"}
    with pytest.raises(HttpError, match="HTTP 418: I am a teapot") as caught:
        used(lambda client: client.attach("inv_1a"), httpx.Response(418, json=body))
    assert json.loads(caught.value.body or "") == body
    with pytest.raises(HttpError, match="HTTP 502: Bad Gateway"):
        used(lambda client: client.attach("inv_1a"), httpx.Response(502, text="<html>"))


def test_lost_connections_say_whether_the_request_was_taken() -> None:
    """As far as that is known."""
    with pytest.raises(HttpError, match="refused; the request was not taken") as caught:
        used(lambda client: client.attach("inv_1a"), httpx.ConnectError("refused"))
    assert caught.value.status_code == 503
    with pytest.raises(HttpError, match="whether the request was taken is not known"):
        used(lambda client: client.attach("inv_1a"), httpx.ReadError("reset"))


async def through(
    use: Any, *urls: str, answers: dict[str, httpx.Response | Exception]
) -> tuple[Any, list[str]]:
    """What a use gives where each host answers so, and the hosts that were asked."""
    asked: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        answer = answers[request.url.host]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with httpx.AsyncClient(transport=httpx.MockTransport(respond)) as http:
        client = RestateClient(
            HttpRequests(http, urls), clock=ManualClock(), random=SeededRandom(1)
        )
        try:
            return await use(client), asked
        except HttpError as error:
            return error, asked


def test_the_next_front_door_is_asked_when_a_connection_is_lost() -> None:
    """As far as the request may be repeated, or nobody has taken it; and it stays the first."""
    urls = ("http://a:1", "http://b:1/")
    good = httpx.Response(200, content=b"5")
    reset, refused = httpx.ReadError("reset"), httpx.ConnectError("refused")

    async def attach(client: RestateClient) -> Any:
        return await client.attach("inv_1a"), await client.attach("inv_1a")

    async def add_once(client: RestateClient) -> Any:
        return await client.object_call(add, "k", 1)

    async def add_by_key(client: RestateClient) -> Any:
        return await client.object_call(add, "k", 1, idempotency_key="i")

    async def main() -> None:
        result, asked = await through(attach, *urls, answers={"a": reset, "b": good})
        assert (result, asked) == ((5, 5), ["a", "b", "b"])
        result, asked = await through(add_by_key, *urls, answers={"a": reset, "b": good})
        assert (result, asked) == (5, ["a", "b"])
        result, asked = await through(add_once, *urls, answers={"a": refused, "b": good})
        assert (result, asked) == (5, ["a", "b"])
        result, asked = await through(add_once, *urls, answers={"a": reset, "b": good})
        assert asked == ["a"]
        assert "http://a:1: reset; whether the request was taken is not known" in str(result)
        # Somebody has perhaps taken it, though the last one has not.
        result, asked = await through(add_by_key, *urls, answers={"a": reset, "b": refused})
        assert asked == ["a", "b"]
        assert "http://b:1: refused; whether the request was taken is not known" in str(result)
        # An answer is an answer.
        answers = {"a": httpx.Response(503, text=""), "b": good}
        result, asked = await through(attach, *urls, answers=answers)
        assert (result.status_code, asked) == (503, ["a"])

    asyncio.run(main())


def test_what_has_no_route_is_refused() -> None:
    """Naming the front door that has it."""
    for use in (
        lambda client: client.cancel("inv_1a"),
        lambda client: client.send_signal("inv_1a", "go", 1),
    ):
        with pytest.raises(UnsupportedOptionError, match="host:port of the gRPC one"):
            used(use, httpx.Response(200))


def test_urls_open_http_clients() -> None:
    """Which connect when they are used."""

    async def main() -> None:
        async with create_client("http://127.0.0.1:1") as client:
            with pytest.raises(HttpError, match=r"http://127.0.0.1:1: .* was not taken"):
                await client.attach("inv_1a")

    asyncio.run(main())
