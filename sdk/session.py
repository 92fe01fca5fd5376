"""The worker session: one connection to one node and the attempts that it opened on it.

Messages are collected by the task that receives them and worked off in one plain callback per turn
of the event loop, `_turn`, which also sends every answer of that turn in one message. No task is
made for a call.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import msgspec

from ..core.clock import Clock
from ..core.errors import PerdureError, TransportError
from ..core.net.transport import Connection
from ..core.protocol import messages
from ..core.protocol.envelope import SESSION_STREAM, EnvelopeReader, EnvelopeWriter
from ..core.protocol.messages import FRAME_HEADER, FRAME_HEADER_BYTES, frame, split_frames
from ..core.protocol.session import Nodes, Open, Refused, Welcome
from . import wire
from .attempt import Attempt
from .blocking import BlockingRun
from .errors import ProtocolViolationError, WorkerRefusedError
from .handler_threads import HandlerThreads
from .handlers import Handler
from .step_runner import StepRunner
from .steps import Step
from .texts import CODE_INTERNAL, message_of

CODE_NOT_FOUND: Final = 404
# The receiving task lets the loop work off this many messages before it takes more.
MESSAGES_PER_TURN_MAX: Final = 64
HANDLER_TURN_WARN_NS: Final = 1_000_000_000

logger = logging.getLogger("perdure.sdk")

_decode_nodes: Final = msgspec.msgpack.Decoder(Nodes).decode
_decode_open: Final = msgspec.msgpack.Decoder(Open).decode
_DRAIN_FRAME: Final = frame(messages.DRAIN, b"")
_ABORT_FRAME: Final = frame(messages.ABORT, b"")
_SUPERSEDED_FRAME: Final = frame(messages.SUPERSEDED, b"")


class SessionHost(Protocol):
    """The worker, as its sessions see it.

    Attributes:
        handlers: by service and handler name.
        clock: tells time.
        attempts_max: bound on the attempts of one session.
        make_attempt: makes what runs one attempt; takes what `Attempt` takes.
    """

    handlers: dict[tuple[str, str], Handler]
    clock: Clock
    attempts_max: int
    make_attempt: Callable[..., Attempt]

    @property
    def steps(self) -> StepRunner:
        """Runs closures."""
        ...

    @property
    def handler_threads(self) -> HandlerThreads:
        """Runs handlers that are a `def`."""
        ...

    def hello(self, address: str) -> bytes:
        """The greeting at an address, encoded."""
        ...

    def connected(self, session: "Session", welcome: Welcome) -> None:
        """A node has taken this worker."""
        ...

    def told(self, nodes: Nodes) -> None:
        """A node has told of the others."""
        ...

    def disconnected(self, session: "Session") -> None:
        """A session has ended, welcomed or not."""
        ...

    def attempt_of(self, newer: Attempt) -> Attempt | None:
        """The attempt that runs of the same invocation; `newer` takes its place when none does."""
        ...

    def forget(self, attempt: Attempt) -> None:
        """An attempt has ended."""
        ...


class Session:
    """One connection, from Hello to its loss.

    Attributes:
        address: where the node was dialled.
        welcome: what the node answered; None before.
        attempts: running, by stream.
    """

    def __init__(self, worker: SessionHost, connection: Connection, address: str) -> None:
        """Take an open connection to an address; `run` does the rest."""
        self.address = address
        self._worker = worker
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._reader = EnvelopeReader()
        self._writer = EnvelopeWriter()
        self._inbox: list[bytes] = []
        self._turn_scheduled = False
        self._turn_over: asyncio.Future[None] | None = None
        self._failure: PerdureError | None = None
        self._lost = False
        self._offset_ns = 0
        self.welcome: Welcome | None = None
        self.attempts: dict[int, Attempt] = {}

    async def run(self) -> None:
        """Greet, then serve until the connection is lost; its attempts end with it.

        Raises WorkerRefusedError when the node says so for good, another PerdureError when it was
        something that may pass. Cancelling closes the connection.
        """
        self._task = asyncio.current_task()
        try:
            self._writer.add(
                SESSION_STREAM, 0, frame(messages.HELLO, self._worker.hello(self.address))
            )
            self._flush()
            first = await self._connection.receive()
            if first is None:
                raise TransportError(f"{self._connection.peer} closed the connection at once")
            self._greeted(first)
            while (message := await self._connection.receive()) is not None:
                self._inbox.append(message)
                self._schedule_turn()
                if len(self._inbox) >= MESSAGES_PER_TURN_MAX:
                    self._turn_over = self._loop.create_future()
                    await self._turn_over
        except asyncio.CancelledError:
            if self._failure is None or self._task is None:
                raise
            self._task.uncancel()
            raise self._failure from None
        finally:
            # What arrived before the end is not worked off: the node will try elsewhere.
            self._inbox.clear()
            ended = self._loop.create_future()
            self._loop.call_soon(self._lose, ended)
            await ended
            await self._connection.close()

    def _greeted(self, message: bytes) -> None:
        segments = self._reader.read(message)
        stream, _time, frames = next(segments, (SESSION_STREAM, 0, b""))
        message_type, start, end = next(split_frames(frames), (0, 0, 0))
        if stream != SESSION_STREAM or message_type not in (messages.WELCOME, messages.REFUSED):
            raise ProtocolViolationError(
                f"{self._connection.peer} answered the greeting with a message of type "
                f"{message_type:#06x}; is this the address of a node?"
            )
        if message_type == messages.REFUSED:
            refused = msgspec.msgpack.decode(frames[start:end], type=Refused)
            sentence = f"{self._connection.peer} refused this worker: {refused.message}"
            if refused.retryable:
                raise TransportError(f"{sentence} [{refused.code}]")
            raise WorkerRefusedError(f"{sentence} [{refused.code}]")
        self.welcome = welcome = msgspec.msgpack.decode(frames[start:end], type=Welcome)
        self._offset_ns = welcome.time_ns - self._worker.clock.monotonic_ns()
        self._worker.connected(self, welcome)
        rest = list(segments)
        if rest:
            self._loop.call_soon(self._work_off, rest)

    # Turns of the real loop

    def _schedule_turn(self) -> None:
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_scheduled = False
        inbox, self._inbox = self._inbox, []
        try:
            for message in inbox:
                if not self._work_off(self._reader.read(message)):
                    break
            self._flush()
        finally:
            if self._turn_over is not None:
                if not self._turn_over.done():
                    self._turn_over.set_result(None)
                self._turn_over = None

    def _work_off(
        self, segments: "Iterator[tuple[int, int, bytes]] | list[tuple[int, int, bytes]]"
    ) -> bool:
        if self._lost or self._failure is not None:
            return False
        try:
            for stream, record_time_ns, frames in segments:
                try:
                    self._take(stream, record_time_ns, frames)
                except (PerdureError, msgspec.DecodeError):
                    raise
                except Exception as unexpected:
                    self._fail_attempt(stream, unexpected)
        except Exception as error:
            # Nothing on this connection can be trusted from here on.
            if not isinstance(error, PerdureError | msgspec.DecodeError):
                logger.exception("%s: the worker failed on a message", self._connection.peer)
            self._failure = ProtocolViolationError(f"{self._connection.peer}: {error}")
            if self._task is not None:
                self._task.cancel()
            return False
        self._schedule_turn()
        return True

    def _told(self, frames: bytes) -> None:
        """What a node says beside attempts; of what this release does not know nothing changes."""
        for message_type, start, end in split_frames(frames):
            if message_type == messages.NODES:
                self._worker.told(_decode_nodes(frames[start:end]))

    def _take(self, stream: int, record_time_ns: int, frames: bytes) -> None:
        now_ns = self._worker.clock.monotonic_ns
        before_ns = now_ns()
        attempt = self.attempts.get(stream)
        if frames == _SUPERSEDED_FRAME:
            self._superseded(stream, attempt)
            return
        if attempt is not None:
            answer = attempt.feed(frames, record_time_ns)
            if attempt.ended and not answer:
                answer = _ABORT_FRAME  # Confirms the node's own.
        elif stream == SESSION_STREAM:
            self._told(frames)
            return
        else:
            opened = self._open(stream, record_time_ns, frames)
            if opened is None:
                return
            attempt, answer = opened
        self._add(stream, answer)
        if attempt.ended:
            self._forget(attempt)
        elapsed_ns = now_ns() - before_ns
        if elapsed_ns > HANDLER_TURN_WARN_NS:
            logger.warning(
                "handler %s ran %.1f s without waiting for anything; meanwhile no other handler "
                "of this worker ran: put long work into steps",
                attempt.place,
                elapsed_ns / 1e9,
            )

    def _superseded(self, stream: int, attempt: Attempt | None) -> None:
        """The log has refused what an attempt wrote: a later one of its invocation is current."""
        logger.info(
            "%s: stream %d%s: a later attempt has replaced this one; what it wrote was refused",
            self._connection.peer,
            stream,
            "" if attempt is None else f" ({attempt.place})",
        )
        if attempt is not None:
            attempt.abort()
            self._forget(attempt)

    def _add(self, stream: int, answer: bytes) -> None:
        if len(answer) > wire.SEGMENT_FRAMES_BYTES_MAX:
            for frames in wire.segments(answer):
                self._writer.add(stream, 0, frames)
        elif answer:
            self._writer.add(stream, 0, answer)

    def _fail_attempt(self, stream: int, error: Exception) -> None:
        # Whatever went wrong, the node is told, and the other attempts go on.
        logger.error("the worker failed on stream %d", stream, exc_info=error)
        attempt = self.attempts.get(stream)
        if attempt is not None:
            attempt.abort()
            self._forget(attempt)
        self._add(stream, wire.error_frame(CODE_INTERNAL, message_of(error)))

    def _open(
        self, stream: int, record_time_ns: int, frames: bytes
    ) -> tuple[Attempt, bytes] | None:
        message_type, _flags, length = FRAME_HEADER.unpack_from(frames)
        if message_type != messages.OPEN:
            return None  # late: the attempt of this stream has ended here
        body_end = FRAME_HEADER_BYTES + length
        opened = _decode_open(frames[FRAME_HEADER_BYTES:body_end])
        handler = self._worker.handlers.get((opened.service, opened.handler))
        if handler is None:
            sentence = f"this deployment has no handler {opened.service}/{opened.handler}"
            self._add(stream, wire.error_frame(CODE_NOT_FOUND, sentence))
            return None
        attempts = self.attempts
        if len(attempts) >= self._worker.attempts_max:
            raise ProtocolViolationError(
                f"the node opened more than the {self._worker.attempts_max} attempts that this "
                "worker takes at once"
            )
        number = (opened.epoch, opened.attempt)
        attempt = self._worker.make_attempt(handler, self, stream, number)
        attempts[stream] = attempt
        attempt.told_time(opened.time_ns)
        return attempt, attempt.feed(frames, record_time_ns, body_end)

    def _forget(self, attempt: Attempt) -> None:
        self.attempts.pop(attempt.stream, None)
        self._worker.forget(attempt)

    def _flush(self) -> None:
        if self._writer and not self._lost:
            for message in self._writer.take():
                try:
                    self._connection.send(message)
                except TransportError:
                    return  # `run` hears of it too

    def _lose(self, ended: "asyncio.Future[None]") -> None:
        try:
            self._flush()
            self._lost = True
            for attempt in list(self.attempts.values()):
                attempt.abort()
                self._forget(attempt)
            self._worker.disconnected(self)
        finally:
            if not ended.done():
                ended.set_result(None)

    # What attempts and the worker ask for

    def admit(self, attempt: Attempt) -> bool:
        """Whether the attempt is the newest of its invocation; ends an older one here."""
        running = self._worker.attempt_of(attempt)
        if running is None:
            return True
        if running.number >= attempt.number:
            self._writer.add(attempt.stream, 0, _ABORT_FRAME)
            return False
        running.supersede()
        self._worker.attempt_of(attempt)
        return True

    def superseded(self, attempt: Attempt) -> None:
        """The attempt has ended without an answer, because a newer one of its invocation began."""
        self._writer.add(attempt.stream, 0, _ABORT_FRAME)
        self._schedule_turn()
        self._forget(attempt)

    def start_step(self, step: Step) -> None:
        """Run a closure."""
        self._worker.steps.start(step)

    def cancel_step(self, step: Step) -> None:
        """Cancel a closure."""
        self._worker.steps.cancel(step)

    def handler_turn(self, run: BlockingRun) -> None:
        """Give a `def` handler a thread, or note whether it computes or waits."""
        self._worker.handler_threads.turn(run)

    def forget_handler(self, run: BlockingRun) -> None:
        """Take back what a `def` handler waits for in the pool."""
        self._worker.handler_threads.forget(run)

    def node_time_ns(self) -> int:
        """The time that the greeting told, and what has passed here since.

        This machine's wall clock has no part in it: it may be set at any time.
        """
        return self._worker.clock.monotonic_ns() + self._offset_ns

    def output_ready(self, attempt: Attempt) -> None:
        """Send what a step has brought about."""
        self._add(attempt.stream, attempt.take_output())
        self._schedule_turn()
        if attempt.ended:
            self._forget(attempt)

    def drain(self) -> None:
        """Ask the node for no more attempts."""
        self._writer.add(SESSION_STREAM, 0, _DRAIN_FRAME)
        self._schedule_turn()
