"""What can go wrong with the quorum, each with what was found where."""

from collections.abc import Iterable, Mapping

from ...core.errors import PerdureError, TransportError


class QuorumNotReachedError(TransportError):
    """Too few servers agreed within the time; the operation was made or will never be made.

    Which of the two is decided, once and for all, by the next operation on the key that succeeds.

    Attributes:
        answered: names of the servers that answered last time, sorted.
        silent: what is wrong with each of the others, by name.
        tried: whether a change was sent out; without, it was certainly not made.
        beaten: whether others were ahead with the same key when enough servers answered.
    """

    code = "PD0602"

    def __init__(
        self,
        what: str,
        answered: Iterable[str],
        silent: Mapping[str, str],
        *,
        tried: bool = False,
        beaten: bool = False,
    ) -> None:
        """Take what was to be done and how each server fared."""
        self.answered = sorted(answered)
        self.silent = dict(sorted(silent.items()))
        self.tried = tried
        self.beaten = beaten
        well = ", ".join(self.answered) or "none"
        ill = "; ".join(f"{name}: {reason}" for name, reason in self.silent.items()) or "none"
        outcome = "it was made or never will be, reading tells" if tried else "it was not made"
        mend = "start or connect the servers that are missing and try again"
        if beaten:
            mend = "others changed the same key all the time: try again when it is quiet"
        super().__init__(
            f"cannot {what} in time: more than half of the metadata servers have to agree. "
            f"Answered: {well}. Did not: {ill}. If this was a change, {outcome}; {mend}"
        )


class OutcomeUnknownError(TransportError):
    """A change was tried, its answer lost, and so many others came since that nobody can tell."""

    code = "PD0603"


class NotProvisionedError(PerdureError):
    """The servers answer, but no list of servers was ever written."""

    code = "PD0604"
    retryable = True


class StrangerError(PerdureError):
    """A metadata server belongs to another cluster."""

    code = "PD0605"


class MemberChangeError(PerdureError):
    """The list of servers cannot be changed in this way now."""

    code = "PD0606"
