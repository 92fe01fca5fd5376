"""ClusterNetwork: the simulated network with links that are cut one way, walls and dark machines.

Messages over a cut link wait, as TCP repeats them, and arrive when it is whole again. A dial over
one gives up after five seconds. Behind a wall a dial is refused at once, although somebody listens.
A dark machine gives and takes nothing and resets nothing.
"""

from typing import Final

from ....core.errors import NobodyListensError, TransportError
from ....core.net.transport import Connection, ConnectionHandler
from ..chance import Chance
from ..loop import SimulationLoop
from ..network import (
    SimulationConnection,
    SimulationListener,
    SimulationNetwork,
    SimulationTransport,
)
from ..trace import Trace

PORT: Final = 5122
_LOOK_NS: Final = 20_000_000
_DIAL_NS_MAX: Final = 5_000_000_000


class ClusterNetwork(SimulationNetwork):
    """Who can reach whom. Directions are pairs (from, to) of parties' names.

    Attributes:
        cut_links: directions over which nothing arrives.
        walls: directions in which a dial is refused.
        dark: parties whose machine is off.
        loss: how likely a message is lost on its own, and how likely it comes twice.
    """

    def __init__(
        self,
        loop: SimulationLoop,
        *,
        trace: Trace,
        chance: Chance,
        delay_ns: tuple[int, int],
        cut_heard_ns_max: int,
        loss: float,
    ) -> None:
        """See `SimulationNetwork`."""
        super().__init__(
            loop, trace=trace, chance=chance, delay_ns=delay_ns, cut_heard_ns_max=cut_heard_ns_max
        )
        self.cut_links: dict[tuple[str, str], None] = {}
        self.walls: dict[tuple[str, str], None] = {}
        self.dark: dict[str, None] = {}
        self.loss = loss

    def transport(self, name: str) -> "ClusterTransport":
        """The transport of one party."""
        return ClusterTransport(self, name)

    def frozen(self, connection: SimulationConnection) -> bool:
        """Whether nothing arrives at this end now."""
        return (
            super().frozen(connection)
            or (connection.peer_owner, connection.owner) in self.cut_links
            or connection.owner in self.dark
            or connection.peer_owner in self.dark
        )

    def is_frozen(self, name: str) -> bool:
        """Whether a party is paused."""
        return name in self._frozen

    def reaches(self, sender: str, to: str) -> bool:
        """Whether what one party sends arrives at the other, should that one run."""
        return (sender, to) not in self.cut_links and not {sender, to} & self.dark.keys()

    def pump(self) -> None:
        """Deliver what waited for a link that is whole again."""
        for connection in list(self._connections):
            connection.pump()

    def cut_pair(self, one: str, other: str) -> None:
        """Lose the connections between two parties; both hear of it in their time."""
        for end in list(self._connections):
            if (end.owner, end.peer_owner) == (one, other):
                end.cut()

    def loses(self) -> bool:
        """Whether the next message is lost, drawn."""
        return self.loss > 0 and self._chance.happens(self.loss)

    def doubles(self) -> bool:
        """Whether the next message comes twice, drawn."""
        return self.loss > 0 and self._chance.happens(self.loss)


class ClusterTransport(SimulationTransport):
    """The Transport port of one party in a `ClusterNetwork`."""

    def __init__(self, network: ClusterNetwork, name: str) -> None:
        """Use `ClusterNetwork.transport`."""
        super().__init__(network, name)
        self._cluster = network

    async def listen(
        self, address: str, handlers: dict[str, ConnectionHandler]
    ) -> SimulationListener:
        """See `SimulationTransport`."""
        return await super().listen(address, handlers)

    async def connect(self, address: str, service: str) -> "Connection":  # type: ignore[override]
        """Open a connection, if both directions let it. Raises TransportError."""
        network, name = self._cluster, self._name
        to = address.partition(":")[0]
        try:
            await self._wait_for_link(to)
            if (name, to) in network.walls:
                raise NobodyListensError(f"cannot connect to {address}: a wall refuses it")
            connection = await super().connect(address, service)
        finally:
            # Whoever is paused hears of it afterwards.
            while network.is_frozen(name):
                await network.loop.pause(_LOOK_NS)
        return LossyConnection(network, connection)

    async def _wait_for_link(self, to: str) -> None:
        network, name = self._cluster, self._name
        until_ns = network.loop.now_ns + _DIAL_NS_MAX
        while not (network.reaches(name, to) and network.reaches(to, name)):
            if network.loop.now_ns >= until_ns:
                raise TransportError(f"cannot connect to {to}: nobody answers")
            await network.loop.pause(_LOOK_NS)


class LossyConnection:
    """The dialled end of a connection, whose messages are lost or come twice now and then.

    No transport does that; what runs over it here bears it all the same. The greeting is spared.
    """

    def __init__(self, network: ClusterNetwork, connection: SimulationConnection) -> None:
        """Wrap a connection."""
        self._network = network
        self._connection = connection
        self._greeted = False

    @property
    def peer(self) -> str:
        """Where the other end is, for logs."""
        return self._connection.peer

    @property
    def queued_bytes(self) -> int:
        """Bytes sent that the other end has not received yet."""
        return self._connection.queued_bytes

    def send(self, message: bytes) -> None:
        """Hand over one message: once, twice or not at all."""
        if not self._greeted:
            self._greeted = True
        elif self._network.loses():
            return
        elif self._network.doubles():
            self._connection.send(message)
        self._connection.send(message)

    async def receive(self) -> bytes | None:
        """The next message, or None at the end of the stream. Cancelling is safe."""
        return await self._connection.receive()

    async def close(self) -> None:
        """Close both directions."""
        await self._connection.close()
