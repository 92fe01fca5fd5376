"""Peers: lasting connections from this node to others, for one service between nodes.

Both ends introduce themselves with their first message: the cluster's fingerprint, the node's name
and its generation. A stranger is told so and let go. After that the messages are the service's own.
A lost connection is made again, with back-off, for as long as the peers are open; what was queued
on it is lost, and whoever sent it hears of the loss.
"""

import asyncio
import logging
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol, TypeAlias

import msgspec
import structlog

from ..errors import MalformedMessageError, TransportError
from ..random import Random
from ..retry import RetryPolicy
from ..tasks import TaskScope
from ..waiters import Waiters
from .decoding import decode_sent
from .transport import Connection, ConnectionHandler, Transport

VERSION: Final = 1
INTRODUCTION_SECONDS: Final = 5.0
"""How long the other end may take to say who it is."""

RECONNECT: Final = RetryPolicy(
    initial_interval_ns=20_000_000, factor=2.0, interval_max_ns=1_000_000_000, attempts_max=None
)

_LOG: Final = logging.getLogger(__name__)
_log = structlog.get_logger("peers")


class Introduction(msgspec.Struct, frozen=True, array_like=True):
    """Who is at one end of a connection between nodes; new fields go to the end with a default.

    Attributes:
        version: of this exchange.
        cluster: fingerprint of the cluster; empty is a cluster like any other.
        node: the node's name.
        generation: counts the lives of the node.
        refused: why this end does not want the other one, empty when it does.
    """

    version: int
    cluster: str
    node: str
    generation: int
    refused: str = ""


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Introduction).decode

PeerHandler: TypeAlias = Callable[[Introduction, Connection], Awaitable[None]]
"""Runs for the life of an accepted connection from a node of this cluster."""


class PeerListener(Protocol):
    """What a service does with a peer. Called on the event loop; raises only what is said."""

    def connected(self) -> None:
        """A connection was made and both ends know each other; `Peer.send` works from now on."""
        ...

    def received(self, message: bytes) -> None:
        """The peer sent a message.

        Raises MalformedMessageError for one that makes no sense: the connection is ended, and
        another one begun.
        """
        ...

    def lost(self) -> None:
        """The connection is gone; whether the last messages arrived is unknown."""
        ...


def introduced(me: Introduction, handler: PeerHandler) -> ConnectionHandler:
    """The handler of a listener's service that lets in nodes of the same cluster only."""

    async def accept(connection: Connection) -> None:
        try:
            them = await _first_message(connection)
            refused = _stranger(me, them)
            connection.send(_encode(msgspec.structs.replace(me, refused=refused)))
        except (TransportError, MalformedMessageError) as error:
            _LOG.debug("%s is let go: %s", connection.peer, error)
            return
        if refused:
            _LOG.warning("%s is let go: %s", connection.peer, refused)
            return
        await handler(them, connection)

    return accept


@contextmanager
def until_its_end(service: str, peer: str) -> Iterator[None]:
    """Around what a service does with a connection that another node has made.

    Ends it quietly when it is lost, as whoever made it hears of that; and with a word in the log
    when the other end breaks the rules, which MalformedMessageError in the body tells.
    """
    try:
        yield
    except MalformedMessageError as error:
        _rules_broken(service, peer, error)
    except TransportError:
        pass


def _rules_broken(service: str, peer: str, error: MalformedMessageError) -> None:
    _log.error(
        "a node breaks the rules and is let go",
        service=service,
        peer=peer,
        code=error.code,
        reason=str(error),
    )


def _stranger(me: Introduction, them: Introduction) -> str:
    if them.version != me.version:
        return f"node {me.node} introduces itself in version {me.version}, not {them.version}"
    if them.cluster != me.cluster:
        return f"node {me.node} is of cluster {me.cluster!r}, not {them.cluster!r}"
    return ""


async def _first_message(connection: Connection) -> Introduction:
    """Raises TransportError, MalformedMessageError."""
    try:
        async with asyncio.timeout(INTRODUCTION_SECONDS):
            message = await connection.receive()
    except TimeoutError:
        raise TransportError(
            f"{connection.peer} did not introduce itself within {INTRODUCTION_SECONDS:g} seconds"
        ) from None
    if message is None:
        raise TransportError(f"{connection.peer} closed the connection before it introduced itself")
    return decode_sent(_decode, message, f"{connection.peer} does not introduce itself as a node")


class Peer:
    """This node's connection to one other node, over all connections that it takes.

    Attributes:
        node: the other node's name.
        generation: of the other node, as it last introduced itself; 0 before it ever did.
        failure: why there is no connection; empty while there is one.
    """

    def __init__(self, peers: "Peers", node: str) -> None:
        """Use `Peers.peer`."""
        self._peers = peers
        self.node = node
        self.generation = 0
        self.failure = "it was not connected to yet"
        self.listener: PeerListener | None = None
        self._connection: Connection | None = None
        self._nudged = Waiters()
        self._met = Waiters()

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

    def nudge(self) -> None:
        """Try to connect now instead of after the back-off: the node is said to be there."""
        self._nudged.wake()

    async def wait_until_connected(self, timeout_seconds: float) -> bool:
        """Have a connection made now; False when the time is up first. Cancelling is safe."""
        if self._connection is None:
            self.nudge()
            await self._met.wait(timeout_seconds)
        return self._connection is not None

    async def _run(self) -> None:
        failures = 0
        while True:
            address = self._peers.address_of(self.node)
            if address is None:
                self.failure = "nobody knows its address"
            elif await self._live(address):
                failures = 0
            failures += 1
            await self._nudged.wait(self._peers.retry.wait_seconds(failures, self._peers.random))

    async def _live(self, address: str) -> bool:
        """One connection from its making to its end; whether it was made."""
        peers = self._peers
        try:
            connection = await peers.transport.connect(address, peers.service)
        except TransportError as error:
            self.failure = str(error)
            return False
        try:
            try:
                connection.send(_encode(peers.me))
                them = await _first_message(connection)
            except (TransportError, MalformedMessageError) as error:
                self.failure = str(error)
                return False
            self.failure = them.refused or _stranger(peers.me, them)
            if not self.failure and them.node != self.node:
                self.failure = f"at {address} is node {them.node}, not {self.node}"
            if self.failure:
                _LOG.warning("node %s cannot be used: %s", self.node, self.failure)
                return False
            self.generation = them.generation
            self._connection = connection
            try:
                await self._receive(connection)
            finally:
                self._connection = None
                self.failure = "the connection was lost"
                if self.listener is not None:
                    self.listener.lost()
            return True
        finally:
            await connection.close()

    async def _receive(self, connection: Connection) -> None:
        if self.listener is not None:
            self.listener.connected()
        self._met.wake()
        while (message := await connection.receive()) is not None:
            if self.listener is None:
                continue
            try:
                self.listener.received(message)
            except MalformedMessageError as error:
                _rules_broken(self._peers.service, self.node, error)
                return


class Peers:
    """The connections of this node to others for one service; each is made when first asked for.

    Attributes:
        transport, service, address_of, random, retry: as given.
        me: how this node introduces itself.
        closed: nobody is connected to any more.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        service: str,
        cluster: str,
        node: str,
        generation: int,
        address_of: Callable[[str], str | None],
        loop: AbstractEventLoop,
        random: Random,
        retry: RetryPolicy = RECONNECT,
    ) -> None:
        """Connect to nobody yet.

        Args:
            service: its name at the listeners of the other nodes.
            cluster: fingerprint of the cluster.
            node: name of this node.
            generation: which life of this node it is.
            address_of: the address of a node as it is now, None while nobody knows it; asked before
                each attempt, so that a node may move.
            loop: told when a connection's task fails, which is a bug.
            random: for the jitter of the back-off.
        """
        self.transport = transport
        self.service = service
        self.me = Introduction(VERSION, cluster, node, generation)
        self.address_of = address_of
        self.random = random
        self.retry = retry
        self.closed = False
        self._loop = loop
        self._peers: dict[str, Peer] = {}
        self._scope = TaskScope(f"peers for {service}", on_failure=self._failed)

    def peer(self, node: str) -> Peer:
        """The peer of this name; from the first call on it is connected to, again and again.

        One that is first asked for after `close` never is.
        """
        found = self._peers.get(node)
        if found is None:
            found = self._peers[node] = Peer(self, node)
            if self.closed:
                found.failure = "this node lets go of its connections"
            else:
                self._scope.spawn(found._run(), name=node)
        return found

    async def close(self) -> None:
        """Let go of all connections. Cancelling is safe: they are dropped all the same."""
        self.closed = True
        await self._scope.close()

    def _failed(self, failure: BaseException) -> None:
        self._loop.call_exception_handler(
            {"message": "a connection to a peer failed", "exception": failure}
        )
