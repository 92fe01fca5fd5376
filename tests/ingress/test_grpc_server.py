"""The gRPC front door on a real socket: results, failures, statuses, reflection and health."""

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from perdure.core.errors import AddressInUseError
from perdure.core.ids import invocation_id_text
from perdure.ingress.grpc import GrpcIngress
from perdure.proto.generated import ingress_pb2 as wire
from perdure.proto.generated.ingress_pb2_grpc import IngressStub

from .fake_dispatcher import INVOCATION_ID, FakeDispatcher

ID_TEXT = invocation_id_text(INVOCATION_ID)

Scenario = Callable[[grpc.aio.Channel, FakeDispatcher], Awaitable[None]]


def serve(scenario: Scenario, *, body_bytes_max: int = 32 * 1024 * 1024) -> FakeDispatcher:
    """Run a scenario against a front door on a free port."""
    dispatcher = FakeDispatcher()

    async def run() -> None:
        ingress = GrpcIngress(dispatcher, body_bytes_max=body_bytes_max, stop_grace_seconds=0.2)
        address = await ingress.start("127.0.0.1:0")
        try:
            async with grpc.aio.insecure_channel(address) as channel:
                await scenario(channel, dispatcher)
        finally:
            await ingress.stop()

    asyncio.run(run())
    return dispatcher


def invocation(
    handler: str,
    body: bytes = b"1",
    *,
    service: str = "Greeter",
    key: str | None = None,
    idempotency_key: str | None = None,
    invocation_id: str | None = None,
) -> wire.InvocationRequest:
    """A request as a client builds it."""
    return wire.InvocationRequest(
        target=wire.Target(service=service, handler=handler, key=key),
        body=body,
        headers={"b": "2", "a": "1", "idempotency-key": "x"},
        idempotency_key=idempotency_key,
        invocation_id=invocation_id,
    )


async def call(channel: grpc.aio.Channel, request: wire.InvocationRequest) -> wire.CallResponse:
    """Call over a channel."""
    stub = IngressStub(channel)  # type: ignore[no-untyped-call]
    response = await stub.Call(wire.CallRequest(invocation=request), timeout=60)
    assert isinstance(response, wire.CallResponse)
    return response


def test_call_answers_with_the_value() -> None:
    async def scenario(channel: grpc.aio.Channel, dispatcher: FakeDispatcher) -> None:
        request = invocation("echo", b'"Ada"', service="Counter", key="k", idempotency_key="i")
        response = await call(channel, request)

        assert response.invocation_id == ID_TEXT
        assert response.WhichOneof("result") == "value"
        assert response.value == b'"Ada"'

    [request] = serve(scenario).requests

    assert (request.service, request.key, request.idempotency_key) == ("Counter", "k", "i")
    assert request.headers == (("a", "1"), ("b", "2"))
    assert request.invocation_id is None


def test_failure_of_a_handler_is_an_answer() -> None:
    async def scenario(channel: grpc.aio.Channel, dispatcher: FakeDispatcher) -> None:
        response = await call(channel, invocation("teapot"))

        assert response.WhichOneof("result") == "failure"
        assert (response.failure.code, response.failure.message) == (418, "short and stout")
        assert dict(response.failure.metadata) == {"spout": "1"}

    serve(scenario)


def test_send_knows_a_key_it_has_seen() -> None:
    async def scenario(channel: grpc.aio.Channel, dispatcher: FakeDispatcher) -> None:
        stub = IngressStub(channel)  # type: ignore[no-untyped-call]
        request = wire.SendRequest(invocation=invocation("echo", idempotency_key="i"))
        first, second = await stub.Send(request), await stub.Send(request)

        assert first.invocation_id == second.invocation_id == ID_TEXT
        assert first.status == wire.SendResponse.ACCEPTED
        assert second.status == wire.SendResponse.PREVIOUSLY_ACCEPTED

    serve(scenario)


def test_id_and_trace_of_the_client_are_handed_on() -> None:
    async def scenario(channel: grpc.aio.Channel, dispatcher: FakeDispatcher) -> None:
        stub = IngressStub(channel)  # type: ignore[no-untyped-call]
        request = wire.CallRequest(invocation=invocation("echo", invocation_id=ID_TEXT))
        await stub.Call(request, metadata=(("traceparent", "00-1"),))

    [request] = serve(scenario).requests

    assert (request.invocation_id, request.traceparent) == (INVOCATION_ID, "00-1")


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (invocation("echo", service="Nobody"), "NOT_FOUND", "PD0501"),
        (invocation("nothing"), "NOT_FOUND", "PD0502"),
        (invocation("echo", service="Counter"), "INVALID_ARGUMENT", "PD0503"),
        (invocation("echo", key="k"), "INVALID_ARGUMENT", "PD0504"),
        (invocation("huge"), "RESOURCE_EXHAUSTED", "PD0505"),
        (invocation(""), "INVALID_ARGUMENT", "PD0506"),
        (invocation("echo", invocation_id="inv_1x"), "INVALID_ARGUMENT", "PD0401"),
        (invocation("busy"), "RESOURCE_EXHAUSTED", "PD0508"),
        (invocation("elsewhere"), "UNAVAILABLE", "PD0509"),
        (invocation("late_elsewhere"), "UNAVAILABLE", "PD0509"),
        (invocation("broken"), "INTERNAL", "PD0000"),
    ],
)
@pytest.mark.parametrize("method", ["Call", "Send"])
def test_refusal_has_its_status_and_code(
    method: str, request_: wire.InvocationRequest, status: str, code: str
) -> None:
    async def scenario(channel: grpc.aio.Channel, dispatcher: FakeDispatcher) -> None:
        stub = IngressStub(channel)  # type: ignore[no-untyped-call]
        kind = wire.CallRequest if method == "Call" else wire.SendRequest
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await getattr(stub, method)(kind(invocation=request_), timeout=60)

        assert refused.value.code() is grpc.StatusCode[status]
        assert refused.value.details()
        assert dict(refused.value.trailing_metadata())["perdure-error"] == code

    serve(scenario)


def test_request_without_invocation_is_refused() -> None:
    async def scenario(channel: grpc.aio.Channel, dispatcher: FakeDispatcher) -> None:
        stub = IngressStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Call(wire.CallRequest(), timeout=60)

        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    serve(scenario)


def test_message_far_over_the_limit_is_refused() -> None:
    async def scenario(channel: grpc.aio.Channel, dispatcher: FakeDispatcher) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(channel, invocation("echo", b"x" * (2 * 1024 * 1024)))

        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    assert serve(scenario, body_bytes_max=1024).requests == []


def test_client_that_cancels_is_forgotten() -> None:
    async def scenario(channel: grpc.aio.Channel, dispatcher: FakeDispatcher) -> None:
        before = len(asyncio.all_tasks())
        stub = IngressStub(channel)  # type: ignore[no-untyped-call]
        waiting = stub.Call(wire.CallRequest(invocation=invocation("wait")))
        async with asyncio.timeout(60):
            while not dispatcher.waiting:
                await asyncio.sleep(0.005)
            waiting.cancel()
            while len(asyncio.all_tasks()) > before:
                await asyncio.sleep(0.005)

    assert len(serve(scenario).forgotten) == 1


def test_health_and_reflection_name_the_service() -> None:
    async def scenario(channel: grpc.aio.Channel, dispatcher: FakeDispatcher) -> None:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "perdure.ingress.v1.Ingress"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=60)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING

        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        answers = [item async for item in reflection.ServerReflectionInfo(asked, timeout=60)]
        names = {service.name for service in answers[0].list_services_response.service}
        assert "perdure.ingress.v1.Ingress" in names
        assert "grpc.health.v1.Health" in names

    serve(scenario)


def test_taken_port_is_named_with_its_option() -> None:
    async def run() -> str:
        first, second = GrpcIngress(FakeDispatcher()), GrpcIngress(FakeDispatcher())
        address = await first.start("127.0.0.1:0")
        try:
            with pytest.raises(AddressInUseError) as refused:
                await second.start(address)
        finally:
            await second.stop()
            await first.stop()
        return refused.value.message

    assert "listen.ingress_grpc" in asyncio.run(run())
