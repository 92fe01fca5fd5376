"""What a front door refuses, and the only map from errors to HTTP and gRPC codes."""

from typing import Final

from ..core.errors import MessageTooLargeError, PerdureError
from ..core.ids import MalformedIdError
from ..partition_processor.clients import (
    InvocationExpiredError,
    InvocationIdInUseError,
    WorkflowAlreadyInvokedError,
)
from ..partition_processor.partition import OutcomeUnknownError
from ..partition_processor.processor import InvocationNotFoundError


class UnknownServiceError(PerdureError):
    """No deployment offers the service."""

    code = "PD0501"


class UnknownHandlerError(PerdureError):
    """The service has no such handler."""

    code = "PD0502"


class KeyMissingError(PerdureError):
    """A virtual object was called without a key."""

    code = "PD0503"


class KeyNotWantedError(PerdureError):
    """A plain service was called with a key."""

    code = "PD0504"


class BodyTooLargeError(MessageTooLargeError):
    """The body is over the limit."""

    code = "PD0505"


class BadRequestError(PerdureError):
    """The request is not one that a front door understands: path, header or field."""

    code = "PD0506"


class MethodNotAllowedError(PerdureError):
    """An HTTP method that the route does not take.

    Attributes:
        allowed: those that it does take, separated by commas.
    """

    code = "PD0507"

    def __init__(self, method: str, allowed: str) -> None:
        """Name both."""
        super().__init__(f"{method} is not taken here; use {allowed.replace(', ', ' or ')}")
        self.allowed = allowed


class OverloadedError(PerdureError):
    """The partition has as much work in flight as it may."""

    code = "PD0508"
    retryable = True


class NotLeaderError(PerdureError):
    """This node cannot take the request now; another one, or this one later, can."""

    code = "PD0509"
    retryable = True


class NotCompletedError(PerdureError):
    """The output of an invocation was asked for, and it has none yet."""

    code = "PD0510"


class PrivateHandlerError(PerdureError):
    """The handler may be called by other handlers only."""

    code = "PD0511"


class InputRefusedError(PerdureError):
    """The body, or its content type, is not what the handler says that it takes."""

    code = "PD0512"


def too_many_in_flight(partition: int, in_flight_max: int) -> OverloadedError:
    """A partition has as many requests in flight as it may."""
    return OverloadedError(
        f"partition {partition} has {in_flight_max} requests in flight, its limit "
        "(limits.in_flight_max_per_partition): try again shortly"
    )


def too_many_active(partition: int, active_max: int) -> OverloadedError:
    """A partition has as many invocations as it may."""
    return OverloadedError(
        f"partition {partition} has {active_max} invocations that have not completed, its limit "
        "(limits.active_max_per_partition): try again later, or start workers"
    )


RETRY_AFTER_SECONDS: Final = 1
"""What a client that was refused for now is told to wait."""

HTTP_STATUS: Final[dict[type[PerdureError], int]] = {
    UnknownServiceError: 404,
    UnknownHandlerError: 404,
    KeyMissingError: 400,
    KeyNotWantedError: 400,
    BodyTooLargeError: 413,
    BadRequestError: 400,
    MethodNotAllowedError: 405,
    OverloadedError: 429,
    NotLeaderError: 503,
    InvocationIdInUseError: 409,
    WorkflowAlreadyInvokedError: 409,
    InvocationExpiredError: 410,
    InvocationNotFoundError: 404,
    NotCompletedError: 470,
    PrivateHandlerError: 400,
    InputRefusedError: 400,
    MalformedIdError: 400,
    OutcomeUnknownError: 504,
}
"""The HTTP status of each error; 500 for any other."""

GRPC_STATUS_NAME: Final[dict[type[PerdureError], str]] = {
    UnknownServiceError: "NOT_FOUND",
    UnknownHandlerError: "NOT_FOUND",
    KeyMissingError: "INVALID_ARGUMENT",
    KeyNotWantedError: "INVALID_ARGUMENT",
    BodyTooLargeError: "RESOURCE_EXHAUSTED",
    BadRequestError: "INVALID_ARGUMENT",
    OverloadedError: "RESOURCE_EXHAUSTED",
    NotLeaderError: "UNAVAILABLE",
    InvocationIdInUseError: "ALREADY_EXISTS",
    WorkflowAlreadyInvokedError: "ALREADY_EXISTS",
    InvocationExpiredError: "FAILED_PRECONDITION",
    InvocationNotFoundError: "NOT_FOUND",
    NotCompletedError: "FAILED_PRECONDITION",
    PrivateHandlerError: "PERMISSION_DENIED",
    InputRefusedError: "INVALID_ARGUMENT",
    MalformedIdError: "INVALID_ARGUMENT",
    OutcomeUnknownError: "DEADLINE_EXCEEDED",
}
"""The name of the gRPC status of each error; INTERNAL for any other."""
