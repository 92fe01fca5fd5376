"""What clients ask for and what they are told, free of the protocol that they speak."""

from typing import TypeAlias

import msgspec

from ..core.errors import PerdureError
from ..core.ids import InvocationId
from ..partition_processor.clients import InvokeReply
from ..partition_processor.partition import PartitionClients


class InvocationRequest(msgspec.Struct, frozen=True, gc=False):
    """An invocation that a client wants to be started.

    Attributes:
        key: of the virtual object or workflow, None where the client gave none.
        headers: handed to the handler, in order.
        invocation_id: fixed by a client that retries; None mints or derives one here.
        delay_ns: how much later it is to start; of sends only.
        content_type: of the body, as the client named it.
        check_input: whether body and content type must be what the handler says that it takes.
    """

    service: str
    handler: str
    key: str | None
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    idempotency_key: str | None = None
    invocation_id: InvocationId | None = None
    traceparent: str | None = None
    delay_ns: int = 0
    content_type: str | None = None
    check_input: bool = False


class IdempotentInvocation(msgspec.Struct, frozen=True, gc=False):
    """The invocation that was, or would be, started for a target under an idempotency key."""

    service: str
    handler: str
    key: str | None
    idempotency_key: str


class WorkflowRun(msgspec.Struct, frozen=True, gc=False):
    """The one run of a workflow under a key."""

    workflow: str
    key: str


Reference: TypeAlias = InvocationId | IdempotentInvocation | WorkflowRun
"""An invocation, by what a client knows of it."""


class InvocationFailure(msgspec.Struct, frozen=True, gc=False):
    """A terminal failure: of a handler, or one that a client completes something with."""

    code: int
    message: str
    metadata: tuple[tuple[str, str], ...] = ()


class Completed(msgspec.Struct, frozen=True, gc=False):
    """The invocation has ended; `value` is the raw output unless `failure` is set.

    Attributes:
        content_type: of the value, None where the handler names none.
        expires_ns: when the result is forgotten, if it was there before it was asked for; else 0.
    """

    invocation_id: InvocationId
    value: bytes
    failure: InvocationFailure | None = None
    content_type: str | None = "application/json"
    expires_ns: int = 0


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The invocation is durable; `new` is False when its id was known before.

    Attributes:
        start_ns: when it starts or was to start, 0 if that was at once.
    """

    invocation_id: InvocationId
    new: bool
    start_ns: int = 0


class Acknowledged(msgspec.Struct, frozen=True, gc=False):
    """What was asked of an existing invocation is durable, or there was nothing to do any more."""

    invocation_id: InvocationId


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """The runtime could not take or finish the request; the error says whether to retry."""

    invocation_id: InvocationId
    error: PerdureError


CallReply: TypeAlias = Completed | Rejected
SendReply: TypeAlias = Accepted | Rejected
OperationReply: TypeAlias = Acknowledged | Rejected


class PendingReply:
    """A request that waits for its reply."""

    __slots__ = ("_clients", "_reply", "invocation_id")

    def __init__(
        self, clients: PartitionClients, invocation_id: InvocationId, reply: InvokeReply
    ) -> None:
        """The reply to `invocation_id` that is owed to one of `clients`."""
        self._clients = clients
        self._reply = reply
        self.invocation_id = invocation_id

    def forget(self) -> None:
        """The client is gone: want no reply any more. The invocation itself goes on."""
        self._clients.forget(self.invocation_id, self._reply)
