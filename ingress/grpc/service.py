"""The Ingress service: protobuf in, one call of the dispatcher, protobuf or a status out."""

from functools import partial
from typing import Final, TypeAlias, TypeVar

import grpc.aio

from ...core.errors import PerdureError
from ...proto.generated import ingress_pb2 as wire
from ...proto.generated.ingress_pb2_grpc import IngressServicer
from ..dispatcher import Dispatcher
from ..errors import RETRY_AFTER_SECONDS
from .asking import ask
from .front_doors import FrontDoorsSource, no_front_doors
from .session import IN_FLIGHT_MAX, Session
from .translation import KINDS, status_name

ERROR_METADATA_KEY: Final = "perdure-error"
"""The trailing metadata that carries an error's PD code beside the gRPC status."""
RETRY_METADATA_KEY: Final = "retry-after-ms"
"""The trailing metadata that says how long to wait where trying again can help."""

_TRACEPARENT: Final = "traceparent"
_Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"
_Response = TypeVar("_Response")


class IngressService(IngressServicer):
    """Answers every method. A client that goes away cancels its waits, not its invocations."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        in_flight_max: int = IN_FLIGHT_MAX,
        front_doors: FrontDoorsSource = no_front_doors,
    ) -> None:
        """Take what answers, how many unanswered requests a session may have, and other doors."""
        self._dispatcher = dispatcher
        self._in_flight_max = in_flight_max
        self._front_doors = front_doors
        self._sessions: set[Session] = set()
        self._turn = 0

    async def Call(self, request: wire.CallRequest, context: _Context) -> wire.CallResponse:
        """Start an invocation and answer with its result, a terminal failure included."""
        return await self._answer("call", request, wire.CallResponse(), context)

    async def Send(self, request: wire.SendRequest, context: _Context) -> wire.SendResponse:
        """Start an invocation and answer as soon as it is durable."""
        return await self._answer("send", request, wire.SendResponse(), context)

    async def Attach(self, request: wire.AttachRequest, context: _Context) -> wire.CallResponse:
        """Answer with the result of an invocation, once it has one."""
        return await self._answer("attach", request, wire.CallResponse(), context)

    async def GetOutput(
        self, request: wire.GetOutputRequest, context: _Context
    ) -> wire.CallResponse:
        """Answer with the result of an invocation that has completed."""
        return await self._answer("get_output", request, wire.CallResponse(), context)

    async def Lookup(self, request: wire.LookupRequest, context: _Context) -> wire.LookupResponse:
        """Answer with the id of an invocation."""
        return await self._answer("lookup", request, wire.LookupResponse(), context)

    async def CompleteAwakeable(
        self, request: wire.CompleteAwakeableRequest, context: _Context
    ) -> wire.CompleteAwakeableResponse:
        """Complete an awakeable and answer as soon as that is durable."""
        response = wire.CompleteAwakeableResponse()
        return await self._answer("complete_awakeable", request, response, context)

    async def SendSignal(
        self, request: wire.SendSignalRequest, context: _Context
    ) -> wire.SendSignalResponse:
        """Send a signal and answer as soon as that is durable."""
        return await self._answer("send_signal", request, wire.SendSignalResponse(), context)

    async def Cancel(self, request: wire.CancelRequest, context: _Context) -> wire.CancelResponse:
        """Ask an invocation to cancel itself and answer as soon as that is durable."""
        return await self._answer("cancel", request, wire.CancelResponse(), context)

    async def Session(self, _requests: object, context: _Context) -> None:
        """Answer any number of requests until the client has no more."""
        self._turn += 1
        session = Session(
            self._dispatcher,
            context,
            in_flight_max=self._in_flight_max,
            front_doors=partial(self._doors_of_session, self._turn),
        )
        self._sessions.add(session)
        try:
            await session.run()
        except PerdureError as error:
            await _refuse(context, error)
        finally:
            self._sessions.discard(session)

    def tell_front_doors(self) -> None:
        """Have every session look whether there is something new to tell."""
        for session in self._sessions:
            session.tell_front_doors()

    def _doors_of_session(self, turn: int) -> wire.FrontDoors | None:
        doors = self._front_doors()
        return None if doors is None else doors.message(turn)

    def stop_sessions(self) -> None:
        """Let every session end as soon as its requests are answered."""
        for session in self._sessions:
            session.stop()

    async def _answer(
        self, name: str, request: object, response: _Response, context: _Context
    ) -> _Response:
        try:
            reply = await ask(self._dispatcher, name, request, _traceparent(context))
        except PerdureError as error:
            await _refuse(context, error)
            raise AssertionError("abort returns never") from error
        KINDS[name].fill(response, reply)
        return response


def _traceparent(context: _Context) -> str | None:
    traceparent = None
    for key, value in context.invocation_metadata() or ():
        if key == _TRACEPARENT and isinstance(value, str):
            traceparent = value
    return traceparent


async def _refuse(context: _Context, error: PerdureError) -> None:
    metadata = [(ERROR_METADATA_KEY, error.code)]
    if error.retryable:
        metadata.append((RETRY_METADATA_KEY, str(RETRY_AFTER_SECONDS * 1000)))
    await context.abort(grpc.StatusCode[status_name(error)], error.message, tuple(metadata))
