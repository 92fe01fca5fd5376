"""The HTTP front door on a real socket: statuses, headers and bodies as clients know them."""

import asyncio
import http.client
import json
import socket
from collections.abc import Awaitable, Callable, Iterator

import pytest

from perdure.core.errors import AddressInUseError
from perdure.core.ids import invocation_id_text
from perdure.ingress.http import HttpIngress
from perdure.ingress.requests import Completed

from ..ports import HOST, free_port
from .fake_dispatcher import INVOCATION_ID, FakeDispatcher

ID_TEXT = invocation_id_text(INVOCATION_ID)
BODY_BYTES_MAX = 64 * 1024

Scenario = Callable[[str, FakeDispatcher], Awaitable[None]]
Answer = tuple[int, dict[str, str], bytes]


def serve(scenario: Scenario, *, body_bytes_max: int = BODY_BYTES_MAX) -> FakeDispatcher:
    """Run a scenario against a front door on a free port."""
    dispatcher = FakeDispatcher()

    async def run() -> None:
        ingress = HttpIngress(dispatcher, body_bytes_max=body_bytes_max, stop_grace_seconds=0.2)
        address = await ingress.start("127.0.0.1:0")
        try:
            await scenario(address, dispatcher)
        finally:
            await ingress.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}, "tasks outlive the server"

    asyncio.run(run())
    return dispatcher


def ask(
    address: str,
    method: str,
    path: str,
    body: bytes | Iterator[bytes] | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def answers(*requests: tuple[object, ...], body_bytes_max: int = BODY_BYTES_MAX) -> list[Answer]:
    """What the front door answers to requests, one after the other."""
    found: list[Answer] = []

    async def scenario(address: str, dispatcher: FakeDispatcher) -> None:
        found.extend(
            [
                await asyncio.to_thread(ask, address, *request)  # type: ignore[arg-type]
                for request in requests
            ]
        )

    serve(scenario, body_bytes_max=body_bytes_max)
    return found


def test_call_answers_with_the_raw_output() -> None:
    [(status, headers, body)] = answers(("POST", "/Greeter/echo", b'"Ada"'))

    assert (status, body) == (200, b'"Ada"')
    assert headers["x-restate-id"] == ID_TEXT
    assert headers["content-type"] == "application/json"


def test_empty_output_has_no_content_type() -> None:
    [(status, headers, body)] = answers(("GET", "/Greeter/empty"))

    assert (status, body) == (200, b"")
    assert "content-type" not in headers
    assert headers["x-restate-id"] == ID_TEXT


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/Nobody/echo", 404, "PD0501"),
        ("POST", "/Greeter/nothing", 404, "PD0502"),
        ("POST", "/Counter/echo", 400, "PD0503"),
        ("POST", "/Greeter/key/echo", 400, "PD0504"),
        ("POST", "/Greeter/huge", 413, "PD0505"),
        ("POST", "/Greeter", 400, "PD0506"),
        ("POST", "/Counter/%FF/echo", 400, "PD0506"),
        ("PUT", "/Greeter/echo", 405, "PD0507"),
        ("DELETE", "/Greeter/echo", 405, "PD0507"),
        ("POST", "/Greeter/busy", 429, "PD0508"),
        ("POST", "/Greeter/elsewhere", 503, "PD0509"),
        ("POST", "/Greeter/late_elsewhere", 503, "PD0509"),
        ("POST", "/Greeter/late_busy/send", 429, "PD0508"),
        ("POST", "/Greeter/broken", 500, "PD0000"),
        ("POST", "/Greeter/echo?delay=10", 400, "PD0506"),
        ("POST", "/Greeter/echo/send?delay=soon", 400, "PD0506"),
        ("POST", "/Greeter/echo?limit-key=a", 400, "PD0506"),
        ("POST", "/restate/scope/a/call/Greeter/echo", 400, "PD0506"),
        ("GET", "/restate/attach/inv_1", 400, "PD0401"),
        # Neither reading of the path exists: the first one's error is told.
        ("POST", "/Greeter/nothing/send", 404, "PD0502"),
        ("POST", "/Nobody/echo/send", 404, "PD0501"),
    ],
)
def test_refusal_has_its_status_and_says_its_source(
    method: str, path: str, status: int, code: str
) -> None:
    [(found, headers, body)] = answers((method, path, b"1"))
    error = json.loads(body)

    assert found == status
    assert headers["content-type"] == "application/json"
    assert headers["x-restate-error-source"] == "ingress"
    assert error["code"] == status
    assert error["source"] == "ingress"
    assert error["error"] == code
    assert error["message"]
    assert set(error) == {"code", "source", "error", "message"}
    assert ("retry-after" in headers) == (status in (429, 503))
    assert headers.get("allow") == ("GET, POST" if status == 405 else None)
    assert headers.get("x-restate-id") == (ID_TEXT if "late_" in path else None)


@pytest.mark.parametrize(
    ("handler", "status", "body"),
    [
        (
            "teapot",
            418,
            {
                "code": 418,
                "message": "short and stout",
                "source": "invocation",
                "metadata": {"spout": "1"},
            },
        ),
        ("odd_code", 500, {"code": 99, "message": "no such status", "source": "invocation"}),
        ("success_code", 500, {"code": 200, "message": "not a success", "source": "invocation"}),
    ],
)
def test_failure_of_a_handler_becomes_the_status(
    handler: str, status: int, body: dict[str, object]
) -> None:
    [(found, headers, raw)] = answers(("POST", f"/Greeter/{handler}"))

    assert (found, json.loads(raw)) == (status, body)
    assert headers["x-restate-error-source"] == "invocation"
    assert headers["x-restate-id"] == ID_TEXT


@pytest.mark.parametrize("path", ["/Greeter/echo/send", "/restate/send/Greeter/echo"])
def test_send_answers_202_and_knows_a_key_it_has_seen(path: str) -> None:
    request = ("POST", path, b"1", {"idempotency-key": "k"})
    first, second = answers(request, request)

    assert first[0] == second[0] == 202
    assert first[1]["x-restate-id"] == ID_TEXT
    assert json.loads(first[2]) == {"invocationId": ID_TEXT, "status": "Accepted"}
    assert json.loads(second[2]) == {"invocationId": ID_TEXT, "status": "PreviouslyAccepted"}


def test_request_reaches_the_dispatcher_whole() -> None:
    async def scenario(address: str, dispatcher: FakeDispatcher) -> None:
        headers = {"idempotency-key": "i", "traceparent": "t", "x-mine": "1", "connection": "close"}
        path = "/Counter/a%2Fb%20%C3%A9%252F/echo?x=%20y"
        await asyncio.to_thread(ask, address, "POST", path, b"5", headers)

    [request] = serve(scenario).requests

    assert (request.service, request.handler) == ("Counter", "echo")
    assert request.key == "a/b é%2F"
    assert (request.body, request.idempotency_key, request.traceparent) == (b"5", "i", "t")
    assert request.headers == (
        ("x-restate-ingress-path", "/Counter/a/b%20%C3%A9%252F/echo?x=%20y"),
        ("accept-encoding", "identity"),
        ("content-length", "1"),
        ("traceparent", "t"),
        ("x-mine", "1"),
    )


def test_trailing_send_is_a_handler_where_the_object_has_it() -> None:
    async def scenario(address: str, dispatcher: FakeDispatcher) -> None:
        for path in ("/Counter/k/send", "/Counter/k/echo/send", "/restate/call/Counter/k/send"):
            await asyncio.to_thread(ask, address, "POST", path, b"5")

    dispatcher = serve(scenario)

    assert [(request.key, request.handler) for request in dispatcher.requests] == [
        ("k", "send")
    ] * 2
    assert [(request.key, request.handler) for request in dispatcher.sent] == [("k", "echo")]


@pytest.mark.parametrize("chunked", [False, True])
def test_body_up_to_the_limit_is_taken_and_one_byte_more_is_not(chunked: bool) -> None:
    def sent(size: int) -> bytes | Iterator[bytes]:
        whole = b"x" * size
        return iter([whole[:1000], whole[1000:]]) if chunked else whole

    exact, over, far_over = answers(
        ("POST", "/Greeter/echo", sent(BODY_BYTES_MAX)),
        ("POST", "/Greeter/echo", sent(BODY_BYTES_MAX + 1)),
        ("POST", "/Greeter/echo", sent(2 * BODY_BYTES_MAX)),
    )

    assert (exact[0], len(exact[2])) == (200, BODY_BYTES_MAX)
    assert (over[0], json.loads(over[2])["error"]) == (413, "PD0505")
    assert far_over[0] == 413


def test_default_limit_is_32_mebibytes() -> None:
    limit = 32 * 1024 * 1024
    exact, over = answers(
        ("POST", "/Greeter/echo", b"x" * limit),
        ("POST", "/Greeter/echo", b"x" * (limit + 1)),
        body_bytes_max=limit,
    )

    assert (exact[0], len(exact[2])) == (200, limit)
    assert over[0] == 413


def test_browser_may_ask_from_anywhere() -> None:
    asked = {"origin": "https://a.example", "access-control-request-headers": "authorization"}
    preflight, call, plain, refused = answers(
        ("OPTIONS", "/Greeter/echo", None, asked),
        ("POST", "/Greeter/echo", b"1", {"origin": "https://a.example"}),
        ("POST", "/Greeter/echo", b"1"),
        ("POST", "/Nobody/echo", b"1", {"origin": "https://a.example"}),
    )

    assert preflight[0] == 200
    assert preflight[1]["access-control-allow-origin"] == "*"
    assert preflight[1]["access-control-allow-headers"] == "authorization"
    assert "POST" in preflight[1]["access-control-allow-methods"]
    assert call[1]["access-control-allow-origin"] == "*"
    assert refused[1]["access-control-allow-origin"] == "*"
    assert "access-control-allow-origin" not in plain[1]


def test_health_lists_the_services() -> None:
    [(status, _, body)] = answers(("GET", "/restate/health"))

    assert (status, json.loads(body)) == (200, {"services": ["Counter", "Greeter"]})


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop turns until a condition holds."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


def open_call(address: str) -> socket.socket:
    """A client that calls the handler that never answers."""
    host, port = address.rsplit(":", 1)
    client = socket.create_connection((host, int(port)), timeout=60)
    client.sendall(b"POST /Greeter/wait HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")
    return client


def test_client_that_leaves_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.ingress.http.server._DISCONNECT_CHECK_SECONDS", 0.02)

    async def scenario(address: str, dispatcher: FakeDispatcher) -> None:
        before = len(asyncio.all_tasks())
        with open_call(address):
            await until(lambda: len(dispatcher.waiting) == 1)
            assert len(asyncio.all_tasks()) == before + 1
        await until(lambda: len(asyncio.all_tasks()) == before)
        assert len(dispatcher.forgotten) == 1
        # The invocation lives on, and its answer, that nobody waits for, does no harm.
        dispatcher.waiting[0](Completed(INVOCATION_ID, b"late"))
        status, _, _ = await asyncio.to_thread(ask, address, "POST", "/Greeter/echo", b"1")
        assert status == 200

    serve(scenario)


def test_slow_call_that_is_watched_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.ingress.http.server._DISCONNECT_CHECK_SECONDS", 0.02)

    async def scenario(address: str, dispatcher: FakeDispatcher) -> None:
        with open_call(address) as client:
            await until(lambda: len(dispatcher.waiting) == 1)
            await asyncio.sleep(0.1)
            dispatcher.waiting[0](Completed(INVOCATION_ID, b"late"))
            answer = await asyncio.to_thread(client.recv, 4096)

            assert answer.startswith(b"HTTP/1.1 200")

    serve(scenario)


def test_client_that_sends_half_a_request_and_leaves_harms_nobody() -> None:
    async def scenario(address: str, dispatcher: FakeDispatcher) -> None:
        host, port = address.rsplit(":", 1)
        with socket.create_connection((host, int(port))) as client:
            client.sendall(b"POST /Greeter/echo HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nx")
        status, _, _ = await asyncio.to_thread(ask, address, "POST", "/Greeter/echo", b"1")
        assert status == 200

    assert len(serve(scenario).requests) == 1


def test_stop_answers_503_to_whoever_still_waits() -> None:
    dispatcher = FakeDispatcher()

    async def run() -> bytes:
        ingress = HttpIngress(dispatcher, stop_grace_seconds=0.05)
        address = await ingress.start("127.0.0.1:0")
        with open_call(address) as client:
            await until(lambda: len(dispatcher.waiting) == 1)
            await ingress.stop()
            return await asyncio.to_thread(client.recv, 4096)

    assert asyncio.run(run()).startswith(b"HTTP/1.1 503")


@pytest.mark.parametrize("head", [b"content-length: 9", b"transfer-encoding: chunked"])
def test_stop_does_not_wait_for_half_a_request(head: bytes) -> None:
    async def run() -> bytes:
        ingress = HttpIngress(FakeDispatcher(), stop_grace_seconds=0.05)
        address = await ingress.start("127.0.0.1:0")
        before = len(asyncio.all_tasks())
        host, port = address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=60) as client:
            client.sendall(b"POST /Greeter/echo HTTP/1.1\r\nhost: a\r\n" + head + b"\r\n\r\n")
            await until(lambda: len(asyncio.all_tasks()) > before)
            await ingress.stop()
            return await asyncio.to_thread(client.recv, 4096)

    assert asyncio.run(run()).startswith(b"HTTP/1.1 503")


def test_taken_port_is_named_with_its_option_and_the_way_out() -> None:
    async def run() -> str:
        first = HttpIngress(FakeDispatcher())
        second = HttpIngress(FakeDispatcher())
        address = await first.start("127.0.0.1:0")
        try:
            with pytest.raises(AddressInUseError) as refused:
                await second.start(address)
        finally:
            await second.stop()
            await first.stop()
        assert address in refused.value.message
        return refused.value.message

    message = asyncio.run(run())

    assert "listen.ingress_http" in message
    assert "port 0" in message


def test_port_can_be_taken_again_after_stop() -> None:
    async def run() -> None:
        first = HttpIngress(FakeDispatcher())
        address = await first.start(f"{HOST}:{free_port()}")
        await asyncio.to_thread(ask, address, "POST", "/Greeter/echo", b"1")
        await first.stop()
        second = HttpIngress(FakeDispatcher())
        assert await second.start(address) == address
        await second.stop()
        await second.stop()

    asyncio.run(run())
