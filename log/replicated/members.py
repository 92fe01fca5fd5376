"""The members of a segment's nodeset, asked together."""

from asyncio import AbstractEventLoop
from collections.abc import Callable, Collection, Mapping
from typing import TypeAlias, TypeVar

from ..placement import Placement
from .clients import ServerClient, ServerClients, ask_all
from .messages import GONE, LOST, OK, Info, Reply, Request

R = TypeVar("R", bound=Reply)

Make: TypeAlias = Callable[[int, str], Request]
"""Makes a member's request of a number and the member's storage."""


class LogletGoneError(Exception):
    """A server says that the loglet was trimmed and deleted; never leaves this package."""


class Members:
    """Who keeps a loglet.

    Attributes:
        placement: what makes a quorum of them.
        clients: by index in the placement.
    """

    def __init__(
        self, placement: Placement, clients: ServerClients, loop: AbstractEventLoop, own: str
    ) -> None:
        """Connect to all of them; `own` is this node, whose server is read from first."""
        self.placement = placement
        self.clients: list[ServerClient] = [
            clients.client(member.node) for member in placement.members
        ]
        # Those whose servers have said that they have another disk: the one meant is gone for good.
        self.lost: set[int] = set()
        # Those whose disks an operator has given up for lost; see `are_all_left`.
        self.given_up: set[int] = set()
        self._loop = loop
        self._own = own

    def storage(self, member: int) -> str:
        """The disk that a member had when the segment was made."""
        return self.placement.members[member].storage

    def are_all_left(self, present: Collection[int]) -> bool:
        """Whether these are all members that an operator has not given up, if any were.

        They stand for every quorum of a decision: none without them can come about, as long as
        what was given up does not come back, and then the chain of the log says what holds.
        """
        left = set(range(len(self.clients))) - self.given_up
        return bool(self.given_up and left) and left <= set(present)

    def broadcast(self, make: Callable[[str], Request]) -> None:
        """Send everybody what has no reply."""
        for member, client in enumerate(self.clients):
            client.send(make(self.storage(member)))

    def reading_order(self, turn: int) -> list[int]:
        """Whom to read from: this node, then who is connected, beginning elsewhere each turn."""
        count = len(self.clients)
        order = [(turn + item) % count for item in range(count)]
        return sorted(
            order,
            key=lambda item: (
                self.clients[item].node != self._own,
                not self.clients[item].is_connected,
            ),
        )

    async def ask(self, member: int, make: Make, kind: type[R], seconds: float) -> R | None:
        """One member's reply; None when it does not come. Raises LogletGoneError."""
        found = await self.collect(make, kind, lambda _: False, seconds, among=[member])
        return found.get(member)

    async def collect(
        self,
        make: Make,
        kind: type[R],
        enough: Callable[[Mapping[int, R]], bool],
        seconds: float,
        *,
        among: list[int] | None = None,
    ) -> dict[int, R]:
        """Ask the members and give the replies that have come, by member.

        Waits until they are enough, until everybody has answered or is out of reach, at most so
        long. Those of servers that have lost the disk are left out: they never count. Raises
        LogletGoneError. Cancelling is safe; what was asked for may be done all the same.
        """
        found: dict[int, R] = {}
        gone = False

        def heard(member: int, reply: Reply | None) -> bool:
            nonlocal gone
            if isinstance(reply, kind):
                status = getattr(reply, "status", OK)
                gone = gone or status == GONE
                if status == LOST:
                    self.lost.add(member)
                if status not in (LOST, GONE):
                    found[member] = reply
            return gone or enough(found)

        asked = range(len(self.clients)) if among is None else among
        questions = [
            (member, self.clients[member], numbered(make, self.storage(member))) for member in asked
        ]
        await ask_all(self._loop, questions, heard, seconds)
        if gone:
            raise LogletGoneError
        return dict(found)


def good(replies: Mapping[int, Info]) -> list[int]:
    """The members that did what was asked."""
    return [member for member, reply in replies.items() if reply.status == OK]


def numbered(make: Make, storage: str) -> Callable[[int], Request]:
    """What makes a request to one storage of its number."""
    return lambda number: make(number, storage)
