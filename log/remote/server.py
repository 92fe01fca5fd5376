"""The server of appends from other nodes: hands them to this node's logs and answers in batches.

There is no task per append: what arrives is offered to its log at once, in order. While the log's
chain is being changed it is held back, and one task per log waits until it can go on.
"""

import logging
from asyncio import AbstractEventLoop, TimerHandle
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

import msgspec

from ...core.errors import MalformedMessageError, PerdureError, TransportError
from ...core.ids import LogId
from ...core.net.peers import Introduction
from ...core.net.transport import Connection
from ...core.tasks import TaskScope
from ..answers import Answer, Overloaded, Sealed, Settled
from ..chain_view import POLL_SECONDS
from ..elsewhere import NotHere
from ..errors import LogClosedError, LogError, MalformedAppendError, NotSequencerError
from ..sequencer import check_append
from ..types import KEY_BYTES
from ..virtual_log import VirtualLog
from .messages import (
    Offer,
    Reply,
    Settle,
    Told,
    decode_requests,
    encode,
    refused,
    size_of,
)

_LOG: Final = logging.getLogger(__name__)

Find: TypeAlias = Callable[[LogId], VirtualLog | None]
"""Finds a log that is open in this process."""


class AppendServerLimits(msgspec.Struct, frozen=True):
    """What one connection may have under way.

    Attributes:
        appends_max: appends that have no answer.
        bytes_max: of these appends; one may be larger by itself.
        answer_bytes_max: of answers that the other end has not taken; beyond, it is let go.
    """

    appends_max: int = 10_000
    bytes_max: int = 64 * 1024 * 1024
    answer_bytes_max: int = 8 * 1024 * 1024


class _Session:
    """One connection: what is under way for it, and the answers of this turn."""

    __slots__ = ("_connection", "_loop", "_replies", "appends", "bytes", "generation", "open")

    def __init__(self, connection: Connection, generation: int, loop: AbstractEventLoop) -> None:
        self._connection = connection
        self._loop = loop
        self._replies: list[Reply] = []
        self.generation = generation
        self.appends = 0
        self.bytes = 0
        self.open = True

    @property
    def queued_bytes(self) -> int:
        """Of answers."""
        return self._connection.queued_bytes

    def reply(self, reply: Reply) -> None:
        """Send it with everything else of this turn; nothing happens once it is closed."""
        if not self.open:
            return
        if not self._replies:
            self._loop.call_soon(self._flush)
        self._replies.append(reply)

    def _flush(self) -> None:
        replies, self._replies = self._replies, []
        try:
            for _, message in encode(replies):
                self._connection.send(message)
        except TransportError:
            self.close()  # Its end is on its way to whoever receives from it.

    def give_back(self, size: int) -> None:
        """An append of this size is answered."""
        self.appends -= 1
        self.bytes -= size

    def close(self) -> None:
        """Take nothing more from it and answer nothing."""
        self.open = False
        self._replies.clear()

    async def end(self) -> None:
        """Close the connection as well."""
        self.close()
        await self._connection.close()


class _Desk:
    """One log: what is held back for it, and whether anybody waits for answers.

    Attributes:
        held: what came while it was not taking appends, in order.
        waiting: appends and settlings that it has not answered.
        answers: how many it has given.
    """

    __slots__ = ("answers", "held", "opening", "seen", "waiting")

    def __init__(self) -> None:
        self.held: deque[tuple[_Session, Offer, int]] = deque()
        self.opening = False
        self.waiting = 0
        self.answers = 0
        self.seen = -1


class AppendServer:
    """Takes appends from other nodes for the logs that this process orders."""

    def __init__(
        self,
        find: Find,
        *,
        node: str,
        loop: AbstractEventLoop,
        limits: AppendServerLimits | None = None,
        leader: Callable[[LogId], str | None] | None = None,
    ) -> None:
        """Serve logs that `find` finds.

        Args:
            node: the name of this node.
            leader: who orders a log that is not ordered here, as far as this node knows.
        """
        self._find = find
        self._node = node
        self._loop = loop
        self._limits = limits or AppendServerLimits()
        self._leader = leader
        self._sessions: dict[str, _Session] = {}
        self._desks: dict[LogId, _Desk] = {}
        self._timer: TimerHandle | None = None
        self._closed = False
        self._scope = TaskScope("appends from other nodes", on_failure=self._failed)

    async def serve(self, them: Introduction, connection: Connection) -> None:
        """Serve one connection of another node until it ends; a `PeerHandler`.

        What was taken from it goes on; its answers are nobody's then. Cancelling is safe.
        """
        before = self._sessions.get(them.node)
        if before is not None and before.generation > them.generation:
            return  # Of a life that is over.
        session = self._sessions[them.node] = _Session(connection, them.generation, self._loop)
        if before is not None:
            # Nothing that is still on its way there may come after what comes over this one.
            await before.end()
        try:
            while session.open and (message := await connection.receive()) is not None:
                if session.queued_bytes > self._limits.answer_bytes_max:
                    _LOG.warning("node %s does not take its answers: it is let go", them.node)
                    return
                if session.open:
                    self._take(session, message)
        except MalformedMessageError as error:
            _LOG.warning("node %s is let go: %s", them.node, error)
        finally:
            session.close()
            if self._sessions.get(them.node) is session:
                del self._sessions[them.node]

    async def close(self) -> None:
        """Take nothing more; connections are their listener's to end. Cancelling is safe."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for session in self._sessions.values():
            session.close()
        await self._scope.close()

    # Taking --------------------------------------------------------------------------------------

    def _take(self, session: _Session, message: bytes) -> None:
        for request in decode_requests(message):
            if isinstance(request, Offer):
                self._take_offer(session, request)
            else:
                self._take_settle(session, request)

    def _take_offer(self, session: _Session, offer: Offer) -> None:
        log = self._find(LogId(offer.log))
        if log is None or not log.open_segment:
            self._not_here(session, offer.number, LogId(offer.log))
            return
        size = size_of(offer.append)
        limits = self._limits
        if session.appends >= limits.appends_max or (
            session.bytes and session.bytes + size > limits.bytes_max
        ):
            session.reply(Told(offer.number, Overloaded(session.appends)))
            return
        try:
            check_append(offer.append)
        except LogError as error:
            session.reply(refused(offer.number, error))
            return
        session.appends += 1
        session.bytes += size
        desk = self._desk(log)
        behind = offer.append.segment is not None and offer.append.segment > log.open_segment
        if desk.opening or behind or not log.accepting:
            desk.held.append((session, offer, size))
            self._open_soon(log, desk, behind=behind)
        else:
            self._offer(log, desk, session, offer, size)

    def _offer(
        self, log: VirtualLog, desk: _Desk, session: _Session, offer: Offer, size: int
    ) -> None:
        """Have the log decide; the chain is not being changed."""
        told = partial(self._answered, log, desk, session, offer.number, size)
        desk.waiting += 1
        try:
            log.offer(offer.append, told)
        except (NotSequencerError, LogClosedError):
            told(NotHere(self._leader_of(log.log)))
        except LogError as error:
            desk.waiting -= 1
            session.give_back(size)
            session.reply(refused(offer.number, error))

    def _answered(
        self,
        log: VirtualLog,
        desk: _Desk,
        session: _Session,
        number: int,
        size: int,
        answer: Answer | Settled | NotHere,
    ) -> None:
        """The log has decided; `size` is 0 for a settling."""
        desk.waiting -= 1
        desk.answers += 1
        if size:
            session.give_back(size)
        session.reply(Told(number, answer))
        if isinstance(answer, Sealed) and not log.sealed:
            self._open_soon(log, desk)

    def _take_settle(self, session: _Session, settle: Settle) -> None:
        log = self._find(LogId(settle.log))
        if log is None or not log.open_segment:
            self._not_here(session, settle.number, LogId(settle.log))
            return
        if len(settle.producer) != KEY_BYTES or settle.epoch < 1:
            error = MalformedAppendError(
                f"a producer with an id of {len(settle.producer)} bytes and epoch {settle.epoch}: "
                f"the id takes {KEY_BYTES} bytes, epochs count from 1"
            )
            session.reply(refused(settle.number, error))
            return
        desk = self._desk(log)
        desk.waiting += 1
        told = partial(self._answered, log, desk, session, settle.number, 0)
        if settle.segment > log.open_segment:
            self._open_soon(log, desk, behind=True)
        try:
            log.settle(settle.segment, settle.producer, settle.epoch, told)
        except (NotSequencerError, LogClosedError):
            told(NotHere(self._leader_of(log.log)))

    def _not_here(self, session: _Session, number: int, log: LogId) -> None:
        session.reply(Told(number, NotHere(self._leader_of(log))))

    def _leader_of(self, log: LogId) -> str:
        """Who orders a log that is not ordered here; empty if it is to be this node, or nobody."""
        node = None if self._leader is None else self._leader(log)
        return "" if node is None or node == self._node else node

    def _desk(self, log: VirtualLog) -> _Desk:
        desk = self._desks.get(log.log)
        if desk is None:
            desk = self._desks[log.log] = _Desk()
        if self._timer is None and not self._closed:
            self._timer = self._loop.call_later(POLL_SECONDS, self._look)
        return desk

    # Waiting for logs ----------------------------------------------------------------------------

    def _open_soon(self, log: VirtualLog, desk: _Desk, *, behind: bool = False) -> None:
        """Have the log opened again if somebody sealed its segment, and hand over what is held.

        Args:
            behind: somebody knows of a later segment, so ours is sealed whatever we know.
        """
        if not desk.opening and not self._closed:
            desk.opening = True
            self._scope.spawn(self._open(log, desk, behind), name=f"log {log.log}")

    async def _open(self, log: VirtualLog, desk: _Desk, behind: bool) -> None:
        reply: Callable[[int], Reply] | None = None
        try:
            if behind:
                await log.recover()
            await log.wait_until_open()
            while log.changing:
                await log.wait_until_open()
        except (NotSequencerError, LogClosedError):
            gone = NotHere(self._leader_of(log.log))
            reply = partial(_told, gone)
        except PerdureError as error:
            reply = partial(refused, error=error)
        finally:
            desk.opening = False
            held, desk.held = desk.held, deque()
        # No waiting from here on: what comes next must come behind what was held back.
        for session, offer, size in held:
            if not session.open:
                continue
            if reply is None:
                self._offer(log, desk, session, offer, size)
            else:
                session.give_back(size)
                session.reply(reply(offer.number))

    def _look(self) -> None:
        """See after logs that have not answered for a while: their segment may be sealed."""
        self._timer = None
        for number, desk in list(self._desks.items()):
            if desk.waiting and desk.seen == desk.answers:
                log = self._find(number)
                if log is not None:
                    self._scope.spawn(log.look_for_seal(), name=f"look at log {number}")
            desk.seen = desk.answers
            if not desk.waiting and not desk.opening:
                del self._desks[number]
        if self._desks:
            self._timer = self._loop.call_later(POLL_SECONDS, self._look)

    def _failed(self, failure: BaseException) -> None:
        self._loop.call_exception_handler(
            {"message": "a task for appends from other nodes failed", "exception": failure}
        )


def _told(outcome: NotHere, number: int) -> Reply:
    return Told(number, outcome)
