"""The client of one other node: appends that go there, in order, and what becomes of them."""

from asyncio import AbstractEventLoop, Future
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

from ...core.errors import PerdureError
from ...core.ids import LogId
from ...core.net.peers import Peer
from ..answers import Indeterminate, Overloaded, Sealed, Settled, WrongSegment
from ..elsewhere import NotHere, Outcome, SettledOutcome, Told
from ..errors import RecordTooLargeError
from ..sequencer import Append
from .messages import (
    APPEND_BYTES_MAX,
    Offer,
    Refused,
    Reply,
    Request,
    Settle,
    decode_replies,
    encode,
    error_of,
    size_of,
)

APPENDS_MAX: Final = 10_000
BYTES_MAX: Final = 64 * 1024 * 1024
"""So much may be under way to one node and not answered; one append may be larger by itself."""

SETTLES_MAX: Final = 10_000
"""So many settlings may be."""

_Answered: TypeAlias = Callable[[Outcome | Settled], None]


class AppendClient:
    """Appends to one node over all connections to it. It is a `PeerListener`.

    What was handed to a connection that is then lost may have arrived: it is answered
    Indeterminate and never sent again from here. What was not handed over yet is `NotHere`.

    Attributes:
        node: its name.
    """

    def __init__(self, peer: Peer, loop: AbstractEventLoop) -> None:
        """Use the connections of `peer`, whose listener this becomes."""
        self.node = peer.node
        self._peer = peer
        self._loop = loop
        self._number = 0
        # By number: who wants to know, and how many bytes it takes; 0 for a settling.
        self._asked: dict[int, tuple[_Answered, int]] = {}
        self._unsent: list[Request] = []
        self._appends = 0
        self._bytes = 0
        peer.listener = self

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, as far as this process knows."""
        return self._peer.connected

    @property
    def failure(self) -> str:
        """Why there is no connection."""
        return self._peer.failure

    @property
    def appends_in_flight(self) -> int:
        """How many appends have no answer."""
        return self._appends

    async def wait_until_connected(self, timeout_seconds: float) -> bool:
        """Wait for a connection; False when the time is up first. Cancelling is safe."""
        return await self._peer.wait_until_connected(timeout_seconds)

    # Sending -------------------------------------------------------------------------------------

    def offer(self, log: LogId, append: Append, told: Told) -> None:
        """Send an append behind those before; see `AppendTarget`. Raises RecordTooLargeError."""
        size = size_of(append)
        if size > APPEND_BYTES_MAX:
            raise RecordTooLargeError(
                f"an append of {size} bytes cannot be sent to node {self.node}, which orders the "
                f"log: at most {APPEND_BYTES_MAX} can"
            )
        if not self._peer.connected:
            self._loop.call_soon(told, NotHere())
        elif self._appends >= APPENDS_MAX or (self._bytes and self._bytes + size > BYTES_MAX):
            self._loop.call_soon(told, Overloaded(self._appends))
        else:
            self._appends += 1
            self._bytes += size
            self._send(Offer(self._next_number(), log, append), partial(_tell, told), size)

    async def settle(self, log: LogId, segment: int, producer: bytes, epoch: int) -> SettledOutcome:
        """See `AppendTarget`. Cancelling is safe."""
        if not self._peer.connected or len(self._asked) - self._appends >= SETTLES_MAX:
            return NotHere()
        waiter: Future[SettledOutcome] = self._loop.create_future()

        def told(outcome: Outcome | Settled) -> None:
            if waiter.done():
                return
            if isinstance(outcome, Settled | Sealed | WrongSegment | NotHere | PerdureError):
                waiter.set_result(outcome)
            else:
                waiter.set_result(NotHere())  # The connection was lost.

        self._send(Settle(self._next_number(), log, segment, producer, epoch), told, 0)
        return await waiter

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _send(self, request: Request, answered: _Answered, size: int) -> None:
        self._asked[request.number] = answered, size
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(request)

    def _flush(self) -> None:
        requests, self._unsent = self._unsent, []
        for carried, message in encode(requests):
            if not self._peer.send(message):
                for request in carried:
                    self._answer(request.number, NotHere())

    def _answer(self, number: int, outcome: Outcome | Settled) -> None:
        asked = self._asked.pop(number, None)
        if asked is None:
            return
        answered, size = asked
        if size:
            self._appends -= 1
            self._bytes -= size
        answered(outcome)

    # The peer's side -----------------------------------------------------------------------------

    def connected(self) -> None:
        """A connection was made; what is sent from now on goes over it."""

    def received(self, message: bytes) -> None:
        """Hand out the answers in a message. Raises MalformedMessageError."""
        for reply in decode_replies(message):
            self._answer(reply.number, self._outcome(reply))

    def _outcome(self, reply: Reply) -> Outcome | Settled:
        return error_of(self.node, reply) if isinstance(reply, Refused) else reply.outcome

    def lost(self) -> None:
        """The connection is gone: nobody gets an answer over it any more."""
        unsent, self._unsent = self._unsent, []
        for request in unsent:
            self._answer(request.number, NotHere())
        doubt = Indeterminate(
            f"the connection to node {self.node} was lost before the answer was here"
        )
        for number in list(self._asked):
            self._answer(number, doubt)


def _tell(told: Told, outcome: Outcome | Settled) -> None:
    """An append that is answered with Settled was answered by a bug: it may be in the log."""
    if isinstance(outcome, Settled):
        outcome = Indeterminate("the answer is not one to an append")
    told(outcome)
