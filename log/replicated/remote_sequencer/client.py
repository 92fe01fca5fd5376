"""Clients of other nodes' sequencers: one per node, shared by all loglets of this process."""

from asyncio import AbstractEventLoop
from typing import Final, Protocol

from ....core.net.peers import Peer, Peers
from ...errors import UnfitSequencerError
from ...loglet import SequencerNode
from ..channel import Channel
from .messages import Asked, Ordered, decode_told, encode

MEET_SECONDS: Final = 2.0
"""So long a node may take to be connected to before something is ordered there."""


class Writer(Protocol):
    """A loglet that another node gives out offsets for; must not raise."""

    def ordered(self, batches: list[tuple[int, int]]) -> None:
        """These batches are committed: of each the last offset and the record time."""
        ...

    def refused(self, reason: str) -> None:
        """Nothing more will be told."""
        ...


class SequencerClient:
    """What this process asks of one node's sequencer. It is a `PeerListener`."""

    def __init__(self, peer: Peer, loop: AbstractEventLoop) -> None:
        """Use the connections of `peer`, whose listener this becomes."""
        self.node = peer.node
        self._peer = peer
        self._loop = loop
        self._channel: Channel[Asked] = Channel(peer.send, encode, loop)
        self._writers: dict[int, Writer] = {}
        peer.listener = self

    async def meet(self) -> SequencerNode:
        """Wait for a connection; the life of the node at its other end.

        Raises UnfitSequencerError. Cancelling is safe.
        """
        if not await self._peer.wait_until_connected(MEET_SECONDS):
            raise UnfitSequencerError(
                f"node {self.node} cannot order a log's next segment: {self._peer.failure}. Name "
                "a node that is up, or leave the order to the partition's leader"
            )
        return SequencerNode(self.node, self._peer.generation)

    def is_met(self, generation: int) -> bool:
        """Whether there is a connection to this life of the node."""
        return self._peer.connected and self._peer.generation == generation

    def send(self, item: Asked) -> None:
        """Send it; it is lost when the connection is, which every writer is told of."""
        self._channel.send(item)

    def register(self, loglet: int, writer: Writer) -> None:
        """Have the writer told of what concerns its loglet."""
        self._writers[loglet] = writer

    def forget(self, loglet: int) -> None:
        """Tell its writer nothing any more."""
        self._writers.pop(loglet, None)

    # The peer's side -----------------------------------------------------------------------------

    def connected(self) -> None:
        """A connection was made."""
        self._channel = Channel(self._peer.send, encode, self._loop)

    def received(self, message: bytes) -> None:
        """Hand out what a message tells. Raises MalformedMessageError."""
        for item in decode_told(message):
            writer = self._writers.get(item.loglet)
            if writer is None:
                continue
            if isinstance(item, Ordered):
                writer.ordered(item.batches)
            else:
                del self._writers[item.loglet]
                writer.refused(item.reason)

    def lost(self) -> None:
        """The connection is gone, and every loglet with it."""
        self._channel.close()
        writers, self._writers = self._writers, {}
        for writer in writers.values():
            writer.refused("the connection was lost")


class SequencerClients:
    """The clients of one process, by node; each is connected from when it is first asked for."""

    def __init__(self, peers: Peers, loop: AbstractEventLoop) -> None:
        """Connect by `peers`, which are for sequencers alone."""
        self._peers = peers
        self._loop = loop
        self._clients: dict[str, SequencerClient] = {}

    def client(self, node: str) -> SequencerClient:
        """The client of a node."""
        found = self._clients.get(node)
        if found is None:
            found = self._clients[node] = SequencerClient(self._peers.peer(node), self._loop)
        return found
