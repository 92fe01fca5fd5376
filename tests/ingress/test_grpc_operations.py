"""The gRPC front door of a real node: every method, alone and on a session."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from perdure.core.ids import InvocationId, awakeable_id_text, invocation_id_text
from perdure.ingress.grpc import GrpcIngress
from perdure.proto.generated import ingress_pb2 as wire
from perdure.proto.generated.ingress_pb2_grpc import IngressStub
from perdure.testing import InProcessNode

from .front_doors import open_node

UNKNOWN = invocation_id_text(InvocationId(bytes(range(24))))

Ask = Callable[[str, Any], Awaitable[Any]]
"""Sends a request of a kind: gives the answer, or an Error."""


class Clients:
    """A node's gRPC front door, and both ways to ask it."""

    def __init__(self, node: InProcessNode, channel: grpc.aio.Channel) -> None:
        self.node = node
        self.stub: Any = IngressStub(channel)  # type: ignore[no-untyped-call]
        self._last_id = 0

    async def alone(self, kind: str, request: Any) -> Any:
        """By the method of its own."""
        method = getattr(self.stub, "".join(word.title() for word in kind.split("_")))
        try:
            return await method(request, timeout=60)
        except grpc.aio.AioRpcError as error:
            metadata = dict(error.trailing_metadata() or ())
            retry = metadata.get("retry-after-ms")
            assert retry in (None, "1000")
            return wire.Error(
                status=error.code().name,
                code=metadata["perdure-error"],
                message=error.details() or "",
                retryable=retry is not None,
            )

    async def on_session(self, kind: str, request: Any) -> Any:
        """On a session of its own."""
        stream = self.stub.Session()
        opened = await stream.read()
        assert opened.opened.in_flight_max > 0
        await stream.write(wire.SessionRequests(requests=[{"id": 7, kind: request}]))
        [response] = (await stream.read()).responses
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
        assert response.id == 7
        which = response.WhichOneof("response")
        assert which in (kind, "error")
        return getattr(response, which)


@asynccontextmanager
async def open_clients(*options: str, **limits: int) -> AsyncIterator[Clients]:
    """A node with its gRPC front door on a free port."""
    async with open_node(*options) as node:
        ingress = GrpcIngress(node.engine.dispatcher, stop_grace_seconds=0.2, **limits)
        address = await ingress.start("127.0.0.1:0")
        try:
            async with grpc.aio.insecure_channel(address) as channel:
                yield Clients(node, channel)
        finally:
            await ingress.stop()


def serve(scenario: Callable[[Clients], Awaitable[None]], *options: str, **limits: int) -> None:
    """Run a scenario against a node."""

    async def run() -> None:
        async with asyncio.timeout(60), open_clients(*options, **limits) as clients:
            await scenario(clients)

    asyncio.run(run())


def both_ways(scenario: Callable[[Ask], Awaitable[None]], *options: str) -> None:
    """Run a scenario with single calls, then with sessions, each on a new node."""
    serve(lambda clients: scenario(clients.alone), *options)
    serve(lambda clients: scenario(clients.on_session), *options)


def invocation(
    service: str, handler: str, body: bytes = b"", key: str | None = None, **more: Any
) -> wire.InvocationRequest:
    """A request as a client builds it."""
    target = wire.Target(service=service, handler=handler, key=key)
    return wire.InvocationRequest(target=target, body=body, **more)


def by_id(identity: str) -> wire.InvocationReference:
    """A reference by id."""
    return wire.InvocationReference(invocation_id=identity)


def test_result_is_found_again_by_id_key_and_workflow() -> None:
    async def scenario(ask: Ask) -> None:
        greeting = await ask(
            "call",
            wire.CallRequest(
                invocation=invocation("Greeter", "greet", b'"Ann"', idempotency_key="k")
            ),
        )
        assert greeting.value == b'"Hello Ann"'
        target = wire.Target(service="Greeter", handler="greet")
        by_key = wire.InvocationReference(
            idempotent_request={"target": target, "idempotency_key": "k"}
        )
        for reference in (by_id(greeting.invocation_id), by_key):
            attached = await ask("attach", wire.AttachRequest(invocation=reference))
            assert attached == greeting
            output = await ask("get_output", wire.GetOutputRequest(invocation=reference))
            assert output == greeting
            found = await ask("lookup", wire.LookupRequest(invocation=reference))
            assert found.invocation_id == greeting.invocation_id

        run = invocation("Trip", "run", b'"Rome"', key="one")
        sent = await ask("send", wire.SendRequest(invocation=run))
        assert sent.status == wire.SendResponse.ACCEPTED
        workflow = wire.InvocationReference(workflow={"name": "Trip", "key": "one"})
        found = await ask("lookup", wire.LookupRequest(invocation=workflow))
        assert found.invocation_id == sent.invocation_id
        pending = await ask("get_output", wire.GetOutputRequest(invocation=workflow))
        assert (pending.status, pending.code) == ("FAILED_PRECONDITION", "PD0510")
        again = await ask("call", wire.CallRequest(invocation=run))
        assert (again.status, again.code) == ("ALREADY_EXISTS", "PD0910")
        again = await ask("send", wire.SendRequest(invocation=run))
        assert again.status == wire.SendResponse.PREVIOUSLY_ACCEPTED
        book = invocation("Trip", "book", b'"two"', key="one")
        await ask("call", wire.CallRequest(invocation=book))
        attached = await ask("attach", wire.AttachRequest(invocation=workflow))
        assert attached.value == b'"two to Rome"'

    both_ways(scenario)


def test_delayed_send_tells_when_it_starts() -> None:
    async def scenario(ask: Ask) -> None:
        request = wire.SendRequest(
            invocation=invocation("Greeter", "greet", b'"Ann"', idempotency_key="k"),
            delay_ms=3_600_000,
        )
        first = await ask("send", request)
        request.delay_ms = 1
        second = await ask("send", request)
        assert first.execution_time_ms == second.execution_time_ms > 1_700_000_000_000
        assert second.status == wire.SendResponse.PREVIOUSLY_ACCEPTED
        at_once = wire.SendRequest(invocation=invocation("Greeter", "greet", b'"Bob"'))
        assert (await ask("send", at_once)).execution_time_ms == 0
        at_once.delay_ms = 2**63
        refused = await ask("send", at_once)
        assert (refused.status, refused.code) == ("INVALID_ARGUMENT", "PD0506")

    both_ways(scenario)


def test_signals_awakeables_and_cancellation_are_acknowledged_and_work() -> None:
    async def scenario(ask: Ask) -> None:
        waits = wire.SendRequest(invocation=invocation("Greeter", "wait_for_signal"))
        first, second, third = [(await ask("send", waits)).invocation_id for _ in range(3)]
        failure = wire.Failure(code=410, message="gone")
        for kind, request in (
            ("send_signal", wire.SendSignalRequest(invocation_id=first, name="go", value=b'"now"')),
            (
                "send_signal",
                wire.SendSignalRequest(invocation_id=second, name="go", failure=failure),
            ),
            ("cancel", wire.CancelRequest(invocation_id=third)),
            ("send_signal", wire.SendSignalRequest(invocation_id=UNKNOWN, name="go", value=b"1")),
        ):
            answer = await ask(kind, request)
            assert not isinstance(answer, wire.Error), answer
        results = [
            await ask("attach", wire.AttachRequest(invocation=by_id(identity)))
            for identity in (first, second, third)
        ]
        assert results[0].value == b'"now"'
        assert (results[1].failure.code, results[1].failure.message) == (410, "gone")
        assert results[2].failure.code == 409

        boxed = wire.SendRequest(invocation=invocation("Box", "wait", key="b"))
        identity = (await ask("send", boxed)).invocation_id
        awaited = wire.CallRequest(invocation=invocation("Box", "awaited", key="b"))
        while (found := await ask("call", awaited)).value == b"null":
            await asyncio.sleep(0.005)
        awakeable_id = found.value.decode().strip('"')
        for _ in range(2):
            request = wire.CompleteAwakeableRequest(awakeable_id=awakeable_id, value=b'"yes"')
            answer = await ask("complete_awakeable", request)
            assert answer == wire.CompleteAwakeableResponse()
        attached = await ask("attach", wire.AttachRequest(invocation=by_id(identity)))
        assert attached.value == b'"yes"'

    both_ways(scenario)


@pytest.mark.parametrize(
    ("kind", "request_", "status", "code"),
    [
        ("call", wire.CallRequest(), "INVALID_ARGUMENT", "PD0506"),
        (
            "call",
            wire.CallRequest(invocation=invocation("Greeter", "secret")),
            "PERMISSION_DENIED",
            "PD0511",
        ),
        (
            "call",
            wire.CallRequest(invocation=invocation("Trip", "run", key="k", idempotency_key="i")),
            "INVALID_ARGUMENT",
            "PD0506",
        ),
        (
            "call",
            wire.CallRequest(invocation=invocation("Greeter", "greet", idempotency_key="")),
            "INVALID_ARGUMENT",
            "PD0506",
        ),
        (
            "call",
            wire.CallRequest(invocation=invocation("Greeter", "greet", idempotency_key="k" * 2049)),
            "INVALID_ARGUMENT",
            "PD0506",
        ),
        ("attach", wire.AttachRequest(), "INVALID_ARGUMENT", "PD0506"),
        ("attach", wire.AttachRequest(invocation=by_id(UNKNOWN)), "NOT_FOUND", "PD0912"),
        ("attach", wire.AttachRequest(invocation=by_id("inv_1")), "INVALID_ARGUMENT", "PD0401"),
        ("get_output", wire.GetOutputRequest(invocation=by_id(UNKNOWN)), "NOT_FOUND", "PD0912"),
        (
            "lookup",
            wire.LookupRequest(invocation={"workflow": {"name": "Trip"}}),
            "INVALID_ARGUMENT",
            "PD0506",
        ),
        (
            "lookup",
            wire.LookupRequest(invocation={"idempotent_request": {}}),
            "INVALID_ARGUMENT",
            "PD0506",
        ),
        (
            "complete_awakeable",
            wire.CompleteAwakeableRequest(awakeable_id="sign_1", value=b"1"),
            "INVALID_ARGUMENT",
            "PD0401",
        ),
        (
            "complete_awakeable",
            wire.CompleteAwakeableRequest(
                awakeable_id=awakeable_id_text(InvocationId(bytes(24)), 17)
            ),
            "INVALID_ARGUMENT",
            "PD0506",
        ),
        (
            "send_signal",
            wire.SendSignalRequest(invocation_id=UNKNOWN, value=b"1"),
            "INVALID_ARGUMENT",
            "PD0506",
        ),
        ("cancel", wire.CancelRequest(invocation_id=UNKNOWN), "NOT_FOUND", "PD0912"),
        ("cancel", wire.CancelRequest(invocation_id="x"), "INVALID_ARGUMENT", "PD0401"),
    ],
)
def test_refusal_has_its_status_and_code(kind: str, request_: Any, status: str, code: str) -> None:
    async def scenario(clients: Clients) -> None:
        for ask in (clients.alone, clients.on_session):
            error = await ask(kind, request_)
            assert (error.status, error.code) == (status, code)
            assert error.message
            assert not error.retryable

    serve(scenario)


def test_overload_says_when_to_try_again() -> None:
    async def scenario(ask: Ask) -> None:
        call = wire.CallRequest(invocation=invocation("Greeter", "greet", b'"Ann"'))
        error = await ask("call", call)
        assert (error.status, error.code) == ("RESOURCE_EXHAUSTED", "PD0508")
        assert error.retryable

    async def both(clients: Clients) -> None:
        clients.node.engine.dispatcher._in_flight_max = 0
        await scenario(clients.alone)
        await scenario(clients.on_session)

    serve(both)


def test_hundreds_of_calls_share_one_session() -> None:
    async def scenario(clients: Clients) -> None:
        stream = clients.stub.Session()
        assert (await stream.read()).opened.in_flight_max == 600
        requests = [
            wire.SessionRequest(
                id=number,
                call={"invocation": invocation("Greeter", "greet", b'"%d"' % number)},
            )
            for number in range(500)
        ]
        await stream.write(wire.SessionRequests(requests=requests))
        answers: dict[int, bytes] = {}
        messages = 0
        while len(answers) < 500:
            message = await stream.read()
            messages += 1
            answers |= {item.id: item.call.value for item in message.responses}
        assert answers == {number: b'"Hello %d"' % number for number in range(500)}
        assert messages < 100
        stream.cancel()

    serve(scenario, session_in_flight_max=600)


def test_client_that_goes_away_is_not_counted_any_more() -> None:
    async def scenario(clients: Clients) -> None:
        before = len(asyncio.all_tasks())
        stream = clients.stub.Session()
        await stream.read()
        waits = {"invocation": invocation("Greeter", "wait_for_signal")}
        requests = [wire.SessionRequest(id=number, call=waits) for number in range(10)]
        await stream.write(wire.SessionRequests(requests=requests))
        waiting = [processor.clients for processor in clients.node.engine.manager.processors]
        while sum(map(len, waiting)) < 10:
            await asyncio.sleep(0.005)
        stream.cancel()
        while sum(map(len, waiting)) > 0 or len(asyncio.all_tasks()) > before:
            await asyncio.sleep(0.005)

    serve(scenario)


def test_id_used_twice_ends_the_session_with_a_status() -> None:
    async def scenario(clients: Clients) -> None:
        stream = clients.stub.Session()
        await stream.read()
        waits = {"invocation": invocation("Greeter", "wait_for_signal")}
        request = wire.SessionRequest(id=1, call=waits)
        await stream.write(wire.SessionRequests(requests=[request, request]))
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await stream.read()
        assert ended.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert dict(ended.value.trailing_metadata())["perdure-error"] == "PD0506"

    serve(scenario)


def test_idle_session_does_not_hold_up_a_stop() -> None:
    async def run() -> None:
        async with asyncio.timeout(60), open_node() as node:
            ingress = GrpcIngress(node.engine.dispatcher, stop_grace_seconds=600)
            address = await ingress.start("127.0.0.1:0")
            async with grpc.aio.insecure_channel(address) as channel:
                stream = IngressStub(channel).Session()  # type: ignore[no-untyped-call]
                await stream.read()
                await ingress.stop()
                assert await stream.read() is grpc.aio.EOF

    asyncio.run(run())
