"""LossyNetwork: connections that lose, repeat, delay and overtake messages, and cuts one way only.

That is more than the Transport port allows: the store has to be right without its promises, too.
Only the first message each way, the greeting, is spared; without it nobody would ever meet.
"""

import zlib
from dataclasses import dataclass
from typing import Any

from perdure.core.errors import TransportError
from perdure.core.net.inbox import Inbox
from perdure.core.net.transport import MESSAGE_BYTES_MAX, ConnectionHandler
from perdure.core.tasks import TaskScope
from perdure.testing.simulation.chance import Chance
from perdure.testing.simulation.loop import SimulationLoop
from perdure.testing.simulation.trace import Trace

MS = 1_000_000


@dataclass(slots=True)
class Weather:
    """How bad the lines are."""

    lost: float = 0.0
    repeated: float = 0.0
    delay_ns_max: int = 2 * MS


class LossyNetwork:
    """Who listens where, which ways are cut, who is frozen."""

    def __init__(self, loop: SimulationLoop, trace: Trace, chance: Chance) -> None:
        """Start with fair weather."""
        self.loop = loop
        self.trace = trace
        self.chance = chance
        self.weather = Weather()
        self.cuts: dict[tuple[str, str], None] = {}
        # Ways on which everything takes so much longer.
        self.lags: dict[tuple[str, str], int] = {}
        self.frozen: dict[str, None] = {}
        self.listeners: dict[str, LossyListener] = {}
        self.ends: dict[LossyConnection, None] = {}
        self._held: list[tuple[LossyConnection, bytes | None]] = []

    def transport(self, name: str) -> "LossyTransport":
        """The transport of one party."""
        return LossyTransport(self, name)

    def thaw(self, name: str) -> None:
        """Deliver what was held back from and to a party."""
        self.frozen.pop(name, None)
        held, self._held = self._held, []
        for end, message in held:
            self.arrive(end, message)

    def heal(self) -> None:
        """Fair weather, and everybody reaches everybody."""
        self.weather = Weather()
        self.cuts.clear()
        self.lags.clear()
        for name in list(self.frozen):
            self.thaw(name)

    def crash(self, name: str) -> None:
        """A party is gone with its connections; the other ends hear of it, sooner or later."""
        for end in [end for end in self.ends if end.owner == name]:
            end.drop()

    def travel(self, sender: "LossyConnection", message: bytes | None, *, spared: bool) -> None:
        """Send a message on its way, once, twice or not at all."""
        way = (sender.owner, sender.other.owner)
        what = "the end" if message is None else f"{zlib.crc32(message):08x} of {len(message)}"
        copies = 1
        if way in self.cuts or (not spared and self.chance.happens(self.weather.lost)):
            copies = 0
        elif not spared and self.chance.happens(self.weather.repeated):
            copies = 2
        self.trace.add(way[0], f"-> {way[1]}: {what}, {copies} times")
        for _ in range(copies):
            delay_ns = int(self.chance.fraction() * self.weather.delay_ns_max)
            due_ns = self.loop.now_ns + delay_ns + self.lags.get(way, 0)
            self.loop.call_at_ns(due_ns, self.arrive, sender.other, message)

    def arrive(self, end: "LossyConnection", message: bytes | None) -> None:
        """Hand over what has travelled, unless it waits for a frozen party."""
        if end.owner in self.frozen or end.other.owner in self.frozen:
            self._held.append((end, message))
        elif message is None:
            end.drop()
        else:
            end.inbox.deliver(message)


class LossyConnection:
    """One end; see `core.net.transport.Connection`."""

    def __init__(self, network: LossyNetwork, owner: str, peer: str) -> None:
        """Use `LossyTransport.connect`."""
        self.network = network
        self.owner = owner
        self.peer = peer
        self.other = self
        self.inbox = Inbox(MESSAGE_BYTES_MAX)
        self.is_open = True
        self.greeted = False
        network.ends[self] = None

    @property
    def queued_bytes(self) -> int:
        """Nothing waits here."""
        return 0

    def send(self, message: bytes) -> None:
        """Hand over one message. Raises TransportError when closed."""
        if not self.is_open:
            raise TransportError(f"the connection to {self.peer} is closed: connect again")
        spared, self.greeted = not self.greeted, True
        self.network.travel(self, message, spared=spared)

    async def receive(self) -> bytes | None:
        """The next message, or None at the end."""
        return await self.inbox.receive()

    async def close(self) -> None:
        """Close; the other end may hear of it."""
        self.drop()

    def drop(self) -> None:
        """Be closed at once."""
        if self.is_open:
            self.is_open = False
            self.inbox.end(drop=True)
            self.network.ends.pop(self, None)
            self.network.travel(self, None, spared=False)


class LossyListener:
    """An address that takes connections."""

    def __init__(
        self,
        network: LossyNetwork,
        owner: str,
        address: str,
        handlers: dict[str, ConnectionHandler],
    ) -> None:
        """Use `LossyTransport.listen`."""
        assert address not in network.listeners, address
        network.listeners[address] = self
        self.network = network
        self.owner = owner
        self.address = address
        self.handlers = handlers
        self.scope = TaskScope(f"listener {address}")

    async def close(self, grace_seconds: float = 1.0) -> None:
        """Stop at once."""
        self.release()
        await self.scope.close()

    def release(self) -> None:
        """Take no connection any more, and end the handlers of those that are there."""
        self.network.listeners.pop(self.address, None)
        self.scope.cancel()


class LossyTransport:
    """The Transport port of one party."""

    def __init__(self, network: LossyNetwork, name: str) -> None:
        """Use `LossyNetwork.transport`."""
        self.network = network
        self.name = name

    async def listen(self, address: str, handlers: dict[str, ConnectionHandler]) -> LossyListener:
        """Take an address. Never waits."""
        return LossyListener(self.network, self.name, address, handlers)

    async def connect(self, address: str, service: str) -> Any:
        """Open a connection. Raises TransportError."""
        network = self.network
        await network.loop.pause(int(network.chance.fraction() * network.weather.delay_ns_max))
        listener = network.listeners.get(address)
        ways = (
            ()
            if listener is None
            else (
                (self.name, listener.owner),
                (listener.owner, self.name),
            )
        )
        if any(way in network.cuts for way in ways) or (
            listener is not None and {self.name, listener.owner} & network.frozen.keys()
        ):
            await network.loop.pause(300 * MS)
            raise TransportError(f"nobody at {address} answers")
        if listener is None:
            raise TransportError(f"nobody listens at {address}")
        near = LossyConnection(network, self.name, address)
        far = LossyConnection(network, listener.owner, self.name)
        near.other, far.other = far, near
        listener.scope.spawn(listener.handlers[service](far), name=f"from {self.name}")
        return near
