"""The asker's end: questions to other nodes, and the answers that belong to them."""

import asyncio
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable
from typing import Final

from ...core.errors import TransportError
from ...core.net.peers import Peer, Peers
from ..elsewhere import AnswerLostError, Forwarded, Question
from . import frames

CONNECT_SECONDS: Final = 2.0
"""So long a question waits for the connection to its node."""
LOOK_SECONDS: Final = 0.25
"""How often it is looked whether a node that is asked still lives."""
QUEUED_BYTES_MAX: Final = 64 * 1024 * 1024
"""With so much unsent, nothing more is asked."""


class PeerAsker:
    """The `OtherNodes` of a node in a cluster."""

    def __init__(
        self,
        peers: Peers,
        *,
        me: str,
        leader: Callable[[int], str | None],
        alive: Callable[[], list[str]],
        loop: AbstractEventLoop,
    ) -> None:
        """Ask nobody yet.

        Args:
            peers: for `ADMIN_SERVICE`; whoever made them closes them.
            leader: the node that is to lead a partition.
            alive: the other nodes that are not dead.
        """
        self._peers = peers
        self._me = me
        self._leader = leader
        self._alive = alive
        self._loop = loop
        self._links: dict[str, _Link] = {}

    @property
    def me(self) -> str:
        """Name of this node."""
        return self._me

    def leader(self, partition: int) -> str | None:
        """See `OtherNodes`."""
        return self._leader(partition)

    def alive(self) -> list[str]:
        """See `OtherNodes`."""
        return self._alive()

    async def ask(self, node: str, question: Question) -> Forwarded:
        """See `OtherNodes`."""
        self._check_lives(node)
        link = self._links.get(node)
        if link is None:
            link = self._links[node] = _Link(self._peers.peer(node), self._loop)
        await link.until_connected(self._loop.time() + CONNECT_SECONDS)
        number, answer = link.ask(question)
        try:
            while not answer.done():
                await asyncio.wait((answer,), timeout=LOOK_SECONDS)
                if not answer.done():
                    # A machine that is off breaks no connection for a long time.
                    self._check_still_lives(node)
            return answer.result()
        finally:
            link.forget(number)

    def _check_lives(self, node: str) -> None:
        """Raises TransportError."""
        if node not in self._alive():
            raise TransportError(f"node {node} is dead, as node {self._me} sees it")

    def _check_still_lives(self, node: str) -> None:
        """Raises AnswerLostError."""
        if node not in self._alive():
            raise AnswerLostError(
                f"node {node} died before it had answered, as node {self._me} sees it"
            )


class _Link:
    """What is asked of one node."""

    def __init__(self, peer: Peer, loop: AbstractEventLoop) -> None:
        self._peer = peer
        self._loop = loop
        self._number = 0
        self._waiting: dict[int, Future[Forwarded]] = {}
        peer.listener = self

    async def until_connected(self, deadline: float) -> None:
        """Raises TransportError when there is no connection in time. Cancelling is safe."""
        peer = self._peer
        while not peer.connected:
            left = deadline - self._loop.time()
            if left <= 0:
                raise TransportError(f"node {peer.node} cannot be reached: {peer.failure}")
            await peer.wait_until_connected(min(left, LOOK_SECONDS))

    def ask(self, question: Question) -> "tuple[int, Future[Forwarded]]":
        """Send a question; `forget` follows. Raises TransportError."""
        peer = self._peer
        if peer.queued_bytes > QUEUED_BYTES_MAX:
            raise TransportError(f"node {peer.node} takes nothing more for now: try again shortly")
        self._number += 1
        number = self._number
        ask = frames.Ask(number, question.method, question.path, question.query, question.body)
        answer: Future[Forwarded] = self._loop.create_future()
        self._waiting[number] = answer
        try:
            sent = peer.send(frames.encode_frame(ask))
        except BaseException:
            del self._waiting[number]
            raise
        if not sent:
            del self._waiting[number]
            raise TransportError(f"the connection to node {peer.node} was lost: try again")
        return number, answer

    def forget(self, number: int) -> None:
        """Nobody waits for the answer any more; does nothing once it has come."""
        if self._waiting.pop(number, None) is not None:
            self._peer.send(frames.encode_frame(frames.Forget(number)))

    def connected(self) -> None:
        """See `PeerListener`."""

    def received(self, message: bytes) -> None:
        """See `PeerListener`."""
        answer = frames.decode_answer(message)
        waiting = self._waiting.pop(answer.number, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(Forwarded(answer.status, answer.body))

    def lost(self) -> None:
        """See `PeerListener`."""
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            if not answer.done():
                answer.set_exception(
                    AnswerLostError(f"node {self._peer.node} was lost before it had answered")
                )
                # Whoever asked may be gone, and then nobody looks.
                answer.exception()
