"""Clients of log-servers: one per node, shared by all loglets of this process."""

from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Protocol, TypeAlias, TypeVar

from ...core.net.peers import Peer, Peers
from ...core.waiters import settle
from .channel import Channel
from .messages import Reply, Request, Stored, StoreResult, decode_replies, encode

Answered: TypeAlias = Callable[[Reply | None], None]
"""Told the reply, or None when the connection was lost first or is not there."""

Key = TypeVar("Key")

ASKED_MAX: Final = 100_000
"""Requests to one server that have no reply yet; more are not sent and count as lost."""


class StoreStream(Protocol):
    """What a loglet's sequencer does with one of its servers; must not raise."""

    def connected(self) -> None:
        """The server can be sent to from now on; what was sent before may have been lost."""
        ...

    def lost(self) -> None:
        """The connection is gone."""
        ...

    def stored(self, tail: int) -> None:
        """Everything sent below `tail` is durable there."""
        ...

    def refused(self, status: int, attempt: int) -> None:
        """A batch was not taken."""
        ...


class ServerClient:
    """Requests to one log-server and their replies. It is a `PeerListener`.

    Attributes:
        node: the server's name.
        connections: how many there have been so far.
    """

    def __init__(self, peer: Peer, loop: AbstractEventLoop) -> None:
        """Use the connections of `peer`, whose listener this becomes."""
        self.node = peer.node
        self.connections = 0
        self._peer = peer
        self._loop = loop
        self._channel: Channel[Request] = Channel(peer.send, encode, loop)
        self._asked: dict[int, Answered] = {}
        self._number = 0
        self._streams: dict[tuple[str, int], StoreStream] = {}
        peer.listener = self

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, as far as this process knows."""
        return self._peer.connected

    @property
    def failure(self) -> str:
        """Why there is no connection."""
        return self._peer.failure

    def send(self, request: Request) -> None:
        """Send what has no reply, or one that goes to a stream; lost when nobody is there."""
        if self._peer.connected:
            self._channel.send(request)

    def ask(self, make: Callable[[int], Request], answered: Answered) -> int:
        """Send the request that `make` makes of a number; 0 when it was not sent.

        `answered` is called once, never before this returns, unless `forget` is called first.
        """
        if not self._peer.connected or len(self._asked) >= ASKED_MAX:
            self._loop.call_soon(answered, None)
            return 0
        self._number += 1
        self._asked[self._number] = answered
        self._channel.send(make(self._number))
        return self._number

    def forget(self, number: int) -> None:
        """Nobody wants the reply to this request any more."""
        self._asked.pop(number, None)

    def open_stream(self, storage: str, loglet: int, stream: StoreStream) -> None:
        """Have the stream told of what concerns the loglet's batches; of a connection at once."""
        self._streams[storage, loglet] = stream
        if self._peer.connected:
            stream.connected()

    def close_stream(self, storage: str, loglet: int) -> None:
        """Tell the stream nothing any more."""
        self._streams.pop((storage, loglet), None)

    # The peer's side -----------------------------------------------------------------------------

    def connected(self) -> None:
        """A connection was made."""
        self.connections += 1
        self._channel = Channel(self._peer.send, encode, self._loop)
        for stream in list(self._streams.values()):
            stream.connected()

    def received(self, message: bytes) -> None:
        """Hand out the replies in a message. Raises MalformedMessageError."""
        for reply in decode_replies(message):
            if isinstance(reply, Stored):
                stream = self._streams.get((reply.storage, reply.loglet))
                if stream is not None:
                    stream.stored(reply.tail)
            elif isinstance(reply, StoreResult) and reply.number == 0:
                stream = self._streams.get((reply.storage, reply.loglet))
                if stream is not None:
                    stream.refused(reply.status, reply.attempt)
            else:
                answered = self._asked.pop(reply.number, None)
                if answered is not None:
                    answered(reply)

    def lost(self) -> None:
        """The connection is gone: nobody gets a reply."""
        self._channel.close()
        asked, self._asked = self._asked, {}
        for stream in list(self._streams.values()):
            stream.lost()
        for answered in asked.values():
            answered(None)


async def ask_all(
    loop: AbstractEventLoop,
    questions: Iterable[tuple[Key, ServerClient, Callable[[int], Request]]],
    heard: Callable[[Key, Reply | None], bool],
    seconds: float,
) -> None:
    """Ask several servers at once and wait for their replies.

    Waits until `heard`, told each with its question's key, says that it is enough, until all have
    answered or are out of reach, at most so long. Cancelling is safe; what was asked for may be
    done all the same.
    """
    waiting = 0
    done: Future[None] = loop.create_future()

    def answered(key: Key, reply: Reply | None) -> None:
        nonlocal waiting
        waiting -= 1
        if heard(key, reply) or not waiting:
            settle(done)

    asked: list[tuple[ServerClient, int]] = []
    for key, client, make in questions:
        waiting += 1
        asked.append((client, client.ask(make, partial(answered, key))))
    timer = loop.call_later(seconds, settle, done)
    try:
        await done
    finally:
        timer.cancel()
        for client, number in asked:
            client.forget(number)


class ServerClients:
    """The clients of one process, by node; each is connected from when it is first asked for."""

    def __init__(self, peers: Peers, loop: AbstractEventLoop) -> None:
        """Connect by `peers`, which are for log-servers alone."""
        self._peers = peers
        self._loop = loop
        self._clients: dict[str, ServerClient] = {}

    def client(self, node: str) -> ServerClient:
        """The client of a node."""
        found = self._clients.get(node)
        if found is None:
            found = self._clients[node] = ServerClient(self._peers.peer(node), self._loop)
        return found
