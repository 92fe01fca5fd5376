"""The log-server: keeps batches for sequencers on any node, through the node's one log writer.

A machine: `handle` takes a request and gives its writes to the writer; replies that rest on them
leave when they are durable, everything of one turn to one client in one message. Nothing in here
waits, and there is no task besides the one per connection that receives.
"""

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from typing import Final

import msgspec

from ...core.errors import StorageError
from ...core.net.peers import Introduction
from ...core.net.transport import Connection
from ...core.storage.kv import PutOrDelete
from ..batch_codec import check_batch
from ..errors import CorruptBatchError
from ..local.writer import LogWriter
from ..types import Batch
from .channel import Channel
from .messages import (
    FAILED,
    GONE,
    LOST,
    MALFORMED,
    NO_BALLOT,
    OK,
    OVERLOADED,
    STATUS_NAMES,
    TRIMMED,
    Accept,
    Ballot,
    Batches,
    Delete,
    Digest,
    Fill,
    Finish,
    GetInfo,
    Info,
    Read,
    Release,
    Reply,
    Request,
    Seal,
    Spans,
    Store,
    Stored,
    StoreResult,
    Trim,
    Wait,
    decode_requests,
    encode,
)
from .server_figures import LogServerFigures
from .server_loglet import ServerLoglet
from .server_store import Mark, ServerStore

SPANS_MAX: Final = 4096
"""A digest has at most so many batches; the client asks again for more."""

_LOG_MASK: Final = (1 << 32) - 1


class LogServerLimits(msgspec.Struct, frozen=True):
    """What a log-server takes at a time.

    Attributes:
        staged_bytes_max: of batches that are not durable yet, of all connections.
        queued_bytes_max: of replies that one connection has not taken yet.
        read_bytes_max: of one answer to a read, one longer batch aside.
        waits_max: requests that wait for a tail, of all connections.
        loglets_max: that are kept in memory; more are read from the disk again.
    """

    staged_bytes_max: int = 64 * 1024 * 1024
    queued_bytes_max: int = 64 * 1024 * 1024
    read_bytes_max: int = 4 * 1024 * 1024
    waits_max: int = 100_000
    loglets_max: int = 10_000


class _Waiting:
    """A `Wait` that has no answer yet."""

    __slots__ = ("channel", "request", "timer")

    def __init__(self, channel: Channel[Reply], request: Wait) -> None:
        self.channel = channel
        self.request = request
        self.timer: TimerHandle | None = None


class LogServer:
    """Serves the loglets on one disk. Everything here runs on the event loop's thread."""

    def __init__(
        self,
        store: ServerStore,
        writer: LogWriter,
        *,
        loop: AbstractEventLoop,
        limits: LogServerLimits | None = None,
    ) -> None:
        """Serve what is in `store`; `writer`, which writes below it, made it durable when it began.

        Raises StorageCorruptError.
        """
        self._store = store
        self._writer = writer
        self._loop = loop
        self._limits = limits or LogServerLimits()
        self._loglets: dict[int, ServerLoglet] = {}
        self._deleted = store.deleted()
        # Of this turn, until the writer takes it.
        self._writes: list[PutOrDelete] = []
        self._dirty: dict[int, ServerLoglet] = {}
        self._after: list[Callable[[], None]] = []
        self._acks: dict[tuple[Channel[Reply], int], ServerLoglet] = {}
        self._bytes = self._batches = 0
        # What the writer has taken and not yet made durable.
        self._taken: list[tuple[ServerLoglet, tuple[int, Mark, int]]] = []
        self._taken_after: list[Callable[[], None]] = []
        self._taken_acks: dict[tuple[Channel[Reply], int], ServerLoglet] = {}
        self._taken_bytes = self._taken_batches = 0
        self._stored_bytes = self._stored_batches = 0
        self._refused: dict[int, int] = {}
        self._removals: list[Callable[[], None]] = []
        self._scheduled = False
        self._waiting: dict[int, dict[_Waiting, None]] = {}
        self._waits = 0
        writer.attach(self)

    @property
    def storage(self) -> str:
        """What segments name this server's disk by."""
        return self._store.identity.storage

    def figures(self) -> LogServerFigures:
        """What it has done since it was opened, and has now."""
        sealed = sum(1 for item in self._loglets.values() if item.durable[1].promised > NO_BALLOT)
        return LogServerFigures(
            batches=self._stored_batches,
            bytes=self._stored_bytes,
            refused={STATUS_NAMES[status]: count for status, count in self._refused.items()},
            loglets={"open": len(self._loglets) - sealed, "sealed": sealed},
            staged_bytes=self._bytes + self._taken_bytes,
            waits=self._waits,
        )

    async def serve(self, _them: Introduction, connection: Connection) -> None:
        """Serve one connection to its end.

        It ends when a message makes no sense (raises MalformedMessageError) and when the other end
        goes on asking without taking its replies.
        """
        limit = self._limits.queued_bytes_max
        channel: Channel[Reply] = Channel(connection.send, encode, self._loop)
        try:
            while (message := await connection.receive()) is not None:
                if connection.queued_bytes > 2 * limit:
                    return
                for request in decode_requests(message):
                    if isinstance(request, Read | Digest) and connection.queued_bytes > limit:
                        channel.send(_unread(request, OVERLOADED))
                    else:
                        self.handle(channel, request)
        finally:
            channel.close()
            self._forget_waits(channel)

    # Requests ------------------------------------------------------------------------------------

    def handle(self, channel: Channel[Reply], request: Request) -> None:
        """Take one request; its reply goes to `channel`, now or when it is durable."""
        if isinstance(request, Delete):
            self._delete(channel, request)
            return
        loglet, status = self._find(request.storage, request.loglet)
        if loglet is None:
            if isinstance(request, Store | Fill):
                self._count_refused(status)
            if (reply := _refusal(request, status)) is not None:
                channel.send(reply)
            return
        match request:
            case Store():
                self._handle_store(channel, request, loglet)
            case Fill():
                self._fill(channel, request, loglet)
            case Release():
                self._learn(loglet, request.known_tail)
            case GetInfo():
                channel.send(loglet.info(request.number))
            case Wait():
                self._wait(channel, request, loglet)
            case Seal():
                status = loglet.seal(request, self._writes)
                self._change(loglet, lambda: channel.send(loglet.info(request.number, status)))
            case Accept():
                status = loglet.accept(request, self._writes)
                self._change(loglet, lambda: channel.send(loglet.info(request.number, status)))
            case Finish():
                if loglet.finish(request, self._writes):
                    self._change(loglet, lambda: self._finished(loglet))
            case Trim():
                trimmed = loglet.trim(request, self._writes)
                self._change(loglet, lambda: self._trimmed(channel, request, loglet, trimmed))
            case Read():
                self._read(channel, request, loglet)
            case Digest():
                self._digest(channel, request, loglet)

    def _find(self, storage: str, loglet: int) -> tuple[ServerLoglet | None, int]:
        """The loglet, or why it cannot be served."""
        if storage != self.storage:
            return None, LOST
        if loglet < self._deleted.get(loglet & ~_LOG_MASK, 0):
            return None, GONE
        if self._writer.failure is not None:
            return None, FAILED
        found = self._loglets.get(loglet)
        if found is None:
            try:
                mark, tail, record_time_ns = self._store.load(loglet)
            except StorageError:
                return None, FAILED
            self._make_room()
            found = self._loglets[loglet] = ServerLoglet(loglet, mark, tail, record_time_ns)
        return found, OK

    def _make_room(self) -> None:
        """Forget the loglet that was loaded first, unless something is under way for it."""
        if len(self._loglets) < self._limits.loglets_max:
            return
        busy = {loglet.loglet for loglet, _ in self._taken} | self._dirty.keys()
        for loglet in self._loglets:
            if loglet not in busy and loglet not in self._waiting:
                del self._loglets[loglet]
                return

    def _handle_store(self, channel: Channel[Reply], request: Store, loglet: ServerLoglet) -> None:
        self._learn(loglet, request.known_tail)
        status = OVERLOADED if self._overloaded else self._take(request, loglet)
        if status == OK:
            self._bytes += len(request.value)
            self._batches += 1
            self._acks[channel, loglet.loglet] = loglet
            self._change(loglet, None)
            return
        self._count_refused(status)
        if status == OVERLOADED:
            channel.send(_refused(request, status))
            return
        # A refusal may rest on what is staged only, such as a seal: it waits for the disk as well.
        self._change(loglet, lambda: channel.send(_refused(request, status)))

    def _fill(self, channel: Channel[Reply], request: Fill, loglet: ServerLoglet) -> None:
        """Take a run of batches in one write; they are durable together, so no hole can be left."""
        status = OVERLOADED if self._overloaded else OK
        for last_offset, value in request.batches if status == OK else ():
            store = Store(request.storage, request.loglet, "", 0, last_offset, value)
            status = self._take(store, loglet, request.ballot)
            if status != OK:
                break
            self._bytes += len(value)
            self._batches += 1
        if status != OK:
            self._count_refused(status)
        result = StoreResult(request.number, request.storage, request.loglet, status, 0)
        self._change(loglet, lambda: channel.send(result))

    def _count_refused(self, status: int) -> None:
        self._refused[status] = self._refused.get(status, 0) + 1

    @property
    def _overloaded(self) -> bool:
        """Whether too much waits for the disk to take more; what is sent at once is taken whole."""
        return self._bytes + self._taken_bytes > self._limits.staged_bytes_max

    def _take(self, request: Store, loglet: ServerLoglet, ballot: Ballot | None = None) -> int:
        try:
            header = check_batch(request.loglet, request.last_offset, request.value)
        except CorruptBatchError:
            return MALFORMED
        return loglet.store(request, header, self._writes, ballot)

    def _learn(self, loglet: ServerLoglet, known_tail: int) -> None:
        if loglet.learn(known_tail) and loglet.loglet in self._waiting:
            self._wake(loglet)

    def _read(self, channel: Channel[Reply], request: Read, loglet: ServerLoglet) -> None:
        self._learn(loglet, request.known_tail)
        tail, mark, _ = loglet.durable
        if request.first_offset <= mark.trim_point:
            channel.send(_unread(request, TRIMMED, loglet.known_tail, mark.trim_point))
            return
        end = tail if request.uncommitted else loglet.visible_tail
        bytes_max = min(request.bytes_max, self._limits.read_bytes_max)
        try:
            found = self._store.read(loglet.loglet, request.first_offset, end, bytes_max)
        except StorageError:
            channel.send(_unread(request, FAILED))
            return
        channel.send(Batches(request.number, OK, found, loglet.known_tail, mark.trim_point))

    def _digest(self, channel: Channel[Reply], request: Digest, loglet: ServerLoglet) -> None:
        tail, mark, _ = loglet.durable
        first = max(request.first_offset, mark.trim_point + 1)
        end = min(request.end_offset, tail)
        try:
            spans, reached = self._store.spans(
                loglet.loglet, first, end, SPANS_MAX, self._limits.read_bytes_max
            )
        except StorageError:
            channel.send(_unread(request, FAILED))
            return
        if reached >= end:
            reached = request.end_offset
        channel.send(Spans(request.number, OK, spans, reached, mark.trim_point))

    def _trimmed(
        self, channel: Channel[Reply], request: Trim, loglet: ServerLoglet, trimmed: bool
    ) -> None:
        if trimmed:
            self._remove_later(lambda: self._store.trim(loglet.loglet, request.last_offset))
        channel.send(loglet.info(request.number))

    def _finished(self, loglet: ServerLoglet) -> None:
        """What lies behind the final tail was never committed, and goes."""
        final = loglet.mark.final
        assert final is not None
        self._remove_later(lambda: self._store.cut(loglet.loglet, final.tail))

    def _delete(self, channel: Channel[Reply], request: Delete) -> None:
        first, end = request.first_loglet, request.end_loglet
        if self._writer.failure is not None or first & _LOG_MASK or end - first > _LOG_MASK:
            channel.send(Info(request.number, FAILED))
            return
        # Also what was deleted before: a crash may have come between the row and the deletion.
        if end > self._deleted.get(first, 0):
            self._deleted[first] = end
            self._writes.append(ServerStore.deleted_row(first, end))
        for number in [item for item in self._waiting if first <= item < end]:
            for waiting in self._pop_waits(number):
                waiting.channel.send(Info(waiting.request.number, GONE))

        def deleted() -> None:
            for loglet in [item for item in self._loglets if first <= item < end]:
                del self._loglets[loglet]
            self._remove_later(lambda: self._store.delete(first, end))
            channel.send(Info(request.number, OK))

        self._change(None, deleted)

    # Waiting for a tail --------------------------------------------------------------------------

    def _wait(self, channel: Channel[Reply], request: Wait, loglet: ServerLoglet) -> None:
        if _is_due(request, loglet):
            channel.send(loglet.info(request.number))
            return
        if self._waits >= self._limits.waits_max:
            channel.send(loglet.info(request.number, OVERLOADED))
            return
        waiting = _Waiting(channel, request)
        self._waiting.setdefault(loglet.loglet, {})[waiting] = None
        self._waits += 1
        if request.timeout_ms:
            waiting.timer = self._loop.call_later(
                request.timeout_ms / 1000, self._time_is_up, waiting, loglet
            )

    def _time_is_up(self, waiting: _Waiting, loglet: ServerLoglet) -> None:
        self._pop_wait(waiting)
        waiting.channel.send(loglet.info(waiting.request.number))

    def _wake(self, loglet: ServerLoglet) -> None:
        for waiting in list(self._waiting.get(loglet.loglet, ())):
            if _is_due(waiting.request, loglet):
                self._pop_wait(waiting)
                waiting.channel.send(loglet.info(waiting.request.number))

    def _pop_wait(self, waiting: _Waiting) -> None:
        loglet = waiting.request.loglet
        waits = self._waiting[loglet]
        del waits[waiting]
        self._waits -= 1
        if waiting.timer is not None:
            waiting.timer.cancel()
        if not waits:
            del self._waiting[loglet]

    def _pop_waits(self, loglet: int) -> list[_Waiting]:
        found = list(self._waiting.get(loglet, ()))
        for waiting in found:
            self._pop_wait(waiting)
        return found

    def _forget_waits(self, channel: Channel[Reply]) -> None:
        for waits in list(self._waiting.values()):
            for waiting in list(waits):
                if waiting.channel is channel:
                    self._pop_wait(waiting)

    # The writer's side ---------------------------------------------------------------------------

    def _change(self, loglet: ServerLoglet | None, after: Callable[[], None] | None) -> None:
        """Have what was staged written and synced, and `after` called then."""
        if loglet is not None:
            self._dirty[loglet.loglet] = loglet
        if after is not None:
            self._after.append(after)
        if not self._scheduled:
            self._scheduled = True
            self._writer.schedule(self)

    def _remove_later(self, removal: Callable[[], None]) -> None:
        """From within `written`: delete rows once everybody has been told of this turn."""
        if not self._removals:
            self._writer.remove_later(self)
        self._removals.append(removal)

    def take_writes(self, operations: list[PutOrDelete]) -> list[Batch]:
        """Everything staged since the last call. The batches are others' and not counted here."""
        self._scheduled = False
        operations += self._writes
        self._writes = []
        self._taken = [(loglet, loglet.staged) for loglet in self._dirty.values()]
        self._dirty = {}
        self._taken_after, self._after = self._after, []
        self._taken_acks, self._acks = self._acks, {}
        self._taken_bytes, self._bytes = self._bytes, 0
        self._taken_batches, self._batches = self._batches, 0
        return []

    def written(self, batches: list[Batch]) -> None:
        """What was taken is durable: tell whoever waits for it."""
        taken, self._taken = self._taken, []
        after, self._taken_after = self._taken_after, []
        acks, self._taken_acks = self._taken_acks, {}
        self._stored_bytes += self._taken_bytes
        self._stored_batches += self._taken_batches
        self._taken_bytes = self._taken_batches = 0
        for loglet, durable in taken:
            loglet.durable = durable
            if loglet.loglet in self._waiting:
                self._wake(loglet)
        for (channel, number), loglet in acks.items():
            channel.send(Stored(self.storage, number, loglet.durable[0]))
        for tell in after:
            tell()

    def remove(self) -> None:
        """Delete what nobody wants any more. Raises StorageError."""
        removals, self._removals = self._removals, []
        for removal in removals:
            removal()

    def failed(self, error: StorageError) -> None:
        """The disk failed: what waits for it is never answered, and everything else is refused."""
        self._writes, self._after, self._acks, self._dirty = [], [], {}, {}
        self._taken, self._taken_after, self._taken_acks = [], [], {}
        for loglet in list(self._waiting):
            for waiting in self._pop_waits(loglet):
                waiting.channel.send(Info(waiting.request.number, FAILED))


def _is_due(request: Wait, loglet: ServerLoglet) -> bool:
    return loglet.known_tail > request.above or loglet.durable[1].promised > (0, "")


def _refused(request: Store, status: int) -> StoreResult:
    return StoreResult(0, request.storage, request.loglet, status, request.attempt)


def _unread(
    request: Read | Digest, status: int, known_tail: int = 1, trim_point: int = 0
) -> Batches | Spans:
    if isinstance(request, Digest):
        return Spans(request.number, status, [], request.first_offset, trim_point)
    return Batches(request.number, status, [], known_tail, trim_point)


def _refusal(request: Request, status: int) -> Reply | None:
    """The answer to a request about a loglet that cannot be served."""
    match request:
        case Store():
            return _refused(request, status)
        case Fill():
            return StoreResult(request.number, request.storage, request.loglet, status, 0)
        case Read() | Digest():
            return _unread(request, status)
        case Release() | Finish():
            return None
        case _:
            return Info(request.number, status)
