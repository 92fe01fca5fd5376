"""Connections to other nodes: the port, and an adapter over a transport."""

from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Final, Protocol

from ...core.errors import TransportError
from ...core.net.transport import Connection, Transport
from ...core.random import Random
from ...core.retry import RetryPolicy
from ...core.tasks import TaskScope
from ...core.waiters import Waiters

RECONNECT: Final = RetryPolicy(
    initial_interval_ns=20_000_000, factor=2.0, interval_max_ns=1_000_000_000, attempts_max=None
)


class PeerListener(Protocol):
    """What is done with a peer's connection. Called on the event loop; must not raise."""

    def connected(self) -> None:
        """A connection was made; `Peer.send` works from now on."""
        ...

    def received(self, message: bytes) -> None:
        """The peer sent a message."""
        ...

    def lost(self) -> None:
        """The connection is gone; whether the last messages arrived is unknown."""
        ...


class Peer(Protocol):
    """This node's connection to another one for one service, over all connections it takes."""

    listener: PeerListener | None

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as this node knows."""
        ...

    @property
    def queued_bytes(self) -> int:
        """Bytes sent that have not left this node."""
        ...

    def send(self, message: bytes) -> bool:
        """Queue a message; False when there is no connection. Raises MessageTooLargeError."""
        ...

    def drop(self) -> None:
        """Let go of the connection, whose other end breaks the rules; another one is made.

        To be called by the listener while it takes a message.
        """
        ...


class Peers(Protocol):
    """The connections of this node for one service."""

    def peer(self, node: str) -> Peer:
        """The peer of this name; from the first call on it is connected to, again and again."""
        ...


class TransportPeer:
    """A `Peer` over a transport; use `TransportPeers.peer`."""

    def __init__(self, peers: "TransportPeers", node: str) -> None:
        """Take the name."""
        self._peers = peers
        self._node = node
        self.listener: PeerListener | None = None
        self._connection: Connection | None = None
        self._dropped = False

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as this node knows."""
        return self._connection is not None

    @property
    def queued_bytes(self) -> int:
        """Bytes sent that have not left this node."""
        return 0 if self._connection is None else self._connection.queued_bytes

    def send(self, message: bytes) -> bool:
        """Queue a message; False when there is no connection. Raises MessageTooLargeError."""
        if self._connection is None:
            return False
        try:
            self._connection.send(message)
        except TransportError:
            return False  # Its end is about to be received.
        return True

    def drop(self) -> None:
        """Let go of the connection; another one is made. To be called while a message is taken."""
        self._dropped = True

    async def run(self) -> None:
        """Connect and receive, again and again. Cancelling is safe."""
        failures = 0
        peers = self._peers
        while True:
            address = peers.address_of(self._node)
            if address is not None and await self._live(address):
                failures = 0
            failures += 1
            delay_ns = RECONNECT.delay_ns(failures, peers.random)
            assert delay_ns is not None, "reconnecting never gives up"
            await Waiters().wait(delay_ns / 1e9)

    async def _live(self, address: str) -> bool:
        """One connection from its making to its end; whether anything came of it."""
        peers = self._peers
        try:
            connection = await peers.transport.connect(address, peers.service)
        except TransportError:
            return False
        self._dropped = served = False
        self._connection = connection
        try:
            if self.listener is not None:
                self.listener.connected()
            while not self._dropped:
                message = await connection.receive()
                if message is None:
                    break
                served = True
                if self.listener is not None:
                    self.listener.received(message)
        finally:
            self._connection = None
            if self.listener is not None:
                self.listener.lost()
            await connection.close()
        return served


class TransportPeers:
    """`Peers` over a transport.

    Attributes:
        transport, service, address_of, random: as given.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        service: str,
        address_of: Callable[[str], str | None],
        loop: AbstractEventLoop,
        random: Random,
    ) -> None:
        """Connect to nobody yet.

        Args:
            address_of: the address of a node as it is now, None while nobody knows it.
            loop: told when a connection's task fails, which is a bug.
            random: for the jitter of the back-off.
        """
        self.transport = transport
        self.service = service
        self.address_of = address_of
        self.random = random
        self._loop = loop
        self._peers: dict[str, TransportPeer] = {}
        self._scope = TaskScope(f"peers for {service}", on_failure=self._failed)

    def peer(self, node: str) -> TransportPeer:
        """The peer of this name; from the first call on it is connected to, again and again."""
        found = self._peers.get(node)
        if found is None:
            found = self._peers[node] = TransportPeer(self, node)
            self._scope.spawn(found.run(), name=node)
        return found

    async def close(self) -> None:
        """Let go of all connections. Cancelling is safe: they are dropped all the same."""
        await self._scope.close()

    def _failed(self, failure: BaseException) -> None:
        self._loop.call_exception_handler(
            {"message": "a connection to a peer failed", "exception": failure}
        )
