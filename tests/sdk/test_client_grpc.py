"""The client over gRPC: a real server of the Session call on a port of this machine."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from perdure.core.errors import TransportError
from perdure.proto.generated import ingress_pb2 as wire
from perdure.proto.generated.ingress_pb2_grpc import IngressServicer, add_IngressServicer_to_server
from perdure.sdk.client import create_client
from perdure.sdk.client_grpc import GrpcChannel
from perdure.sdk.client_types import HttpError

from .fake_front_door import value


class Front(IngressServicer):
    """Answers calls with their body; the first stream ends after one message when it should."""

    def __init__(self, breaks: bool = False, doors: wire.FrontDoors | None = None) -> None:
        self.breaks = breaks
        self.doors = doors
        self.calls: list[wire.InvocationRequest] = []

    async def Session(
        self, messages: AsyncIterator[wire.SessionRequests], context: Any
    ) -> AsyncIterator[wire.SessionResponses]:
        opened = wire.Opened(in_flight_max=10)
        yield wire.SessionResponses(opened=opened, front_doors=self.doors)
        async for message in messages:
            self.calls.extend(each.call.invocation for each in message.requests)
            if self.breaks:
                self.breaks = False
                await context.abort(grpc.StatusCode.UNAVAILABLE, "going down")
            yield wire.SessionResponses(
                responses=[value(each, each.call.invocation.body) for each in message.requests]
            )


async def serving(front: IngressServicer) -> tuple[grpc.aio.Server, str]:
    """A server and its address."""
    server = grpc.aio.server()
    add_IngressServicer_to_server(front, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"


def test_calls_travel_over_grpc_and_survive_a_lost_session() -> None:
    """Under the id that they had at first."""

    async def main() -> None:
        front = Front(breaks=True)
        server, address = await serving(front)
        try:
            async with create_client(address) as client:
                answers = await asyncio.gather(
                    *[client.generic_call("S", "h", str(n).encode()) for n in range(20)]
                )
        finally:
            await server.stop(None)
        assert answers == [str(n).encode() for n in range(20)]
        ids = [call.invocation_id for call in front.calls]
        assert len(ids) > 20
        assert len(set(ids)) == 20

    asyncio.run(main())


def test_a_client_goes_on_at_a_node_that_it_was_told_of() -> None:
    """Over a channel of its own, past one that nobody listens at."""

    async def main() -> None:
        doors = wire.FrontDoors(cluster="c", addresses=["127.0.0.1:1"])
        first, second = Front(doors=doors), Front(doors=doors)
        server, address = await serving(first)
        other_server, other_address = await serving(second)
        doors.addresses.append(other_address)
        try:
            async with asyncio.timeout(60), create_client(address) as client:
                assert await client.generic_call("S", "h", b"1") == b"1"
                await server.stop(None)
                assert await client.generic_call("S", "h", b"2") == b"2"
        finally:
            await server.stop(None)
            await other_server.stop(None)
        assert [call.body for call in second.calls] == [b"2"]

    asyncio.run(main())


def test_a_server_without_sessions_is_named() -> None:
    """It is no front door, or one of another release."""

    async def main() -> None:
        server, address = await serving(IngressServicer())
        try:
            async with create_client(address) as client:
                with pytest.raises(HttpError, match=f"{address} takes no sessions") as caught:
                    await client.generic_call("S", "h", b"")
        finally:
            await server.stop(None)
        assert caught.value.status_code == 501

    asyncio.run(main())


def test_an_address_where_nobody_listens_is_a_lost_connection() -> None:
    """Which the session goes on trying."""

    async def main() -> None:
        server, address = await serving(Front())
        await server.stop(None)
        channel = GrpcChannel(address)
        stream = await channel.open_stream()
        with pytest.raises(TransportError):
            await stream.read()
        with pytest.raises(TransportError):
            await stream.write(wire.SessionRequests())
        await channel.close()

    asyncio.run(main())


def test_a_client_that_asks_for_nothing_opens_nothing() -> None:
    """And ends without a wait."""

    async def main() -> str:
        async with create_client("127.0.0.1:1") as client:
            return type(client).__name__

    assert asyncio.run(main()) == "RestateClient"
