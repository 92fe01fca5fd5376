"""Elsewhere: the port by which appends get to the node that orders them, where it is another one.

What comes back of an append is its answer; an error with which it was refused, and nothing was
written; or `NotHere`: nothing was written either, and it is to be tried where the chain points now.
"""

from collections.abc import Callable
from typing import Protocol, TypeAlias

import msgspec

from ..core.errors import PerdureError
from ..core.ids import LogId
from .answers import Answer, Sealed, Settled, WrongSegment
from .chain_view import ChainView
from .sequencer import Append


class NotHere(msgspec.Struct, frozen=True, array_like=True, tag=12, gc=False):
    """The node does not order the log, or was not reached; nothing was written.

    Attributes:
        node: who orders it, as far as the node knows; empty if it does not.
    """

    node: str = ""


Outcome: TypeAlias = Answer | NotHere | PerdureError
"""What came back of an append that was sent to another node."""

SettledOutcome: TypeAlias = Settled | Sealed | WrongSegment | NotHere | PerdureError
"""What came back of a settling."""

Told: TypeAlias = Callable[[Outcome], None]
"""Told the outcome, once and never before the call returns; must not raise."""


class AppendTarget(Protocol):
    """A node that appends can be sent to."""

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, as far as this process knows."""
        ...

    def offer(self, log: LogId, append: Append, told: Told) -> None:
        """Send an append behind those sent before. The outcome is Indeterminate when the connection
        is lost before the answer is here, and NotHere when it was not sent.

        Raises RecordTooLargeError.
        """
        ...

    async def settle(self, log: LogId, segment: int, producer: bytes, epoch: int) -> SettledOutcome:
        """`VirtualLog.settle` on that node; NotHere when no answer came. Cancelling is safe."""
        ...


class AppendSearch(Protocol):
    """The search for the node that orders a log, over one failure after the other."""

    async def next(self, hint: str = "") -> AppendTarget | None:
        """A node to try, with a connection; None when appends are this process's own affair, or
        the log is sealed as a whole.

        The first time it is the one that the chain, as it was last seen, points to; then the chain
        is read again, after a pause.

        Args:
            hint: the node that the last one has named.

        Raises NotSequencerError or SequencerUnreachableError once it has lasted too long,
        LogClosedError when this process ends, and what metadata raises. Cancelling is safe.
        """
        ...

    def found(self) -> None:
        """The last node orders the log: if another one has to be found, that is a new search."""
        ...


class Elsewhere(Protocol):
    """Takes appends to other nodes."""

    async def append(self, log: ChainView, append: Append) -> Answer | None:
        """Append on the node that orders the log; see `VirtualLog.append`.

        None when nothing was written and this process orders the appends now, or takes none.
        Raises what `AppendSearch.next` raises, and the error of a refusal; then nothing was
        written. Cancelling leaves open whether it was.
        """
        ...

    def search(self, log: ChainView) -> AppendSearch:
        """Begin to look for the node that orders a log."""
        ...
