"""What admin REST refuses, and the only map from errors to its HTTP codes."""

from collections.abc import Sequence
from typing import Final

from ..core.errors import MessageTooLargeError, PerdureError, TransportError
from ..log.errors import (
    ChainFullError,
    FuturePositionError,
    LogClosedError,
    NotSequencerError,
    ReconfigurationError,
    RecordTooLargeError,
    UnknownLogError,
    UnknownProviderError,
    UnknownSegmentError,
)
from ..metadata.api import PreconditionFailedError
from ..metadata.quorum import (
    MemberChangeError,
    NotProvisionedError,
    QuorumNotReachedError,
    StrangerError,
)
from ..metadata.quorum import OutcomeUnknownError as ChangeOutcomeUnknownError
from ..partition_processor.errors import RefillRefusedError
from ..partition_processor.partition import OutcomeUnknownError, PeerOverloadedError
from ..partition_processor.processor import NotLeadingError
from ..partition_processor.skipping import SkipRefusedError
from ..partition_processor.snapshots.errors import (
    ForeignSnapshotError,
    SnapshotCorruptError,
    SnapshotFormatError,
    SnapshotRefusedError,
    SnapshotRepositoryError,
    SnapshotsOffError,
)
from .elsewhere import AnswerLostError


class NoSuchResourceError(PerdureError):
    """The path names nothing that this node has."""

    code = "PD1001"


class AdminMethodError(PerdureError):
    """An HTTP method that the resource does not take.

    Attributes:
        allowed: the methods that it takes.
    """

    code = "PD1002"

    def __init__(self, method: str, allowed: Sequence[str]) -> None:
        """Name the method and those to use instead."""
        super().__init__(f"{method[:20]} is not taken here; use {' or '.join(allowed)}")
        self.allowed = tuple(allowed)


class AdminRequestError(PerdureError):
    """A part of the path, a query value or a field of the body is not understood."""

    code = "PD1003"


class TrimRefusedError(PerdureError):
    """A trim reaches beyond what this node has applied durably, or what snapshots have."""

    code = "PD1004"


class AdminBodyTooLargeError(PerdureError):
    """The body of an admin request is over its limit."""

    code = "PD1005"


class AdminContentTypeError(PerdureError):
    """A request that changes something does not say that its body is JSON.

    Pages in a browser cannot say so to another origin without being asked first: that keeps them
    from changing a node on the same machine.
    """

    code = "PD1006"


class VolatileProviderError(PerdureError):
    """A log that is kept on disk would go on in memory, which a restart forgets."""

    code = "PD1007"


class DeploymentRefusedError(PerdureError):
    """An invocation cannot go on on the deployment that was named."""

    code = "PD1008"


class StateVersionError(PerdureError):
    """An object's state has another version than the one that a change was made for."""

    code = "PD1009"


class ClusterNotJoinedError(PerdureError):
    """The node has not joined its cluster yet, so it can tell nothing about it."""

    code = "PD1010"
    retryable = True


class ClusterAloneError(PerdureError):
    """Something that takes a cluster of several nodes was asked of a node that is alone."""

    code = "PD1011"


class PartitionsUnplacedError(PerdureError):
    """The node has joined and does not know yet where partitions are."""

    code = "PD1012"
    retryable = True


class PeerAnswerError(PerdureError):
    """Another node has answered with an error.

    Attributes:
        remote_code: of that error.
    """

    code = "PD1013"

    def __init__(self, code: str, message: str) -> None:
        """Take code and sentence as they came."""
        super().__init__(message)
        self.remote_code = code


class ProviderRefusedError(PerdureError):
    """A log was to go on with a provider that other nodes of the cluster could not read."""

    code = "PD1014"


class LossRefusedError(PerdureError):
    """A segment is not ended at the cost of what its lost disks had: it need or must not be."""

    code = "PD1015"


HTTP_STATUS: Final[dict[type[PerdureError], int]] = {
    NoSuchResourceError: 404,
    AdminMethodError: 405,
    AdminRequestError: 400,
    TrimRefusedError: 409,
    LossRefusedError: 409,
    AdminBodyTooLargeError: 413,
    AdminContentTypeError: 415,
    VolatileProviderError: 409,
    DeploymentRefusedError: 400,
    StateVersionError: 409,
    RecordTooLargeError: 413,
    NotLeadingError: 503,
    SkipRefusedError: 409,
    RefillRefusedError: 409,
    PeerOverloadedError: 429,
    OutcomeUnknownError: 504,
    UnknownLogError: 404,
    UnknownSegmentError: 409,
    UnknownProviderError: 400,
    FuturePositionError: 416,
    ChainFullError: 409,
    NotSequencerError: 503,
    ReconfigurationError: 503,
    LogClosedError: 503,
    SnapshotsOffError: 409,
    SnapshotRefusedError: 503,
    SnapshotRepositoryError: 503,
    SnapshotCorruptError: 409,
    SnapshotFormatError: 409,
    ForeignSnapshotError: 409,
    ClusterNotJoinedError: 503,
    ClusterAloneError: 409,
    PartitionsUnplacedError: 503,
    ProviderRefusedError: 409,
    TransportError: 503,
    AnswerLostError: 503,
    MessageTooLargeError: 400,
    PreconditionFailedError: 409,
    MemberChangeError: 409,
    NotProvisionedError: 503,
    QuorumNotReachedError: 503,
    ChangeOutcomeUnknownError: 504,
    StrangerError: 409,
}
"""The HTTP status of each error; 500 for any other."""

_HTTP_STATUS_ABOVE: Final[dict[str, int]] = {
    "PD1111": 503,  # the cluster is not provisioned, or partitions have no place yet
    "PD1119": 404,  # no node of that name
    "PD1120": 409,  # the change is not possible now
    "PD1121": 409,  # the move is not possible now
}
"""The same by code, for what `node` raises: it stands above this part."""


def http_status(error: PerdureError) -> int:
    """The HTTP status that an error is answered with."""
    known = HTTP_STATUS.get(type(error))
    return known if known is not None else _HTTP_STATUS_ABOVE.get(error.code, 500)
