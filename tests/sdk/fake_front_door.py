"""A front door of the tests: answers requests by a function, in memory or over gRPC."""

import asyncio
from collections.abc import Callable
from typing import Any

from perdure.core.errors import TransportError
from perdure.proto.generated import ingress_pb2 as wire

Answer = Callable[[wire.SessionRequest], wire.SessionResponse | None]


def value(request: wire.SessionRequest, body: bytes = b"null") -> wire.SessionResponse:
    """A result for a call."""
    return wire.SessionResponse(id=request.id, call=wire.CallResponse(value=body))


def error(request: wire.SessionRequest, status: str, message: str = "so it is") -> Any:
    """A refusal of a request."""
    refused = wire.Error(status=status, code="PD0501", message=message)
    return wire.SessionResponse(id=request.id, error=refused)


class Direct:
    """Requests that are answered on the spot, and kept."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[tuple[wire.SessionRequest, bool]] = []

    async def request(
        self, request: wire.SessionRequest, *, repeatable: bool
    ) -> wire.SessionResponse:
        self.requests.append((request, repeatable))
        response = self.answer(request)
        assert response is not None
        return response


class Door:
    """A front door whose streams are in memory: it can refuse, break and answer late."""

    def __init__(self, answer: Answer = value, in_flight_max: int = 1000) -> None:
        self.answer = answer
        self.in_flight_max = in_flight_max
        self.batches: list[list[wire.SessionRequest]] = []
        self.streams: list[Stream] = []
        self.refusals: list[Exception] = []
        self.arrived = asyncio.Event()
        self.doors: wire.FrontDoors | None = None

    async def open_stream(self, _address: str = "") -> "Stream":
        if self.refusals:
            raise self.refusals.pop(0)
        stream = Stream(self)
        self.streams.append(stream)
        return stream

    async def received(self, count: int) -> list[wire.SessionRequest]:
        """Wait until so many requests have arrived in all."""
        while sum(map(len, self.batches)) < count:
            self.arrived.clear()
            await self.arrived.wait()
        return [request for batch in self.batches for request in batch]


class Stream:
    """One stream of a door."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.closed = False
        self.inbox: asyncio.Queue[wire.SessionResponses | Exception] = asyncio.Queue()
        opened = wire.Opened(in_flight_max=door.in_flight_max)
        self.inbox.put_nowait(wire.SessionResponses(opened=opened, front_doors=door.doors))

    async def write(self, requests: wire.SessionRequests) -> None:
        self.door.batches.append(list(requests.requests))
        answers = [self.door.answer(request) for request in requests.requests]
        self.respond(*[each for each in answers if each is not None])
        self.door.arrived.set()

    def respond(self, *responses: wire.SessionResponse) -> None:
        """Send answers."""
        if responses:
            self.inbox.put_nowait(wire.SessionResponses(responses=responses))

    def tell(self, doors: wire.FrontDoors) -> None:
        """Tell of other front doors."""
        self.inbox.put_nowait(wire.SessionResponses(front_doors=doors))

    def lose(self) -> None:
        """Break the stream."""
        self.inbox.put_nowait(TransportError("the wire was cut"))

    async def read(self) -> wire.SessionResponses:
        message = await self.inbox.get()
        if isinstance(message, Exception):
            raise message
        return message

    def close(self) -> None:
        self.closed = True
