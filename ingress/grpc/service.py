"""The Ingress service: protobuf in, one call of the dispatcher, protobuf or a status out."""

import asyncio
from functools import partial
from typing import Final, TypeAlias, TypeVar

import grpc.aio

from ...core.errors import PerdureError
from ...core.ids import invocation_id_text, parse_invocation_id
from ...proto.generated import ingress_pb2 as wire
from ...proto.generated.ingress_pb2_grpc import IngressServicer
from ..dispatcher import CallReply, Dispatcher, InvocationRequest, Rejected, SendReply
from ..errors import GRPC_STATUS_NAME, BadRequestError

ERROR_METADATA_KEY: Final = "perdure-error"
"""The trailing metadata that carries an error's PD code beside the gRPC status."""

_TRACEPARENT: Final = "traceparent"
_HANDED_ON_NOT: Final = frozenset({"idempotency-key", "idempotency-expires"})
_Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"
_Reply = TypeVar("_Reply")


class IngressService(IngressServicer):
    """Answers Call and Send. A client that goes away cancels its wait, not its invocation."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        """Take what answers."""
        self._dispatcher = dispatcher

    async def Call(self, request: wire.CallRequest, context: _Context) -> wire.CallResponse:
        """Start an invocation and answer with its result, a terminal failure included."""
        waiter: asyncio.Future[CallReply] = asyncio.get_running_loop().create_future()
        try:
            pending = self._dispatcher.call(
                _taken(request.invocation, request.HasField("invocation"), context),
                partial(_settle, waiter),
            )
            try:
                reply = await waiter
            except asyncio.CancelledError:
                pending.forget()
                raise
            if isinstance(reply, Rejected):
                raise reply.error
        except PerdureError as error:
            await _refuse(context, error)
            raise AssertionError("abort returns never") from error
        text = invocation_id_text(reply.invocation_id)
        failure = reply.failure
        if failure is None:
            return wire.CallResponse(invocation_id=text, value=reply.value)
        return wire.CallResponse(
            invocation_id=text,
            failure=wire.Failure(
                code=failure.code, message=failure.message, metadata=dict(failure.metadata)
            ),
        )

    async def Send(self, request: wire.SendRequest, context: _Context) -> wire.SendResponse:
        """Start an invocation and answer as soon as it is durable."""
        waiter: asyncio.Future[SendReply] = asyncio.get_running_loop().create_future()
        try:
            self._dispatcher.send(
                _taken(request.invocation, request.HasField("invocation"), context),
                partial(_settle, waiter),
            )
            reply = await waiter
            if isinstance(reply, Rejected):
                raise reply.error
        except PerdureError as error:
            await _refuse(context, error)
            raise AssertionError("abort returns never") from error
        return wire.SendResponse(
            invocation_id=invocation_id_text(reply.invocation_id),
            status=wire.SendResponse.ACCEPTED
            if reply.new
            else wire.SendResponse.PREVIOUSLY_ACCEPTED,
        )


def status_of(error: PerdureError) -> grpc.StatusCode:
    """The gRPC status of an error: its own, else that of the nearest class above, else INTERNAL."""
    for kind in type(error).__mro__:
        name = GRPC_STATUS_NAME.get(kind)
        if name is not None:
            return grpc.StatusCode[name]
    return grpc.StatusCode.INTERNAL


def _taken(
    invocation: wire.InvocationRequest, present: bool, context: _Context
) -> InvocationRequest:
    """The request as the dispatcher takes it. Raises BadRequestError or MalformedIdError."""
    target = invocation.target
    if not present or not target.service or not target.handler:
        raise BadRequestError(
            "the request names no target: set invocation.target.service, .handler"
        )
    idempotency_key = None
    if invocation.HasField("idempotency_key"):
        idempotency_key = invocation.idempotency_key
        if not idempotency_key:
            raise BadRequestError("the idempotency key is empty; leave the field out instead")
    traceparent = None
    for key, value in context.invocation_metadata() or ():
        if key == _TRACEPARENT and isinstance(value, str):
            traceparent = value
    return InvocationRequest(
        service=target.service,
        handler=target.handler,
        key=target.key if target.HasField("key") else None,
        body=invocation.body,
        # A protobuf map has no order of its own; sorted, a repeated request is the same bytes.
        headers=tuple(
            item for item in sorted(invocation.headers.items()) if item[0] not in _HANDED_ON_NOT
        ),
        idempotency_key=idempotency_key,
        invocation_id=parse_invocation_id(invocation.invocation_id)
        if invocation.HasField("invocation_id")
        else None,
        traceparent=traceparent,
    )


async def _refuse(context: _Context, error: PerdureError) -> None:
    await context.abort(status_of(error), error.message, ((ERROR_METADATA_KEY, error.code),))


def _settle(waiter: asyncio.Future[_Reply], reply: _Reply) -> None:
    if not waiter.done():
        waiter.set_result(reply)
