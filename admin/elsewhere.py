"""OtherNodes: the admin REST of the other nodes of a cluster, as this node asks it."""

from typing import Protocol

import msgspec

from ..core.errors import TransportError


class AnswerLostError(TransportError):
    """A node was lost after it had been asked and before it answered: it may have done it."""


class Question(msgspec.Struct, frozen=True):
    """What one node asks of another's admin REST.

    Attributes:
        query: the text behind the question mark.
        body: JSON; empty for GET.
    """

    method: str
    path: str
    query: str = ""
    body: bytes = b""


class Forwarded(msgspec.Struct, frozen=True):
    """What another node answered, passed on as it is.

    Attributes:
        status: as of HTTP.
        body: JSON.
    """

    status: int
    body: bytes


class OtherNodes(Protocol):
    """The other nodes; everything on the event loop's thread."""

    @property
    def me(self) -> str:
        """Name of this node."""
        ...

    def leader(self, partition: int) -> str | None:
        """The node that is to lead a partition, None while nobody is known to."""
        ...

    def alive(self) -> list[str]:
        """The other nodes that are not dead, as this node sees them, by number."""
        ...

    async def ask(self, node: str, question: Question) -> Forwarded:
        """Ask one node; waits for as long as that is not dead.

        Raises AnswerLostError when it is lost before it has answered, and whether something was
        done there is unknown; any other TransportError when it cannot be reached or is dead, and
        was not asked. Cancelling is safe, and tells the other node that nobody waits: what it had
        begun may be done or not.
        """
        ...
