"""The Transport port: ordered streams of byte messages between two named ends."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

from ..errors import MessageTooLargeError, PerdureError, TransportError

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
"""No message may be longer; `Connection.send` refuses it and a peer's is not delivered."""


def not_sendable(peer: str, message: bytes, *, is_open: bool) -> PerdureError:
    """Why a connection to `peer` does not take a message: it is closed, or this is too long."""
    if not is_open:
        return TransportError(f"the connection to {peer} is closed: connect again")
    return MessageTooLargeError(
        f"a message of {len(message)} bytes is over the limit of {MESSAGE_BYTES_MAX}"
    )


class Connection(Protocol):
    """One open stream of messages in both directions.

    Contract (`tests/conformance/transport.py` runs for every implementation):

    - Messages arrive whole, once, in the order sent, or not at all: when the stream breaks, the
      receiver got a prefix of what was sent.
    - `send` never waits: it queues, and everything queued within one turn of the event loop may
      travel as it is or be delayed by flow control; `queued_bytes` tells how much has not left.
    - `receive` gives the next message, or None once the peer has closed or the connection is lost
      and everything that arrived before has been given out. Cancelling it loses no message.
    - `close` lets go of both directions after what is queued has been sent, waiting at most a
      second for it; closing twice does nothing; `send` on a closed connection raises
      `TransportError`.
    """

    @property
    def peer(self) -> str:
        """Where the other end is, for logs."""
        ...

    @property
    def queued_bytes(self) -> int:
        """Bytes taken by `send` that the transport has not accepted yet."""
        ...

    def send(self, message: bytes) -> None:
        """Queue one message. Raises MessageTooLargeError, or TransportError when closed."""
        ...

    async def receive(self) -> bytes | None:
        """The next message, or None at the end of the stream. Cancelling is safe."""
        ...

    async def close(self) -> None:
        """Send what is queued, then close. Safe to cancel: the connection then just drops."""
        ...


ConnectionHandler: TypeAlias = Callable[[Connection], Awaitable[None]]
"""Runs for the life of one accepted connection; when it returns, the connection is closed."""


class Listener(Protocol):
    """A bound address that takes connections until it is closed."""

    @property
    def address(self) -> str:
        """The bound ``host:port``, with the real port where 0 was asked for."""
        ...

    async def close(self, grace_seconds: float = 1.0) -> None:
        """Stop accepting, give open connections `grace_seconds` to end, then drop them."""
        ...


class Transport(Protocol):
    """Makes connections and listeners for one named service (for example ``worker-session``)."""

    async def listen(self, address: str, handlers: dict[str, ConnectionHandler]) -> Listener:
        """Bind ``host:port`` and run a handler, by service name, per connection.

        Raises AddressInUseError when the port is taken.
        """
        ...

    async def connect(self, address: str, service: str) -> Connection:
        """Open a connection to a service of a listener.

        Raises TransportError when nobody answers within five seconds, and of it
        NobodyListensError only when the machine at `address` says that no process listens there; an
        implementation that cannot tell raises the former. Safe to cancel.
        """
        ...
