"""The replay check: what an attempt has recorded is given to its handler again, right afterwards.

The handler must do the same commands in the same order and then stand where it stood. Its steps are
not run, and nothing leaves the process: a replay has no worker and no node, only the journal.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from types import FrameType
from typing import Any, Final, Literal, TypeAlias

from google.protobuf.message import DecodeError

from ..core.protocol import messages
from ..core.protocol.messages import frame, split_frames
from ..proto.generated import service_protocol_pb2 as pb
from ..sdk import replay, vm
from ..sdk.attempt import Attempt, AttemptHost
from ..sdk.blocking import BlockingRun, Ended
from ..sdk.errors import AttemptEnded, ProtocolViolationError
from ..sdk.handlers import Handler
from ..sdk.source_lines import caller_line
from ..sdk.steps import Step

ReplayMode: TypeAlias = Literal["whole", "every prefix", "off"]

THREAD_SECONDS_MAX: Final = 5.0
"""So long the thread of a `def` handler may compute in a replay; then it is left alone."""

_ENDINGS: Final = (messages.END, messages.SUSPENSION, messages.ERROR)
_NOT_RECORDED: Final = (messages.SUSPEND, messages.ABORT, messages.COMMAND_ACK)

Frame: TypeAlias = tuple[int, int, bytes]
"""Record time in ns, message type, body."""


def is_command(message_type: int) -> bool:
    """Whether a message is one that a handler issues and the journal keeps."""
    return messages.COMMAND_FIRST <= message_type <= messages.COMMAND_LAST


class Recording:
    """What one attempt was given and what it gave, in order.

    Attributes:
        entries: of the journal, the Input left out.
        ended_with: type of the message that ended it; 0 when it was given up.
        error: the Error that ended it.
    """

    def __init__(self) -> None:
        """Nothing yet."""
        self._start: pb.Start | None = None
        self._input: Frame | None = None
        self.entries: list[Frame] = []
        self.ended_with = 0
        self.error: pb.Error | None = None

    def take(self, record_time_ns: int, frames: bytes) -> None:
        """Frames that the node has sent."""
        for kind, start, end in split_frames(frames):
            one = (record_time_ns, kind, frames[start:end])
            if kind == messages.START:
                self._start = pb.Start.FromString(one[2])
            elif kind == messages.INPUT_COMMAND:
                self._input = one
            elif kind not in _NOT_RECORDED:
                self.entries.append(one)

    def give(self, frames: bytes) -> None:
        """Frames that the attempt has sent."""
        for kind, start, end in split_frames(frames):
            body = frames[start:end]
            if is_command(kind) and kind != messages.OUTPUT_COMMAND:
                self.entries.append((0, kind, body))
            elif kind in _ENDINGS:
                self.ended_with = kind
                if kind == messages.ERROR:
                    self.error = pb.Error.FromString(body)

    @property
    def begun(self) -> bool:
        """Whether the handler was started."""
        return self._start is not None and self._input is not None

    def feed(self, attempt: Attempt, count: int) -> bytes:
        """Open `attempt` with the first `count` entries; what it sends."""
        assert self._start is not None
        assert self._input is not None
        start = pb.Start()
        start.CopyFrom(self._start)
        start.known_entries = 1 + count
        sent = attempt.feed(frame(messages.START, start.SerializeToString()))
        for record_time_ns, kind, body in (self._input, *self.entries[:count]):
            sent += attempt.feed(frame(kind, body), record_time_ns)
        return sent


class RecordedAttempt(Attempt):
    """An attempt that keeps a recording of itself.

    Attributes:
        recording: what it was given and gave.
    """

    __slots__ = ("_is_dead", "_on_end", "_on_output", "_told", "recording")

    def __init__(
        self,
        handler: Handler,
        host: AttemptHost,
        stream: int = 0,
        number: tuple[int, int] = (0, 0),
        *,
        on_output: Callable[["RecordedAttempt", bytes], bytes],
        on_end: Callable[["RecordedAttempt"], None],
        is_dead: Callable[[], bool],
    ) -> None:
        """As `Attempt`.

        Args:
            on_output: is given what the attempt sends and gives what is really sent.
            on_end: called once, when it has ended.
            is_dead: whether its worker has crashed, so that nothing reaches it any more.
        """
        super().__init__(handler, host, stream, number)
        self._on_output = on_output
        self._on_end = on_end
        self._is_dead = is_dead
        self._told = False
        self.recording = Recording()

    @property
    def handler(self) -> Handler:
        """What it runs."""
        return self._handler

    def feed(self, frames: bytes, record_time_ns: int = 0, start: int = 0) -> bytes:
        """As `Attempt.feed`."""
        if self._is_dead():
            return b""
        if not self.ended:
            self.recording.take(record_time_ns, frames[start:])
        return self._sends(super().feed(frames, record_time_ns, start))

    def take_output(self) -> bytes:
        """As `Attempt.take_output`."""
        return self._sends(super().take_output())

    def abort(self) -> None:
        """As `Attempt.abort`."""
        super().abort()
        self._tell()

    def _sends(self, frames: bytes) -> bytes:
        self.recording.give(frames)
        if frames:
            frames = self._on_output(self, frames)
        if self.ended:
            self._tell()
        return frames

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            self._on_end(self)


class _Nowhere:
    """The host of a replay: no step is run and nothing is sent.

    Attributes:
        sent: what the attempt would have sent in answer to a thread.
    """

    def __init__(self, time_ns: int) -> None:
        self._time_ns = time_ns
        self._posts: SimpleQueue[tuple[BlockingRun, Callable[[], Any] | Ended]] = SimpleQueue()
        self.sent = b""

    def admit(self, attempt: Attempt) -> bool:
        return True

    def superseded(self, attempt: Attempt) -> None:
        pass

    def start_step(self, step: Step) -> None:
        pass

    def cancel_step(self, step: Step) -> None:
        pass

    def handler_turn(self, run: BlockingRun) -> None:
        if not run.begun:
            run.begun = True
            run.pool = self
            Thread(target=run.work, name="perdure-replay", daemon=True).start()

    def forget_handler(self, run: BlockingRun) -> None:
        pass

    def post(self, run: BlockingRun, what: Callable[[], Any] | Ended) -> None:
        self._posts.put((run, what))

    def node_time_ns(self) -> int:
        return self._time_ns

    def output_ready(self, attempt: Attempt) -> None:
        self.sent += attempt.take_output()

    def follow(self, attempt: Attempt) -> None:
        """Answer the thread of a `def` handler for as long as it computes."""
        while (run := attempt.blocking) is not None and run.busy and not attempt.ended:
            try:
                asking, what = self._posts.get(timeout=THREAD_SECONDS_MAX)
            except Empty:
                return
            asking.take(what)


class _Machine(vm.Machine):
    """A machine for which the journal's end is the end; `may_end`: only the Output may follow."""

    def __init__(self, *, may_go_on: bool, may_end: bool) -> None:
        super().__init__()
        self._may_go_on = may_go_on
        self._may_end = may_end

    def command(self, message_type: int, body: bytes, name: str | None = None) -> bool:
        ends = message_type == messages.OUTPUT_COMMAND
        if not (self.closed or self.replaying or (ends and self._may_end)):
            if self._may_go_on:
                self.abort()
                raise AttemptEnded("what comes now was not recorded")
            self.command_index += 1
            words = "ends" if ends else f"does {replay.describe_command(message_type, body)}"
            self._mismatch(
                f"the code now {words}, where the journal has nothing more",
                message_type,
                name,
                self._user_line(),
            )
        return super().command(message_type, body, name)

    def _user_line(self) -> str:
        if self.thread is not None:
            return super()._user_line()
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code is not _Machine.command.__code__:
            frame = frame.f_back
        # From here on down it is the SDK and then the user's code.
        return caller_line(None if frame is None else frame.f_back, within_handler=True)


def check_recording(handler: Handler, recording: Recording, mode: ReplayMode) -> str | None:
    """Replay what an attempt has recorded; in words what was different, None if nothing was.

    Must be called from a plain callback of the event loop, or without one.
    """
    error = recording.error
    if error is not None and error.code == vm.CODE_JOURNAL_MISMATCH:
        return error.message
    if mode == "off" or not recording.begun or error is not None:
        return None  # what failed is replayed by the next try, which also counts as one
    disabled = logging.root.manager.disable
    # Whatever the handler logs, it has logged before.
    logging.disable(logging.CRITICAL)
    try:
        if mode == "every prefix":
            for count in range(len(recording.entries)):
                found = _replay(handler, recording, count)
                if found is not None:
                    return found
        return _replay(handler, recording, len(recording.entries))
    finally:
        logging.disable(disabled)


def _replay(handler: Handler, recording: Recording, count: int) -> str | None:
    whole = count == len(recording.entries)
    ended = recording.ended_with == messages.END
    last_ns = max((time for time, _, _ in recording.entries[:count]), default=0)
    host = _Nowhere(last_ns)
    attempt = Attempt(handler, host)
    attempt.machine = _Machine(may_go_on=not whole, may_end=ended)
    try:
        sent = recording.feed(attempt, count)
        host.follow(attempt)
        sent += host.sent
        lines = attempt.place
    finally:
        attempt.abort()
    errors = [pb.Error.FromString(body) for kind, body in _frames(sent) if kind == messages.ERROR]
    for error in errors:
        if error.code == vm.CODE_JOURNAL_MISMATCH:
            return error.message
    if not whole:
        return None  # what the rest came to depends on what is cut off
    if errors:
        return f"the code now fails: {errors[0].message}"
    if ended and not any(kind == messages.END for kind, _ in _frames(sent)):
        return f"the code now waits, where it has ended: {lines}"
    return None


def _frames(data: bytes) -> Sequence[tuple[int, bytes]]:
    return [(kind, data[start:end]) for kind, start, end in split_frames(data)]


def describe_entry(message_type: int, body: bytes) -> str:
    """An entry of a journal in words."""
    if is_command(message_type):
        return replay.describe_command(message_type, body)
    try:
        note = pb.Notification.FromString(body)
    except DecodeError as error:
        raise ProtocolViolationError(f"a notification does not decode: {error}") from None
    name = note.WhichOneof("id")
    what: Any = getattr(note, name) if name else "?"
    result = note.WhichOneof("result") or "nothing"
    return f"{(name or 'notification').replace('_', ' ')} {what}: {result}"
