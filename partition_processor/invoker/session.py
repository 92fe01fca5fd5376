"""One connected worker: attempts go out, frames come in, many of each per message."""

from asyncio import AbstractEventLoop
from collections.abc import Callable
from itertools import islice
from typing import Final

import msgspec

from ...core.errors import PerdureError, TransportError
from ...core.net.transport import Connection
from ...core.protocol import messages
from ...core.protocol.envelope import (
    REASSEMBLED_BYTES_MAX,
    SESSION_STREAM,
    EnvelopeReader,
    EnvelopeWriter,
)
from ...core.protocol.session import Hello, Nodes, Welcome
from .attempt import Attempt, WorkerLoss
from .attempt_frames import AttemptError, Behavior, read_reply
from .ticks import Ticks

_encode: Final = msgspec.msgpack.Encoder().encode
_ABORT_FRAME: Final = messages.frame(messages.ABORT, b"")
_SUPERSEDED_FRAME: Final = messages.frame(messages.SUPERSEDED, b"")
_SUSPEND_FRAME: Final = messages.frame(messages.SUSPEND, b"")

TOO_LARGE: Final = 413
"""Failure code of attempts that no worker can be given."""

STREAM_MAX: Final = (1 << 32) - 1

WORKER_LOST: Final = 503
"""Failure code of attempts whose worker went away."""


class WorkerSession:
    """A worker that was welcomed.

    Attributes:
        deployment: what it runs.
        services: names of the services it offers.
        attempts: open attempts by stream.
        draining: it finishes what it has and takes nothing new.
        ticks: the coarse clock by which attempts are found silent.
    """

    # Above this the worker does not keep up with reading; giving it more only fills memory.
    QUEUED_BYTES_MAX: Final = 64 * 1024 * 1024
    EXAMINED_MAX: Final = 8

    def __init__(
        self,
        hello: Hello,
        connection: Connection,
        loop: AbstractEventLoop,
        on_room: Callable[[], None],
        ticks: Ticks,
    ) -> None:
        """Serve the worker behind `connection`; `on_room` is called when it can take more."""
        self.worker = hello.worker
        self.deployment = hello.deployment
        self.services = tuple(service.name for service in hello.services)
        self.attempts: dict[int, Attempt] = {}
        self.draining = False
        self.ticks = ticks
        self._attempts_max = hello.attempts_max
        self._connection = connection
        self._loop = loop
        self._on_room = on_room
        self._reader = EnvelopeReader()
        self._writer = EnvelopeWriter()
        self._next_stream = SESSION_STREAM + 1
        self._scheduled = False
        self._closed = False

    def has_room(self) -> bool:
        """Whether another attempt may be opened now."""
        return (
            len(self.attempts) < self._attempts_max
            and not self.draining
            and not self._closed
            and self._writer.size + self._connection.queued_bytes < self.QUEUED_BYTES_MAX
        )

    def open(self, attempt: Attempt) -> None:
        """Start an attempt on the worker; it leaves with everything else of this turn."""
        segments = attempt.owner.start_segments(attempt)
        if not segments:
            return
        if max(len(frames) for _, frames in segments) > REASSEMBLED_BYTES_MAX:
            # The worker would have to drop the connection, and every other attempt with it.
            error = AttemptError(
                TOO_LARGE,
                f"state and input together are over {REASSEMBLED_BYTES_MAX} bytes: keep large "
                "values elsewhere and their names in the state",
                behavior=Behavior.FAIL,
            )
            attempt.owner.propose_failure(attempt, error, lost=None)
            return
        stream = self._next_stream
        # A long life uses all 32 bits up; by then the first streams ended days ago, or nearly all.
        self._next_stream = stream + 1 if stream < STREAM_MAX else SESSION_STREAM + 1
        while self._next_stream in self.attempts:
            self._next_stream += 1
        attempt.session = self
        attempt.stream = stream
        attempt.heard = self.ticks.now
        self.attempts[stream] = attempt
        for record_time_ns, frames in segments:
            self._writer.add(stream, record_time_ns, frames)
        self._schedule()
        if not attempt.handling.inactivity_timeout_ns:
            self.ask_to_suspend(attempt)

    def notify(self, attempt: Attempt, record_time_ns: int, frames: bytes) -> None:
        """Send notifications to an open attempt."""
        attempt.heard = self.ticks.now
        if attempt.runs:
            for message_type, _, _ in messages.split_frames(frames):
                attempt.runs -= message_type == messages.RUN_COMPLETION
        self._writer.add(attempt.stream, record_time_ns, frames)
        self._schedule()

    def ask_to_suspend(self, attempt: Attempt) -> None:
        """Have the worker suspend an attempt as soon as it waits and runs no step."""
        if attempt.stream in self.attempts and attempt.suspending < 0:
            attempt.suspending = self.ticks.now
            self._writer.add(attempt.stream, 0, _SUSPEND_FRAME)
            self._schedule()

    def some_blocked(self) -> Attempt | None:
        """An attempt that waits and runs no step, as far as is known; of the older ones first.

        Looks at a few only, and at others the next time: it is asked often where a worker is full.
        """
        attempts = self.attempts
        for stream in list(islice(attempts, self.EXAMINED_MAX)):
            attempt = attempts[stream]
            if not attempt.over and attempt.suspending < 0 and attempt.runs <= 0:
                return attempt
            del attempts[stream]
            attempts[stream] = attempt
        return None

    def ask_to_stop(self, attempt: Attempt) -> None:
        """Have the worker drop an attempt; the stream stays until it says that it has.

        What it writes before that goes to the log, which decides.
        """
        if attempt.stream in self.attempts:
            self._writer.add(attempt.stream, 0, _ABORT_FRAME)
            self._schedule()

    def supersede(self, attempt: Attempt) -> None:
        """The log has refused what the attempt wrote: tell the worker and forget the attempt."""
        self._writer.add(attempt.stream, 0, _SUPERSEDED_FRAME)
        self._schedule()
        if self.attempts.pop(attempt.stream, None) is not None:
            self._on_room()

    def welcome(self, welcome: Welcome) -> None:
        """Tell the worker that it is in."""
        self._writer.add(SESSION_STREAM, 0, messages.frame(messages.WELCOME, _encode(welcome)))
        self._schedule()

    def tell_nodes(self, nodes: Nodes) -> None:
        """Tell the worker which nodes there are."""
        self._writer.add(SESSION_STREAM, 0, messages.frame(messages.NODES, _encode(nodes)))
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled and not self._closed:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._closed:
            return
        for message in self._writer.take():
            try:
                self._connection.send(message)
            except TransportError:
                return  # The reader sees the same loss and ends the session.

    def received(self, message: bytes) -> None:
        """Take one message of the worker. Raises MalformedMessageError or MessageTooLargeError."""
        for stream, _, frames in self._reader.read(message):
            attempt = self.attempts.get(stream)
            if attempt is not None:
                attempt.heard = self.ticks.now
                self._reply(attempt, frames)
            elif stream == SESSION_STREAM:
                self._control(frames)
            # Anything else belongs to an attempt that was ended while the frames were under way.

    def _reply(self, attempt: Attempt, frames: bytes) -> None:
        if len(frames) == len(_ABORT_FRAME) and frames == _ABORT_FRAME:
            del self.attempts[attempt.stream]
            if not attempt.over:
                error = AttemptError(WORKER_LOST, f"worker {self.worker} gave the attempt back")
                attempt.owner.propose_failure(attempt, error, lost=WorkerLoss.WITH_OTHERS)
            self._on_room()
            return
        reply = read_reply(frames)
        attempt.runs += reply.runs
        if reply.frames:
            attempt.owner.propose_chunk(
                attempt, self.deployment, reply.frames, ended=reply.ended, calls=reply.calls
            )
        if reply.ended or reply.error is not None:
            # The log may have refused it at once, and then the stream is gone already.
            self.attempts.pop(attempt.stream, None)
            if reply.error is not None:
                attempt.owner.propose_failure(attempt, reply.error, lost=None)
            self._on_room()

    def _control(self, frames: bytes) -> None:
        for message_type, _, _ in messages.split_frames(frames):
            if message_type == messages.DRAIN:
                self.draining = True

    def lost(self, error: PerdureError | None) -> None:
        """The connection is gone: every open attempt has failed."""
        self._closed = True
        reason = "" if error is None else f": {error}"
        failure = AttemptError(WORKER_LOST, f"the connection to worker {self.worker} ended{reason}")
        attempts = [attempt for attempt in self.attempts.values() if not attempt.over]
        self.attempts.clear()
        lost = WorkerLoss.ALONE if len(attempts) == 1 else WorkerLoss.WITH_OTHERS
        for attempt in attempts:
            attempt.session = None
            attempt.owner.propose_failure(attempt, failure, lost=lost)
