"""HTTP requests about invocations that there are already: attach, output, lookup, completions."""

from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from ...core.ids import InvocationId, parse_invocation_id
from ...partition_processor.processor import InvocationNotFoundError
from ..dispatcher import Dispatcher
from ..errors import BadRequestError
from ..requests import (
    Acknowledged,
    CallReply,
    Completed,
    IdempotentInvocation,
    InvocationFailure,
    PendingReply,
    Reference,
    Rejected,
    WorkflowRun,
)
from .responses import Located
from .routes import LOOKUP, OUTPUT, AwakeableRoute, OperationRoute, ReferenceRoute

OnReply: TypeAlias = Callable[[Completed | Acknowledged | Rejected | Located], None]

REJECTED_CODE: Final = 500
"""What an awakeable or a signal that is rejected over HTTP fails with."""


class _Referring(msgspec.Struct, frozen=True, tag_field="target", rename="camel"):
    """The body that says which invocation is meant."""


class _ById(_Referring, frozen=True, tag="invocation"):
    invocation_id: str


class _Idempotent(_Referring, frozen=True, tag="idempotentInvocation"):
    service: str
    handler: str
    idempotency_key: str
    key: str | None = None
    scope: str | None = None


class _Workflow(_Referring, frozen=True, tag="workflow"):
    workflow_name: str
    workflow_key: str
    scope: str | None = None


_decode_reference: Final = msgspec.json.Decoder(_ById | _Idempotent | _Workflow).decode


def begin(
    route: OperationRoute, dispatcher: Dispatcher, body: bytes, on_reply: OnReply
) -> PendingReply | None:
    """Do what the route says; `on_reply` is called once, possibly at once.

    Raises MalformedIdError and what the dispatcher raises.
    """
    if isinstance(route, ReferenceRoute):
        return _refer(route, dispatcher, body, on_reply)
    result = _failure(body) if route.rejects else body
    if isinstance(route, AwakeableRoute):
        dispatcher.complete_awakeable(route.awakeable_id, result, on_reply)
    else:
        invocation_id = parse_invocation_id(route.invocation_id)
        dispatcher.send_signal(invocation_id, route.name, result, on_reply)
    return None


def _refer(
    route: ReferenceRoute, dispatcher: Dispatcher, body: bytes, on_reply: OnReply
) -> PendingReply | None:
    reference = _reference(route, dispatcher, body)
    if route.verb == LOOKUP:
        on_reply(Located(dispatcher.lookup(reference)))
        return None
    if route.verb == OUTPUT:
        return dispatcher.output(reference, on_reply)

    def attached(reply: CallReply) -> None:
        if isinstance(reply, Rejected) and isinstance(reply.error, InvocationNotFoundError):
            reply = _unknown(reply.invocation_id, reply.error)
        on_reply(reply)

    try:
        return dispatcher.attach(reference, attached)
    except InvocationNotFoundError as error:
        on_reply(_unknown(dispatcher.lookup(reference), error))
        return None


def _unknown(invocation_id: InvocationId, error: InvocationNotFoundError) -> Completed:
    """Whoever attaches waits for an outcome, and is told this as if it were the invocation's."""
    return Completed(invocation_id, b"", InvocationFailure(404, error.message))


def _reference(route: ReferenceRoute, dispatcher: Dispatcher, body: bytes) -> Reference:
    given = route.reference
    if given is None:
        return _parse_body(body)
    if isinstance(given, str):
        return parse_invocation_id(given)
    if isinstance(given, WorkflowRun):
        return given
    service = given[0]
    if not dispatcher.is_keyed(service):
        return IdempotentInvocation(service, given[1], None, "/".join(given[2:]))
    if len(given) < 4:
        raise BadRequestError(
            f"{service!r} has keys: the path is /restate/invocation/{service}/KEY/HANDLER/"
            f"IDEMPOTENCY_KEY/{route.verb}"
        )
    return IdempotentInvocation(service, given[-2], "/".join(given[1:-2]), given[-1])


def _parse_body(body: bytes) -> Reference:
    try:
        found = _decode_reference(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequestError(
            f'the body does not say which invocation is meant ({error}): it is {{"target": '
            '"invocation", "invocationId": …}, {"target": "idempotentInvocation", "service": …, '
            '"key": …, "handler": …, "idempotencyKey": …} or {"target": "workflow", '
            '"workflowName": …, "workflowKey": …}'
        ) from None
    if isinstance(found, _ById):
        return parse_invocation_id(found.invocation_id)
    if found.scope is not None:
        raise BadRequestError("scopes are not supported: leave the field scope out")
    if isinstance(found, _Workflow):
        return WorkflowRun(found.workflow_name, found.workflow_key)
    return IdempotentInvocation(found.service, found.handler, found.key, found.idempotency_key)


def _failure(body: bytes) -> InvocationFailure:
    try:
        return InvocationFailure(REJECTED_CODE, body.decode())
    except UnicodeDecodeError:
        raise BadRequestError("the body, the reason of a rejection, is not UTF-8 text") from None
