"""Errors that come from another node."""

from typing import Final

from ...core.errors import PerdureError, StorageError
from ...log.errors import LogClosedError, NotSequencerError, RecordTooLargeError
from ...partition_processor.clients import (
    InvocationExpiredError,
    InvocationIdInUseError,
    WorkflowAlreadyInvokedError,
)
from ...partition_processor.partition import PeerOverloadedError
from ...partition_processor.processor import InvocationNotFoundError, NotLeadingError
from ..errors import NotLeaderError, OverloadedError


class ForwardedError(PerdureError):
    """An error of another node that this one has no name for; its text has the code."""

    code = "PD0520"


class ForwardedRetryableError(PerdureError):
    """As `ForwardedError`, where trying again can help."""

    code = "PD0521"
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
