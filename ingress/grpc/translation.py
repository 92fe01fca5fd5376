"""Between the messages of the Ingress service and the dispatcher: one pair of functions per kind.

A *begin* takes a request's message and has its reply called, a *fill* writes a reply into the
answer's message; calls of their own and sessions differ only in what they put around these two.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias

from ...core.errors import PerdureError
from ...core.ids import InvocationId, invocation_id_text, parse_invocation_id
from ...proto.generated import ingress_pb2 as wire
from ..dispatcher import Dispatcher
from ..errors import GRPC_STATUS_NAME, BadRequestError
from ..requests import (
    Accepted,
    Acknowledged,
    Completed,
    IdempotentInvocation,
    InvocationFailure,
    InvocationRequest,
    PendingReply,
    Reference,
    Rejected,
    WorkflowRun,
)

Reply: TypeAlias = Completed | Accepted | Acknowledged | InvocationId
"""What a request comes to, when it was not rejected."""
OnReply: TypeAlias = Callable[[Reply | Rejected], None]
Begin: TypeAlias = Callable[[Dispatcher, Any, str | None, OnReply], PendingReply | None]
"""Takes the request's message and the trace it belongs to; raises PerdureErrors."""
Fill: TypeAlias = Callable[[Any, Any], None]
"""Takes the answer's message and the reply."""

_MS: Final = 1_000_000
_TRACEPARENT: Final = "traceparent"
_HANDED_ON_NOT: Final = frozenset({"idempotency-key", "idempotency-expires"})


class Kind(NamedTuple):
    """One kind of request."""

    begin: Begin
    fill: Fill


def status_name(error: PerdureError) -> str:
    """The gRPC status of an error: its own, else that of the nearest class above, else INTERNAL."""
    for kind in type(error).__mro__:
        name = GRPC_STATUS_NAME.get(kind)
        if name is not None:
            return name
    return "INTERNAL"


def _taken(
    invocation: wire.InvocationRequest, delay_ms: int, traceparent: str | None
) -> InvocationRequest:
    target = invocation.target
    service, handler = target.service, target.handler
    if not service or not handler:
        raise BadRequestError(
            "the request names no target: set invocation.target.service, .handler"
        )
    headers: tuple[tuple[str, str], ...] = ()
    if given := invocation.headers:
        # A protobuf map has no order of its own; sorted, a repeated request is the same bytes.
        headers = tuple(item for item in sorted(given.items()) if item[0] not in _HANDED_ON_NOT)
        if traceparent is None:
            traceparent = given.get(_TRACEPARENT)
    idempotency_key = invocation_id = None
    if invocation.HasField("idempotency_key"):
        idempotency_key = invocation.idempotency_key
    if invocation.HasField("invocation_id"):
        invocation_id = parse_invocation_id(invocation.invocation_id)
    return InvocationRequest(
        service,
        handler,
        target.key if target.HasField("key") else None,
        invocation.body,
        headers,
        idempotency_key,
        invocation_id,
        traceparent,
        delay_ms * _MS,
    )


def _reference(reference: wire.InvocationReference) -> Reference:
    by = reference.WhichOneof("by")
    if by == "invocation_id":
        return parse_invocation_id(reference.invocation_id)
    if by == "workflow":
        return WorkflowRun(reference.workflow.name, reference.workflow.key)
    if by == "idempotent_request":
        target = reference.idempotent_request.target
        return IdempotentInvocation(
            target.service,
            target.handler,
            target.key if target.HasField("key") else None,
            reference.idempotent_request.idempotency_key,
        )
    raise BadRequestError(
        "the request names no invocation: set invocation.invocation_id, .idempotent_request or "
        ".workflow"
    )


def _result(
    message: wire.CompleteAwakeableRequest | wire.SendSignalRequest,
) -> bytes | InvocationFailure:
    kind = message.WhichOneof("result")
    if kind == "value":
        return message.value
    if kind == "failure":
        failure = message.failure
        metadata = tuple(sorted(failure.metadata.items()))
        return InvocationFailure(failure.code, failure.message, metadata)
    raise BadRequestError("the request has no result: set value or failure")


def _begin_call(
    dispatcher: Dispatcher, message: wire.CallRequest, traceparent: str | None, on_reply: OnReply
) -> PendingReply:
    return dispatcher.call(_taken(message.invocation, 0, traceparent), on_reply)


def _begin_send(
    dispatcher: Dispatcher, message: wire.SendRequest, traceparent: str | None, on_reply: OnReply
) -> PendingReply:
    return dispatcher.send(_taken(message.invocation, message.delay_ms, traceparent), on_reply)


def _begin_attach(
    dispatcher: Dispatcher, message: wire.AttachRequest, _trace: str | None, on_reply: OnReply
) -> PendingReply:
    return dispatcher.attach(_reference(message.invocation), on_reply)


def _begin_get_output(
    dispatcher: Dispatcher, message: wire.GetOutputRequest, _trace: str | None, on_reply: OnReply
) -> PendingReply:
    return dispatcher.output(_reference(message.invocation), on_reply)


def _begin_lookup(
    dispatcher: Dispatcher, message: wire.LookupRequest, _trace: str | None, on_reply: OnReply
) -> None:
    on_reply(dispatcher.lookup(_reference(message.invocation)))


def _begin_complete_awakeable(
    dispatcher: Dispatcher,
    message: wire.CompleteAwakeableRequest,
    _trace: str | None,
    on_reply: OnReply,
) -> None:
    dispatcher.complete_awakeable(message.awakeable_id, _result(message), on_reply)


def _begin_send_signal(
    dispatcher: Dispatcher, message: wire.SendSignalRequest, _trace: str | None, on_reply: OnReply
) -> None:
    invocation_id = parse_invocation_id(message.invocation_id)
    dispatcher.send_signal(invocation_id, message.name, _result(message), on_reply)


def _begin_cancel(
    dispatcher: Dispatcher, message: wire.CancelRequest, _trace: str | None, on_reply: OnReply
) -> None:
    dispatcher.cancel(parse_invocation_id(message.invocation_id), on_reply)


def _fill_call(message: wire.CallResponse, reply: Completed) -> None:
    message.invocation_id = invocation_id_text(reply.invocation_id)
    failure = reply.failure
    if failure is None:
        message.value = reply.value
        return
    told = message.failure
    # Set even if all its fields are empty.
    told.SetInParent()
    told.code = failure.code
    told.message = failure.message
    told.metadata.update(failure.metadata)


def _fill_send(message: wire.SendResponse, reply: Accepted) -> None:
    message.invocation_id = invocation_id_text(reply.invocation_id)
    message.status = (
        wire.SendResponse.ACCEPTED if reply.new else wire.SendResponse.PREVIOUSLY_ACCEPTED
    )
    if reply.start_ns:
        message.execution_time_ms = reply.start_ns // _MS


def _fill_lookup(message: wire.LookupResponse, reply: InvocationId) -> None:
    message.invocation_id = invocation_id_text(reply)


def _fill_nothing(message: Any, _reply: Acknowledged) -> None:
    message.SetInParent()


KINDS: Final[dict[str, Kind]] = {
    "call": Kind(_begin_call, _fill_call),
    "send": Kind(_begin_send, _fill_send),
    "attach": Kind(_begin_attach, _fill_call),
    "get_output": Kind(_begin_get_output, _fill_call),
    "lookup": Kind(_begin_lookup, _fill_lookup),
    "complete_awakeable": Kind(_begin_complete_awakeable, _fill_nothing),
    "send_signal": Kind(_begin_send_signal, _fill_nothing),
    "cancel": Kind(_begin_cancel, _fill_nothing),
}
"""By the name that the request and its answer have in a session's messages."""
