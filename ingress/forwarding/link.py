"""This node's connection to another one: what it asks there, and what the answers belong to.

Everything that is asked within one turn of the event loop travels together.
"""

from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Final

import structlog

from ...core.net.peers import Peer
from . import frames
from .errors import told
from .pending import Pending

_log = structlog.get_logger("forwarding")

QUEUED_BYTES_MAX: Final = 16 * 1024 * 1024
"""With so much unsent, nothing more is taken."""


class Link:
    """The asker's end.

    Attributes:
        node: the node at the other end.
        in_flight: the requests that it has not answered, by their numbers.
    """

    def __init__(
        self,
        node: str,
        peer: Peer,
        hello: bytes,
        *,
        loop: AbstractEventLoop,
        in_flight_max: int,
        on_connected: Callable[["Link"], None],
        on_lost: Callable[["Link", list[Pending]], None],
        on_moved: Callable[[Pending, frames.Refused, str], None],
        on_room: Callable[["Link"], None],
        on_not_taken: Callable[[int], None],
    ) -> None:
        """Listen to `peer`.

        Args:
            hello: what each connection begins with.
            in_flight_max: so many requests may be unanswered.
            on_lost: the connection is gone, with these requests under way.
            on_moved: a request was refused as the node does not lead its partition.
            on_room: answers have come, so there may be room for requests that wait.
            on_not_taken: messages for a partition must come again.
        """
        self.node = node
        self.in_flight: dict[int, Pending] = {}
        self._peer = peer
        self._hello = hello
        self._loop = loop
        self._in_flight_max = in_flight_max
        self._on_connected = on_connected
        self._on_lost = on_lost
        self._on_moved = on_moved
        self._on_room = on_room
        self._on_not_taken = on_not_taken
        self._out: list[bytes] = []
        self._out_bytes = 0
        peer.listener = self
        if peer.connected:
            self.connected()

    # Out -----------------------------------------------------------------------------------------

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, as far as this node knows."""
        return self._peer.connected

    @property
    def has_room(self) -> bool:
        """Whether the connection takes more bytes now."""
        return self._out_bytes + self._peer.queued_bytes < QUEUED_BYTES_MAX

    @property
    def takes_requests(self) -> bool:
        """Whether it takes another request."""
        return len(self.in_flight) < self._in_flight_max and self.has_room

    def ask(self, pending: Pending) -> None:
        """Send a request at the end of this turn."""
        assert self._peer.connected, "a request was sent on a connection that is lost"
        pending.link = self
        self.in_flight[pending.number] = pending
        self.send(pending.frame())

    def forget(self, pending: Pending) -> None:
        """Nobody waits for the answer any more, or it is to come from elsewhere."""
        pending.link = None
        if self.in_flight.pop(pending.number, None) is not None and self._peer.connected:
            self.send(frames.encode_frame(frames.Forget(pending.number)))

    def send(self, frame: bytes) -> None:
        """Send a frame at the end of this turn, if the connection is there."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(frame)
        self._out_bytes += len(frame)

    def _flush(self) -> None:
        out, self._out = self._out, []
        self._out_bytes = 0
        for message in frames.messages(out):
            self._peer.send(message)

    # In ------------------------------------------------------------------------------------------

    def connected(self) -> None:
        """A connection was made."""
        self._peer.send(frames.messages([self._hello])[0])
        self._on_connected(self)

    def received(self, message: bytes) -> None:
        """Answers have come. Raises MalformedMessageError."""
        for answer in frames.decode_answered(message):
            self._answered(answer)
        self._on_room(self)

    def _answered(self, answer: frames.Answered) -> None:
        if isinstance(answer, frames.NotTaken):
            self._on_not_taken(answer.destination)
            return
        if isinstance(answer, frames.Stranger):
            _log.error("a node does not let this one in", node=self.node, reason=answer.reason)
            return
        pending = self.in_flight.get(answer.number)
        if pending is None:
            return  # It was forgotten while the answer was on its way.
        if not isinstance(answer, frames.Refused):
            pending.answered(answer)
        elif answer.moved:
            del self.in_flight[answer.number]
            pending.link = None
            self._on_moved(pending, answer, self.node)
        else:
            pending.finish(told(answer.code, answer.message, answer.retryable))

    def lost(self) -> None:
        """The connection is gone; whether the last requests arrived is unknown."""
        self._out.clear()
        self._out_bytes = 0
        in_flight, self.in_flight = self.in_flight, {}
        for pending in in_flight.values():
            pending.link = None
        self._on_lost(self, list(in_flight.values()))
