"""A worker without a loop: the real attempts, fed message by message, their steps run when told."""

from collections import deque
from typing import Any, Final

import msgspec

from ...core.clock import ManualClock
from ...core.errors import TransportError
from ...core.ids import InvocationId
from ...core.protocol import messages
from ...core.protocol.envelope import SESSION_STREAM, EnvelopeReader, EnvelopeWriter
from ...core.protocol.messages import FRAME_HEADER, FRAME_HEADER_BYTES, frame
from ...core.protocol.session import Open
from ...sdk.attempt import Attempt
from ...sdk.blocking import BlockingRun
from ...sdk.handlers import Handler
from ...sdk.steps import Step
from .hand_loop import drive
from .stage import Stage

_decode_open: Final = msgspec.msgpack.Decoder(Open).decode
_DRAIN_FRAME: Final = frame(messages.DRAIN, b"")
_ABORT_FRAME: Final = frame(messages.ABORT, b"")
_SUPERSEDED_FRAME: Final = frame(messages.SUPERSEDED, b"")


class Link:
    """A connection between node and worker: messages wait in it until a history delivers them.

    It is the node's end, too: `send` and `queued_bytes` are what a session asks of a connection.
    """

    queued_bytes = 0

    def __init__(self) -> None:
        """Start open and empty."""
        self.to_worker: deque[bytes] = deque()
        self.to_node: deque[bytes] = deque()
        self.open = True

    def send(self, message: bytes) -> None:
        """The node sends. Raises TransportError once it is cut."""
        if not self.open:
            raise TransportError("the link is cut")
        self.to_worker.append(message)

    def cut(self) -> None:
        """Lose everything under way, for good."""
        self.open = False
        self.to_worker.clear()
        self.to_node.clear()


class HistoryWorker:
    """One worker process over its connections to the node; the host of its attempts.

    Attributes:
        stage: what handlers find the world by.
        link: to the node; None while there is none.
        steps: closures that wait to be run.
        frozen: takes and does nothing for now.
        draining: has said that it takes nothing new.
    """

    def __init__(
        self,
        stage: Stage,
        handlers: dict[tuple[str, str], Handler],
        clock: ManualClock,
        skew_ns: int,
    ) -> None:
        """Run `handlers`, with a clock that is `skew_ns` off."""
        self.stage = stage
        self._handlers = handlers
        self._clock = clock
        self._skew_ns = skew_ns
        self.link: Link | None = None
        self._reader = EnvelopeReader()
        self._writer = EnvelopeWriter()
        self._attempts: dict[int, Attempt] = {}
        self._by_invocation: dict[InvocationId, Attempt] = {}
        self.steps: list[Step] = []
        self.frozen = False
        self.draining = False

    # As the history moves it ---------------------------------------------------------------------

    def connect(self, link: Link) -> None:
        """A new connection, after the loss of the last one was noticed."""
        assert not self._attempts, "the loss of a connection ends its attempts"
        self.link = link
        self.draining = False
        self._reader = EnvelopeReader()
        self._writer = EnvelopeWriter()

    def receive(self) -> None:
        """Work off the next message and answer it."""
        assert self.link is not None
        for stream, record_time_ns, frames in self._reader.read(self.link.to_worker.popleft()):
            self._take(stream, record_time_ns, frames)
        self._flush()

    def run_step(self, index: int) -> None:
        """Run the closure that is `index` among those that wait."""
        step = self.steps.pop(index)
        value: Any = None
        error: BaseException | None = None
        try:
            value = step.variables.run(step.action, *step.arguments, **step.keywords)
            if hasattr(value, "send"):
                value = drive(value)
        except Exception as raised:
            error = raised
        step.attempt.finish_step(step, value, error, 1_000_000)
        self._flush()

    def drain(self) -> None:
        """Finish what runs here, and take nothing new."""
        self.draining = True
        self._writer.add(SESSION_STREAM, 0, _DRAIN_FRAME)
        self._flush()

    @property
    def drained(self) -> bool:
        """Whether everything is finished after `drain`."""
        link = self.link
        busy = self._attempts or link is None or link.to_worker or link.to_node
        return self.draining and not busy

    def lose(self) -> None:
        """The connection is gone, and with it everything that ran on it."""
        self.link = None
        for attempt in list(self._attempts.values()):
            attempt.abort()
            self._forget(attempt)
        self.steps.clear()

    def _flush(self) -> None:
        link = self.link
        for message in self._writer.take():
            if link is not None and link.open:
                link.to_node.append(message)

    # As a session does ---------------------------------------------------------------------------

    def _take(self, stream: int, record_time_ns: int, frames: bytes) -> None:
        attempt = self._attempts.get(stream)
        if frames == _SUPERSEDED_FRAME:
            if attempt is not None:
                attempt.abort()
                self._forget(attempt)
            return
        if attempt is not None:
            answer = attempt.feed(frames, record_time_ns)
            if attempt.ended and not answer:
                answer = _ABORT_FRAME
        elif stream == SESSION_STREAM:
            return
        else:
            message_type, _flags, length = FRAME_HEADER.unpack_from(frames)
            if message_type != messages.OPEN:
                return
            body_end = FRAME_HEADER_BYTES + length
            opened = _decode_open(frames[FRAME_HEADER_BYTES:body_end])
            handler = self._handlers[opened.service, opened.handler]
            attempt = Attempt(handler, self, stream, (opened.epoch, opened.attempt))
            self._attempts[stream] = attempt
            attempt.told_time(opened.time_ns)
            answer = attempt.feed(frames, record_time_ns, body_end)
        if answer:
            self._writer.add(stream, 0, answer)
        if attempt.ended:
            self._forget(attempt)

    def _forget(self, attempt: Attempt) -> None:
        self._attempts.pop(attempt.stream, None)
        if self._by_invocation.get(attempt.machine.invocation_id) is attempt:
            del self._by_invocation[attempt.machine.invocation_id]

    # As the host of its attempts -----------------------------------------------------------------

    def admit(self, attempt: Attempt) -> bool:
        """Whether the attempt is the newest of its invocation here; ends an older one."""
        invocation_id = attempt.machine.invocation_id
        running = self._by_invocation.setdefault(invocation_id, attempt)
        if running is attempt:
            return True
        if running.number >= attempt.number:
            self._writer.add(attempt.stream, 0, _ABORT_FRAME)
            return False
        running.supersede()
        self._by_invocation[invocation_id] = attempt
        return True

    def superseded(self, attempt: Attempt) -> None:
        """The attempt ended because a newer one began."""
        self._writer.add(attempt.stream, 0, _ABORT_FRAME)
        self._forget(attempt)

    def start_step(self, step: Step) -> None:
        """The closure is to be run, some time."""
        self.steps.append(step)

    def cancel_step(self, step: Step) -> None:
        """The closure is not wanted any more."""
        if step in self.steps:
            self.steps.remove(step)

    def handler_turn(self, run: BlockingRun) -> None:
        """No handler of a history is a `def`, which would take a thread."""
        raise AssertionError(run)

    def forget_handler(self, run: BlockingRun) -> None:
        """As `handler_turn`."""
        raise AssertionError(run)

    def node_time_ns(self) -> int:
        """The node's clock, as this worker believes it to be."""
        return self._clock.time_ns() + self._skew_ns

    def output_ready(self, attempt: Attempt) -> None:
        """A step has brought frames about."""
        answer = attempt.take_output()
        if answer:
            self._writer.add(attempt.stream, 0, answer)
        if attempt.ended:
            self._forget(attempt)
