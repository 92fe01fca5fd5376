"""InProcTransport: connections between parts of one process, which a test can cut."""

import logging
from functools import partial

from ..errors import TransportError
from ..tasks import TaskScope
from .bindings import Bindings
from .inbox import Inbox
from .transport import MESSAGE_BYTES_MAX, ConnectionHandler, not_sendable

_LOG = logging.getLogger(__name__)
# How long handlers may take to end by themselves after their connections were dropped.
_HANDLER_END_SECONDS = 1.0


class InProcNetwork:
    """What the transports of one process share: who listens where.

    Not thread-safe: everything that uses one network runs on one event loop.
    """

    def __init__(self) -> None:
        """Start with nobody listening."""
        self._bindings: Bindings[InProcListener] = Bindings("this process")

    def listens(self, address: str) -> bool:
        """Whether somebody listens at the address."""
        return self._bindings.find(address) is not None

    def cut(self, address: str) -> None:
        """Lose every open connection of the listener at `address`; it goes on listening."""
        listener = self._bindings.find(address)
        if listener is not None:
            listener.cut()


class InProcConnection:
    """One end of a connection within the process; see `transport.Connection`."""

    def __init__(self, peer: str) -> None:
        """Take the other end's name; use `InProcTransport.connect`."""
        self._peer = peer
        self._inbox = Inbox(MESSAGE_BYTES_MAX)
        self._other: InProcConnection = self
        self._open = True

    @property
    def peer(self) -> str:
        """Where the other end is, for logs."""
        return self._peer

    @property
    def is_open(self) -> bool:
        """Whether neither end has closed it and nobody has cut it."""
        return self._open

    @property
    def queued_bytes(self) -> int:
        """Bytes sent that the other end has not received yet."""
        return self._other._inbox.bytes_waiting if self._open else 0

    def send(self, message: bytes) -> None:
        """Hand over one message. Raises MessageTooLargeError, or TransportError when closed."""
        if not self._open or len(message) > MESSAGE_BYTES_MAX:
            raise not_sendable(self._peer, message, is_open=self._open)
        self._other._inbox.deliver(message)

    async def receive(self) -> bytes | None:
        """The next message, or None at the end of the stream. Cancelling is safe."""
        return await self._inbox.receive()

    async def close(self) -> None:
        """Close both directions; the other end still receives what was sent. Never waits."""
        self._open = self._other._open = False
        self._inbox.end(drop=True)
        self._other._inbox.end()

    def cut(self) -> None:
        """Lose the connection: both ends see its end and nothing that they did not receive yet."""
        self._open = self._other._open = False
        self._inbox.end(drop=True)
        self._other._inbox.end(drop=True)


class InProcListener:
    """A name in the network that takes connections; see `transport.Listener`."""

    def __init__(
        self, network: InProcNetwork, address: str, handlers: dict[str, ConnectionHandler]
    ) -> None:
        """Bind; use `InProcTransport.listen`."""
        self._network = network
        self._handlers = dict(handlers)
        self._address = network._bindings.bind(address, self)
        self._connections: set[InProcConnection] = set()
        self._scope = TaskScope(
            f"listener {self._address}", on_failure=partial(_log_failure, self._address)
        )

    @property
    def address(self) -> str:
        """The ``host:port`` it is known by."""
        return self._address

    def cut(self) -> None:
        """Lose every open connection."""
        for connection in tuple(self._connections):
            connection.cut()

    async def close(self, grace_seconds: float = 1.0) -> None:
        """Stop accepting, give open connections `grace_seconds` to end, then drop them.

        Cancelling is safe: the connections are dropped at once.
        """
        self._network._bindings.release(self._address, self)
        try:
            await self._scope.wait(grace_seconds)
        finally:
            self.cut()
        await self._scope.wait(_HANDLER_END_SECONDS)
        await self._scope.close()

    def _accept(self, service: str, client: str) -> InProcConnection:
        handler = self._handlers.get(service)
        if handler is None:
            raise TransportError(f"nobody at {self._address} offers the service {service!r}")
        near, far = InProcConnection(self._address), InProcConnection(client)
        near._other, far._other = far, near
        self._connections.add(far)
        self._scope.spawn(self._run(handler, far), name=f"{service} from {client}")
        return near

    async def _run(self, handler: ConnectionHandler, connection: InProcConnection) -> None:
        try:
            await handler(connection)
        finally:
            self._connections.discard(connection)
            await connection.close()


class InProcTransport:
    """The Transport port within one process; all transports of one network reach each other."""

    def __init__(self, network: InProcNetwork, name: str = "in-process") -> None:
        """Take the shared network and the name that listeners see as their peer."""
        self._network = network
        self._name = name

    async def listen(self, address: str, handlers: dict[str, ConnectionHandler]) -> InProcListener:
        """Take the name ``host:port`` and run a handler, by service name, per connection.

        Port 0 takes a free one. Raises AddressInUseError. Never waits.
        """
        return InProcListener(self._network, address, handlers)

    async def connect(self, address: str, service: str) -> InProcConnection:
        """Open a connection to a service of a listener. Raises TransportError. Never waits."""
        return self._network._bindings.reach(address)._accept(service, self._name)


def _log_failure(address: str, failure: BaseException) -> None:
    _LOG.error("the handler of a connection at %s failed", address, exc_info=failure)
