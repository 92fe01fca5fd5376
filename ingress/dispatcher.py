"""From a front door to the partition that owns the invocation, and back with the answer."""

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from ..core.errors import PerdureError
from ..core.ids import InvocationId


class InvocationRequest(msgspec.Struct, frozen=True, gc=False):
    """What a client asked for, free of the protocol it asked in.

    Attributes:
        key: the virtual object's key, None where the path had none.
        headers: handed to the handler, in order.
        invocation_id: fixed by a client that retries; None mints or derives one here.
    """

    service: str
    handler: str
    key: str | None
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    idempotency_key: str | None = None
    invocation_id: InvocationId | None = None
    traceparent: str | None = None


class InvocationFailure(msgspec.Struct, frozen=True, gc=False):
    """A terminal failure of a handler."""

    code: int
    message: str
    metadata: tuple[tuple[str, str], ...] = ()


class Completed(msgspec.Struct, frozen=True, gc=False):
    """The invocation has ended; `value` is the raw output unless `failure` is set."""

    invocation_id: InvocationId
    value: bytes
    failure: InvocationFailure | None = None


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The invocation is durable; `new` is False when its id was known before."""

    invocation_id: InvocationId
    new: bool


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """The runtime could not take or finish the request; the error says whether to retry."""

    invocation_id: InvocationId
    error: PerdureError


CallReply: TypeAlias = Completed | Rejected
SendReply: TypeAlias = Accepted | Rejected


class Dispatcher:
    """Resolves the target, fixes the invocation id and hands the request to its partition."""

    def call(
        self, request: InvocationRequest, on_reply: Callable[[CallReply], None]
    ) -> InvocationId:
        """Start the invocation and have `on_reply` called once, on the loop, with its result.

        Raises UnknownServiceError, UnknownHandlerError, KeyMissingError, KeyNotWantedError,
        BodyTooLargeError, OverloadedError (all PerdureError) before anything was logged.
        """
        raise NotImplementedError

    def send(
        self, request: InvocationRequest, on_reply: Callable[[SendReply], None]
    ) -> InvocationId:
        """Start the invocation and have `on_reply` called once it is durable; raises as `call`."""
        raise NotImplementedError

    def service_names(self) -> list[str]:
        """The services that can be called now, sorted."""
        raise NotImplementedError
