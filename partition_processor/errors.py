"""What a partition answers when it cannot do what was asked."""

from ..core.errors import PerdureError


class NotLeadingError(PerdureError):
    """The partition takes no requests here now."""

    code = "PD0906"
    retryable = True


class InvocationNotFoundError(PerdureError):
    """Nobody knows the invocation, or not any more."""

    code = "PD0912"


class BehindTrimPointError(PerdureError):
    """What a replica has to apply next has been trimmed from the log: it needs a snapshot."""

    code = "PD0913"


class AheadOfLogError(PerdureError):
    """A replica has applied more than its log has: the two are not of one time."""

    code = "PD0914"


class SetAsideError(PerdureError):
    """A copy of a partition does not count any more: its rows were found not to be the others'."""

    code = "PD0929"


class RefillRefusedError(PerdureError):
    """A copy of a partition is not filled anew: it works, or that would not help."""

    code = "PD0928"


def sealed_error(partition: int) -> NotLeadingError:
    """What callers are told while the log as a whole is sealed."""
    return NotLeadingError(
        f"the log of partition {partition} is sealed: open it again with "
        f"perdure logs reconfigure {partition}"
    )
