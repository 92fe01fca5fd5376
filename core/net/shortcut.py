"""ShortcutTransport: a process that connects to itself does so without a socket.

A node is a client of its own servers as any other node is: of its log-server and of its metadata
server. Over a socket each of those messages would cost system calls and turns of the event loop
that nobody needs. Who listens and who connects does not notice: both keep the contract.
"""

from asyncio import TaskGroup

from .inproc import InProcListener, InProcNetwork, InProcTransport
from .transport import Connection, ConnectionHandler, Listener, Transport


class ShortcutTransport:
    """Another transport, and a short way to the addresses that listen in this process."""

    def __init__(self, outer: Transport) -> None:
        """Reach all others by `outer`."""
        self._outer = outer
        self._network = InProcNetwork()
        self._inner = InProcTransport(self._network, "this process")

    async def listen(self, address: str, handlers: dict[str, ConnectionHandler]) -> Listener:
        """Listen for others and for this process. Raises AddressInUseError. Safe to cancel."""
        listener = await self._outer.listen(address, handlers)
        # Nothing waits from here on, so that nobody finds the one without the other.
        return _Both(listener, InProcListener(self._network, listener.address, handlers))

    async def connect(self, address: str, service: str) -> Connection:
        """Open a connection; see `Transport`. Cancelling is safe."""
        if self._network.listens(address):
            return await self._inner.connect(address, service)
        return await self._outer.connect(address, service)


class _Both:
    """Two listeners of one address."""

    def __init__(self, outer: Listener, inner: InProcListener) -> None:
        self._outer = outer
        self._inner = inner

    @property
    def address(self) -> str:
        """The address that others see."""
        return self._outer.address

    async def close(self, grace_seconds: float = 1.0) -> None:
        """Stop accepting; give open connections `grace_seconds` to end, then drop them.

        Cancelling is safe: the connections are dropped at once.
        """
        async with TaskGroup() as group:
            group.create_task(self._outer.close(grace_seconds))
            group.create_task(self._inner.close(grace_seconds))
