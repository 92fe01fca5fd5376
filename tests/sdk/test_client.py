"""The client: what each of its methods asks for, and what it makes of the answers."""

import asyncio
import json
import sys
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from perdure.core.clock import ManualClock
from perdure.core.hashing import keyed_partition_key
from perdure.core.ids import parse_invocation_id, partition_key_of
from perdure.core.random import SeededRandom
from perdure.proto.generated import ingress_pb2 as wire
from perdure.sdk import Service, VirtualObject, Workflow
from perdure.sdk.client import RestateClient, create_client
from perdure.sdk.client_types import HttpError
from perdure.sdk.errors import (
    InvalidOptionError,
    NotAHandlerError,
    SerializationError,
    UnsupportedOptionError,
)

from .fake_front_door import Answer, Direct, error, value


class Greeting(msgspec.Struct):
    name: str


greeter = Service("Greeter")
counter = VirtualObject("Counter")
signup = Workflow("Signup")


@greeter.handler()
async def greet(ctx: Any, greeting: Greeting) -> str:
    return greeting.name


@greeter.handler()
async def ping(ctx: Any) -> bytes:
    return b""


@counter.handler()
async def add(ctx: Any, amount: int) -> int:
    return amount


@signup.main()
async def run(ctx: Any, name: str) -> str:
    return name


@signup.handler()
async def status(ctx: Any) -> str:
    return ""


def client_of(answer: Answer, **headers: str) -> tuple[RestateClient, Direct]:
    """A client and the requests that it makes."""
    requests = Direct(answer)
    return RestateClient(requests, headers, clock=ManualClock(), random=SeededRandom(1)), requests


def asked(
    use: "Any", answer: Answer = value, **headers: str
) -> tuple[Any, wire.SessionRequest, bool]:
    """What a use of the client gives, what it asked for, and whether that may be repeated."""
    client, requests = client_of(answer, **headers)
    result = asyncio.run(use(client))
    ((request, repeatable),) = requests.requests
    return result, request, repeatable


def test_calls_carry_target_value_and_headers() -> None:
    """And give what the handler returned, read by its annotation."""
    result, request, repeatable = asked(
        lambda client: client.service_call(greet, Greeting("Ann"), headers={"X-Two": "2"}),
        lambda request: value(request, b'"Hi"'),
        **{"X-One": "1"},
    )

    invocation = request.call.invocation
    assert result == "Hi"
    assert (invocation.target.service, invocation.target.handler) == ("Greeter", "greet")
    assert not invocation.target.HasField("key")
    assert invocation.body == b'{"name":"Ann"}'
    assert dict(invocation.headers) == {
        "x-one": "1",
        "x-two": "2",
        "content-type": "application/json",
    }
    assert repeatable


def test_calls_without_an_idempotency_key_have_an_id_of_their_own() -> None:
    """So that a repetition is the same invocation; an object's id belongs to its key."""
    _result, first, _ = asked(lambda client: client.service_call(ping, None))
    _result, keyed, _ = asked(
        lambda client: client.object_call(add, "k1", 5), lambda request: value(request, b"6")
    )

    assert len(parse_invocation_id(first.call.invocation.invocation_id)) == 24
    mine = parse_invocation_id(keyed.call.invocation.invocation_id)
    assert partition_key_of(mine) == keyed_partition_key("k1")
    assert keyed.call.invocation.target.key == "k1"


def test_idempotency_keys_stand_in_where_ids_cannot_be_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client alone lacks the hash that routes ids."""
    monkeypatch.setitem(sys.modules, "xxhash", None)
    monkeypatch.delitem(sys.modules, "perdure.core.hashing")

    _result, request, repeatable = asked(lambda client: client.service_call(ping, None))

    assert not request.call.invocation.HasField("invocation_id")
    assert len(request.call.invocation.idempotency_key) == 32
    assert repeatable


def test_an_idempotency_key_is_all_the_identity_there_is() -> None:
    """Together with an id it would be refused."""
    _result, request, repeatable = asked(
        lambda client: client.service_call(ping, None, idempotency_key="one")
    )

    assert request.call.invocation.idempotency_key == "one"
    assert not request.call.invocation.HasField("invocation_id")
    assert repeatable


def test_workflow_runs_go_by_their_key_and_are_sent_once() -> None:
    """A second run under the same key is refused, so a repetition could not tell its own."""
    answer: Answer = lambda request: value(request, b'"x"')  # noqa: E731
    _result, started, repeatable = asked(
        lambda client: client.workflow_call(run, "ann", "x"), answer
    )
    _result, queried, of_query = asked(
        lambda client: client.workflow_call(status, "ann", None), answer
    )

    assert started.call.invocation.target.key == "ann"
    assert not started.call.invocation.HasField("invocation_id")
    assert (repeatable, of_query) == (False, True)
    assert queried.call.invocation.HasField("invocation_id")


def test_sends_give_the_id_and_whether_it_was_known() -> None:
    """The delay in whole milliseconds, rounded up."""

    def accepted(request: wire.SessionRequest) -> wire.SessionResponse:
        known = request.send.invocation.idempotency_key == "again"
        status = wire.SendResponse.PREVIOUSLY_ACCEPTED if known else wire.SendResponse.ACCEPTED
        return wire.SessionResponse(send=wire.SendResponse(invocation_id="inv_1x", status=status))

    handle, request, _ = asked(
        lambda client: client.object_send(add, "k", 1, send_delay=timedelta(microseconds=1500)),
        accepted,
    )
    again, _request, _ = asked(
        lambda client: client.workflow_send(run, "k", "x", idempotency_key="again"), accepted
    )

    assert (handle.invocation_id, handle.status_code) == ("inv_1x", 202)
    assert request.send.delay_ms == 2
    assert again.status_code == 200


def test_generic_calls_take_and_give_bytes() -> None:
    """By name. With a key they may be a workflow's run, and are sent once."""
    result, request, repeatable = asked(
        lambda client: client.generic_call("S", "h", b"\x00", key="k"),
        lambda request: value(request, b"\xff"),
    )
    _result, _request, unkeyed = asked(
        lambda client: client.generic_send("S", "h", b""),
        lambda request: wire.SessionResponse(send=wire.SendResponse(invocation_id="inv_1y")),
    )

    assert (result, request.call.invocation.body, repeatable) == (b"\xff", b"\x00", False)
    assert unkeyed


def test_results_are_fetched_by_id() -> None:
    """With the type that is asked for."""

    def answer(request: wire.SessionRequest) -> wire.SessionResponse:
        response = wire.CallResponse(value=b'{"name":"Ann"}')
        if request.WhichOneof("request") == "attach":
            return wire.SessionResponse(attach=response)
        return wire.SessionResponse(get_output=response)

    attached, request, _ = asked(lambda client: client.attach("inv_1a", type_hint=Greeting), answer)
    output, _request, _ = asked(lambda client: client.get_output("inv_1a"), answer)

    assert request.attach.invocation.invocation_id == "inv_1a"
    assert (attached, output) == (Greeting("Ann"), {"name": "Ann"})


def test_ids_are_looked_up_by_what_is_known() -> None:
    """A workflow's key, or an idempotency key."""

    def answer(request: wire.SessionRequest) -> wire.SessionResponse:
        return wire.SessionResponse(lookup=wire.LookupResponse(invocation_id="inv_1b"))

    found, request, _ = asked(lambda client: client.lookup(run, "ann"), answer)
    _found, other, _ = asked(lambda client: client.lookup(add, "k", idempotency_key="i"), answer)

    assert found == "inv_1b"
    assert request.lookup.invocation.workflow.key == "ann"
    reference = other.lookup.invocation.idempotent_request
    assert (reference.target.key, reference.idempotency_key) == ("k", "i")
    with pytest.raises(InvalidOptionError, match="lookup of Counter/add needs"):
        asked(lambda client: client.lookup(add, "k"), answer)


def test_awakeables_signals_and_cancellation() -> None:
    """Signals are the only ones that a repetition would double."""
    done = wire.SessionResponse

    _, resolved, _ = asked(
        lambda client: client.resolve_awakeable("sign_1", {"a": 1}), lambda _: done()
    )
    _, rejected, _ = asked(
        lambda client: client.reject_awakeable("sign_1", "no", 4), lambda _: done()
    )
    _, signalled, once = asked(
        lambda client: client.send_signal("inv_1", "go", 1), lambda _: done()
    )
    _, failed, _ = asked(lambda client: client.reject_signal("inv_1", "go", "no"), lambda _: done())
    _, cancelled, repeatable = asked(lambda client: client.cancel("inv_1"), lambda _: done())

    assert resolved.complete_awakeable.value == b'{"a":1}'
    assert rejected.complete_awakeable.failure == wire.Failure(code=4, message="no")
    assert (signalled.send_signal.name, signalled.send_signal.value) == ("go", b"1")
    assert failed.send_signal.failure.code == 500
    assert cancelled.cancel.invocation_id == "inv_1"
    assert (once, repeatable) == (False, True)


def test_failures_of_handlers_are_http_errors() -> None:
    """As the HTTP front door has them."""

    def failed(request: wire.SessionRequest) -> wire.SessionResponse:
        failure = wire.Failure(code=418, message="I am a teapot", metadata={"a": "b"})
        return wire.SessionResponse(call=wire.CallResponse(failure=failure))

    with pytest.raises(HttpError) as caught:
        asked(lambda client: client.service_call(ping, None), failed)

    assert (caught.value.status_code, caught.value.message) == (418, "I am a teapot")
    assert json.loads(caught.value.body or "") == {
        "code": 418,
        "message": "I am a teapot",
        "source": "invocation",
        "metadata": {"a": "b"},
    }
    assert str(caught.value) == "HTTP 418: I am a teapot"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("NOT_FOUND", 404),
        ("FAILED_PRECONDITION", 470),
        ("RESOURCE_EXHAUSTED", 429),
        ("UNAVAILABLE", 503),
        ("WHATEVER", 500),
    ],
)
def test_refusals_of_the_runtime_are_http_errors(name: str, code: int) -> None:
    """With the status that stands for theirs, and the stable code."""
    with pytest.raises(HttpError, match=r"so it is \[PD0501\]") as caught:
        asked(lambda client: client.get_output("inv_1"), lambda request: error(request, name))

    assert caught.value.status_code == code
    assert json.loads(caught.value.body or "")["source"] == "ingress"


def test_bad_arguments_are_refused_before_anything_is_sent() -> None:
    """Whatever is wrong with them."""
    client, requests = client_of(value)

    def refuses(kind: type[Exception], words: str, use: Awaitable[Any]) -> None:
        async def main() -> None:
            with pytest.raises(kind, match=words):
                await use

        asyncio.run(main())

    no_handler: Any = print
    refuses(NotAHandlerError, "is no handler", client.service_call(no_handler, None))
    refuses(SerializationError, "annotated as None", client.service_call(ping, 5))
    refuses(
        InvalidOptionError,
        "timedelta of zero or more",
        client.object_send(add, "k", 1, timedelta(seconds=-1)),
    )
    refuses(UnsupportedOptionError, "scope", client.generic_call("S", "h", b"", scope="s"))
    with pytest.raises(UnsupportedOptionError, match="scopes"):
        client.scope("s")
    assert requests.requests == []


def test_clients_refuse_what_they_cannot_do() -> None:
    """A codec, and an address that is none."""

    async def opened(*arguments: Any, **options: Any) -> None:
        async with create_client(*arguments, **options):
            raise AssertionError("opened")

    with pytest.raises(UnsupportedOptionError, match="journal_value_codec"):
        asyncio.run(opened(journal_value_codec=object()))
    for address in ("127.0.0.1", "host:99999", ""):
        with pytest.raises(InvalidOptionError, match="option ingress of create_client"):
            asyncio.run(opened(address))


def test_urls_need_httpx(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the message tells the address that needs nothing."""
    monkeypatch.setitem(sys.modules, "httpx", None)
    monkeypatch.delitem(sys.modules, "perdure.sdk.client_http", raising=False)

    async def main() -> None:
        async with create_client("http://127.0.0.1:8080"):
            raise AssertionError("opened")

    with pytest.raises(UnsupportedOptionError, match=r"perdure\[client\].*127.0.0.1:8081"):
        asyncio.run(main())
