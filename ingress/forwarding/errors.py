"""What can go wrong on the way to another node, and errors that come from there."""

from typing import Final

from ...core.errors import PerdureError, StorageError
from ...log.errors import LogClosedError, NotSequencerError, RecordTooLargeError
from ...partition_processor.clients import (
    InvocationExpiredError,
    InvocationIdInUseError,
    WorkflowAlreadyInvokedError,
)
from ...partition_processor.processor import InvocationNotFoundError, NotLeadingError
from ..errors import NotLeaderError, OverloadedError


class PeerOverloadedError(PerdureError):
    """As much is under way to another node, or waits for a leader, as may."""

    code = "PD0520"
    retryable = True


class OutcomeUnknownError(PerdureError):
    """An operation was sent to a leader that was lost, and nobody could be asked for too long."""

    code = "PD0521"


class ForwardedError(PerdureError):
    """An error of another node that this one has no name for; its text has the code."""

    code = "PD0522"


class ForwardedRetryableError(PerdureError):
    """As `ForwardedError`, where trying again can help."""

    code = "PD0523"
    retryable = True


_NAMED: Final[dict[str, type[PerdureError]]] = {
    error.code: error
    for error in (
        InvocationExpiredError,
        InvocationIdInUseError,
        InvocationNotFoundError,
        NotLeadingError,
        OverloadedError,
        PeerOverloadedError,
        RecordTooLargeError,
        WorkflowAlreadyInvokedError,
    )
}


def is_move(error: PerdureError) -> bool:
    """Whether the error only says that this node does not lead, so that another one may."""
    return isinstance(
        error, NotLeadingError | NotLeaderError | LogClosedError | NotSequencerError | StorageError
    )


def told(code: str, message: str, retryable: bool) -> PerdureError:
    """The error that another node tells of."""
    named = _NAMED.get(code)
    if named is not None:
        return named(message)
    kind = ForwardedRetryableError if retryable else ForwardedError
    return kind(f"{message} [{code[:16]}]")
