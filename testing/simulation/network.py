"""SimulationNetwork: the Transport port between parts of one loop, late, cut and frozen by seed.

Each direction of a connection delivers in order, each message after a drawn delay. A cut loses
what is under way, and the two ends hear of it at different times. A frozen party neither gets nor
gives anything until it thaws; then everything that was held back arrives.
"""

import logging
import zlib
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any, Final

from ...core.errors import TransportError
from ...core.net.bindings import Bindings
from ...core.net.inbox import Inbox
from ...core.net.transport import MESSAGE_BYTES_MAX, ConnectionHandler, not_sendable
from ...core.tasks import FailureCallback, TaskScope
from .chance import Chance
from .loop import SimulationLoop
from .processes import outside
from .trace import Trace

_LOG: Final = logging.getLogger(__name__)
_HANDLER_END_SECONDS: Final = 1.0


class SimulationNetwork:
    """Who listens where, how slow the lines are, who is frozen."""

    def __init__(
        self,
        loop: SimulationLoop,
        *,
        trace: Trace,
        chance: Chance,
        delay_ns: tuple[int, int] = (0, 0),
        cut_heard_ns_max: int = 0,
        on_failure: FailureCallback | None = None,
    ) -> None:
        """Draw the delay of each message from `delay_ns`, least and most.

        Args:
            on_failure: told what a connection's handler raised; it is logged unless given.
            cut_heard_ns_max: the longest time until an end hears that its connection was cut.
        """
        self.loop = loop
        self.on_failure = on_failure or _log_failure
        self.trace = trace
        self._chance = chance
        self._delay_ns = delay_ns
        self._cut_heard_ns_max = cut_heard_ns_max
        self._bindings: Bindings[SimulationListener] = Bindings("this network")
        self._connections: dict[SimulationConnection, None] = {}
        self._frozen: dict[str, None] = {}
        # (from, to): nothing gets through in this direction.
        self._blocked: dict[tuple[str, str], None] = {}

    def transport(self, name: str) -> "SimulationTransport":
        """The transport of one party; its name is what `freeze` and `cut` take."""
        return SimulationTransport(self, name)

    def delay_ns(self) -> int:
        """The delay of the next message, drawn."""
        least, most = self._delay_ns
        return least if least == most else self._chance.between(least, most)

    def frozen(self, connection: "SimulationConnection") -> bool:
        """Whether nothing arrives at this end: one of both is frozen, or the way is blocked."""
        return (
            connection.owner in self._frozen
            or connection.peer_owner in self._frozen
            or (connection.peer_owner, connection.owner) in self._blocked
        )

    def apart(self, name: str, other: str) -> bool:
        """Whether two parties cannot make a connection: one way between them is blocked."""
        return (name, other) in self._blocked or (other, name) in self._blocked

    def block(self, sender: str, receiver: str) -> None:
        """Hold back what one party sends to another; the other way stays open."""
        self._blocked[sender, receiver] = None

    def unblock(self, sender: str, receiver: str) -> None:
        """Deliver what was held back."""
        if (sender, receiver) in self._blocked:
            del self._blocked[sender, receiver]
            self._pump_all()

    def freeze(self, name: str) -> None:
        """Hold back everything from and to a party."""
        self._frozen[name] = None

    def thaw(self, name: str) -> None:
        """Deliver what was held back from and to a party."""
        self._frozen.pop(name, None)
        self._pump_all()

    def _pump_all(self) -> None:
        for connection in list(self._connections):
            connection.pump()

    def cut(self, name: str, *, late: bool = False) -> int:
        """Cut every connection of a party; how many there were. See `SimulationConnection.cut`."""
        found = [end for end in self._connections if end.owner == name]
        for connection in found:
            connection.cut(late=late)
        return len(found)

    def process_gone(self, name: str, *, late: bool) -> None:
        """A party's process was killed: nobody listens there, and its connections are cut."""
        for address, listener in self._bindings.all():
            if listener.owner == name:
                self._bindings.release(address, listener)
        self.cut(name, late=late)

    def heal(self) -> None:
        """Thaw everybody, and let everything through."""
        for name in list(self._frozen):
            self.thaw(name)
        for sender, receiver in list(self._blocked):
            self.unblock(sender, receiver)

    def _cut_heard_ns(self) -> int:
        return int(self._chance.fraction() * self._cut_heard_ns_max)


class SimulationConnection:
    """One end of a connection; see `core.net.transport.Connection`.

    Attributes:
        owner: the party that holds this end.
        peer_owner: the party at the other end.
    """

    def __init__(self, network: SimulationNetwork, owner: str, peer_owner: str, peer: str) -> None:
        """Take the names; use `SimulationTransport.connect`."""
        self._network = network
        self.owner = owner
        self.peer_owner = peer_owner
        self._peer = peer
        self._inbox = Inbox(MESSAGE_BYTES_MAX)
        self._other: SimulationConnection = self
        # What is under way to this end: (time of arrival, message; None is the end).
        self._arriving: deque[tuple[int, bytes | None]] = deque()
        self._arriving_bytes = 0
        self._open = True
        self._severed = False
        network._connections[self] = None

    @property
    def peer(self) -> str:
        """Where the other end is, for logs."""
        return self._peer

    @property
    def queued_bytes(self) -> int:
        """Bytes sent that the other end has not received yet."""
        if not self._open:
            return 0
        return self._other._arriving_bytes + self._other._inbox.bytes_waiting

    def send(self, message: bytes) -> None:
        """Hand over one message. Raises MessageTooLargeError, or TransportError when closed."""
        if not self._open or len(message) > MESSAGE_BYTES_MAX:
            raise not_sendable(self._peer, message, is_open=self._open)
        if self._severed:
            return  # nobody has told us yet that it goes nowhere
        network = self._network
        network.trace.add(
            self.owner,
            f"-> {self.peer_owner}: {len(message)} bytes, {zlib.crc32(message):08x}",
        )
        self._other._arrive(message, network.delay_ns())

    async def receive(self) -> bytes | None:
        """The next message, or None at the end of the stream. Cancelling is safe."""
        return await self._inbox.receive()

    async def close(self) -> None:
        """Close both directions; the other end still receives what was sent. Never waits."""
        if not self._open:
            return
        self._open = False
        self._drop_arriving()
        self._inbox.end(drop=True)
        self._forget()
        if not self._severed:
            self._other._arrive(None, self._network.delay_ns())

    def cut(self, *, late: bool = False) -> None:
        """Lose the connection with everything under way; each end hears of it in its time.

        With `late`, what is under way still arrives, perhaps after what a newer connection brings.
        """
        for end in (self, self._other):
            if end._open and not end._severed:
                end._severed = True
                if not late:
                    end._drop_arriving()
                end._arrive(None, self._network._cut_heard_ns())

    def pump(self) -> None:
        """Take in what has arrived by now, unless an end is frozen."""
        arriving = self._arriving
        now_ns = self._network.loop.now_ns
        while arriving and arriving[0][0] <= now_ns and not self._network.frozen(self):
            _, message = arriving.popleft()
            if message is None:
                self._drop_arriving()
                self._open = False
                self._inbox.end(drop=self._severed)
                self._forget()
                return
            self._arriving_bytes -= len(message)
            self._inbox.deliver(message)

    def _arrive(self, message: bytes | None, delay_ns: int) -> None:
        if not self._open:
            return
        loop = self._network.loop
        arriving = self._arriving
        # In order: nothing overtakes what was sent before.
        due_ns = max(loop.now_ns + delay_ns, arriving[-1][0] if arriving else 0)
        arriving.append((due_ns, message))
        if message is not None:
            self._arriving_bytes += len(message)
        # Also when the sender is no more.
        if delay_ns:
            loop.call_at_ns(due_ns, self.pump, context=outside())
        else:
            loop.call_soon(self.pump, context=outside())

    def _drop_arriving(self) -> None:
        self._arriving.clear()
        self._arriving_bytes = 0

    def _forget(self) -> None:
        self._network._connections.pop(self, None)


class SimulationListener:
    """An address that takes connections; see `core.net.transport.Listener`."""

    def __init__(
        self,
        network: SimulationNetwork,
        owner: str,
        address: str,
        handlers: dict[str, ConnectionHandler],
    ) -> None:
        """Bind; use `SimulationTransport.listen`."""
        self._network = network
        self.owner = owner
        self._address = address = network._bindings.bind(address, self)
        self._handlers = dict(handlers)
        self._accepted: dict[SimulationConnection, None] = {}
        self._scope = TaskScope(f"listener {address}", on_failure=network.on_failure)
        self._context = copy_context()

    @property
    def address(self) -> str:
        """The ``host:port`` it is known by."""
        return self._address

    async def close(self, grace_seconds: float = 1.0) -> None:
        """Stop accepting, give open connections `grace_seconds` to end, then drop them."""
        self._release()
        try:
            await self._scope.wait(grace_seconds)
        finally:
            for connection in list(self._accepted):
                await connection.close()
        await self._scope.wait(_HANDLER_END_SECONDS)
        await self._scope.close()

    def abort(self) -> Callable[[], Coroutine[Any, Any, None]]:
        """Be gone at once, as with the process; gives what waits for the handlers to unwind."""
        self._release()
        for connection in list(self._accepted):
            connection.cut()
        self._scope.cancel()
        return self._scope.close

    def _release(self) -> None:
        self._network._bindings.release(self._address, self)

    def accept(self, service: str, client: str) -> SimulationConnection:
        """The client's end of a new connection. Raises TransportError for an unknown service."""
        handler = self._handlers.get(service)
        if handler is None:
            raise TransportError(f"nobody at {self._address} offers the service {service!r}")
        near = SimulationConnection(self._network, client, self.owner, self._address)
        far = SimulationConnection(self._network, self.owner, client, client)
        near._other, far._other = far, near
        self._accepted[far] = None
        # It runs in the process of who listens, not in that of who calls.
        context = self._context.copy()
        context.run(self._scope.spawn, self._run(handler, far), name=f"{service} from {client}")
        return near

    async def _run(self, handler: ConnectionHandler, connection: SimulationConnection) -> None:
        try:
            await handler(connection)
        except TransportError:
            if connection._open:
                raise
            # It was about to send when the other end went away, as on any transport.
        finally:
            self._accepted.pop(connection, None)
            await connection.close()


class SimulationTransport:
    """The Transport port of one party."""

    def __init__(self, network: SimulationNetwork, name: str) -> None:
        """Use `SimulationNetwork.transport`."""
        self._network = network
        self._name = name

    async def listen(
        self, address: str, handlers: dict[str, ConnectionHandler]
    ) -> SimulationListener:
        """Take ``host:port``; port 0 takes a free one. Raises AddressInUseError. Never waits."""
        return SimulationListener(self._network, self._name, address, handlers)

    async def connect(self, address: str, service: str) -> SimulationConnection:
        """Open a connection after two delays. Raises TransportError. Safe to cancel."""
        network = self._network
        delay_ns = network.delay_ns() + network.delay_ns()
        if delay_ns:
            await network.loop.pause(delay_ns)
        listener = network._bindings.reach(address)
        if network.apart(self._name, listener.owner):
            raise TransportError(f"cannot connect to {address}: nobody answers")
        return listener.accept(service, self._name)


def _log_failure(failure: BaseException) -> None:
    _LOG.error("the handler of a connection failed", exc_info=failure)
