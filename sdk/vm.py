"""The service protocol for one attempt of one invocation: frames in, frames out, no IO.

The journal is a sequence of commands (what the handler asked for) and notifications (what came of
it). A replayed attempt is handed the commands it issued before; `command` checks each new one
against the stored one in the same position, so that a handler that changed its mind is found out
at the first step that differs. Notifications wait here until the handler is blocked and asks for
exactly one (`next_notification`), so that its state after k of them depends on the first k alone.
"""

import sys
from collections import deque
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from ..core.ids import InvocationId
from ..core.protocol import messages
from ..core.protocol.messages import FRAME_HEADER
from ..proto.generated import service_protocol_pb2 as pb
from . import replay, texts, wire, wire_commands
from .errors import AttemptEnded, JournalMismatchError, ProtocolViolationError
from .source_lines import caller_line

CODE_INTERNAL: Final = texts.CODE_INTERNAL
CODE_JOURNAL_MISMATCH: Final = 570
CODE_PROTOCOL_VIOLATION: Final = 571

# A value as long as values may be, with room for its key and its name.
COMMAND_BYTES_MAX: Final = messages.ENTRY_BYTES_MAX + 64 * 1024

# Code that swallows the end of its attempt is refused so often; then it is left waiting.
REFUSALS_MAX: Final = 100
_pack_header: Final = FRAME_HEADER.pack


class Machine:
    """One attempt's side of the protocol.

    Attributes:
        invocation_id: 24 raw bytes; empty before the Start frame.
        key: the virtual object's key, empty for services.
        input: the request's body.
        command_index: index of the last command issued; the Input command is 0.
        completions: the completion id given out last; ids count from 1 in program order.
        input_time_ns: record time of the Input.
        closed: nothing may be issued any more.
        failure: what the attempt has failed with, for which another may be made.
        opened: Start and everything that it announced have arrived.
        suspend_requested: the node wants the attempt to suspend once nothing else is left to do.
        thread: of a `def` handler, the thread that its code runs in, for messages; else None.
    """

    __slots__ = (
        "_entries_missing",
        "_input_command",
        "_notifications",
        "_output",
        "_partial_state",
        "_refusals",
        "_replayed",
        "_start",
        "_state",
        "closed",
        "command_index",
        "completions",
        "failure",
        "input",
        "input_time_ns",
        "invocation_id",
        "key",
        "opened",
        "suspend_requested",
        "thread",
    )

    def __init__(self) -> None:
        """Wait for the Start frame."""
        self._start: pb.Start | None = None
        self._input_command: pb.InputCommand | None = None
        self._entries_missing = 0
        self._replayed: list[tuple[int, bytes]] = []
        self._notifications: deque[tuple[int, bytes]] = deque()
        self._output: list[bytes] = []
        self.failure: pb.Error | None = None
        self._state: dict[bytes, bytes | None] = {}
        self._partial_state = True
        self.invocation_id = InvocationId(b"")
        self.key = ""
        self.input = b""
        self.command_index = 0
        self.completions = 0
        self.input_time_ns = 0
        self.closed = False
        self.opened = False
        self.suspend_requested = False
        self.thread: int | None = None
        self._refusals = 0

    # Frames in

    def feed(self, data: bytes, record_time_ns: int, start: int = 0) -> None:
        """Take whole frames, from byte `start` on. Raises ProtocolViolationError."""
        position, end = start, len(data)
        unpack = FRAME_HEADER.unpack_from
        while position < end:
            if position + 8 > end:
                raise ProtocolViolationError(f"frame header cut short at byte {position} of {end}")
            message_type, _flags, length = unpack(data, position)
            body_start = position + 8
            position = body_start + length
            if position > end:
                raise ProtocolViolationError(
                    f"frame of type {message_type:#06x} says {length} bytes, "
                    f"{end - body_start} are there"
                )
            if message_type == messages.START:
                self._take_start(data[body_start:position])
                continue
            self._take(message_type, data[body_start:position], record_time_ns)

    def _take(self, message_type: int, body: bytes, record_time_ns: int) -> None:
        if messages.NOTIFICATION_FIRST <= message_type <= messages.NOTIFICATION_LAST:
            self._notifications.append((record_time_ns, body))
        elif message_type == messages.INPUT_COMMAND:
            self._input_command = command = pb.InputCommand.FromString(body)
            self.input = command.value.content
            self.input_time_ns = record_time_ns
        elif message_type in replay.COMMAND_NAMES and not self.opened:
            self._replayed.append((message_type, body))
        elif message_type == messages.ABORT:
            self.abort()
            return
        elif message_type == messages.COMMAND_ACK:
            return
        elif message_type == messages.SUSPEND:
            self.suspend_requested = True
            return
        else:
            raise ProtocolViolationError(
                f"message of type {message_type:#06x} is not one that this program knows here"
            )
        if not self.opened:
            self._entries_missing -= 1
            if self._entries_missing <= 0:
                self._open()

    def _take_start(self, body: bytes) -> None:
        if self._start is not None:
            raise ProtocolViolationError("a second Start on one stream")
        self._start = start = pb.Start.FromString(body)
        self.invocation_id = InvocationId(start.id)
        self.key = start.key
        self._entries_missing = start.known_entries
        self._partial_state = start.partial_state
        if start.state_map:
            self._state = {entry.key: entry.value for entry in start.state_map}
        if not start.known_entries:
            raise ProtocolViolationError("Start announces no entries; the Input is one")

    def _open(self) -> None:
        if self._start is None or self._input_command is None:
            raise ProtocolViolationError("entries arrived without Start or without Input")
        self.opened = True

    @property
    def start(self) -> pb.Start:
        """The Start message; only after `opened`."""
        assert self._start is not None
        return self._start

    @property
    def headers(self) -> dict[str, str]:
        """The request's headers."""
        assert self._input_command is not None
        return {header.key: header.value for header in self._input_command.headers}

    def next_notification(self) -> tuple[int, pb.Notification] | None:
        """The next (record time in ns, notification) in journal order, None when none is left."""
        if not self._notifications:
            return None
        record_time_ns, body = self._notifications.popleft()
        return record_time_ns, pb.Notification.FromString(body)

    @property
    def journal_left(self) -> str:
        """The stored command that the handler has not come to, in words; empty when none is."""
        if self.command_index >= len(self._replayed):
            return ""
        return replay.describe_command(*self._replayed[self.command_index])

    # Commands out

    @property
    def replaying(self) -> bool:
        """Whether the next command is one that the journal has already."""
        return self.command_index < len(self._replayed)

    def command(self, message_type: int, body: bytes, name: str | None = None) -> bool:
        """Issue one command; True when it was in the journal already and nothing is sent.

        Raises AttemptEnded when the machine is closed, and after closing it with an error when
        the journal has another command here; TerminalError for a body that is too long. Code that
        asks on and on after the end is let through: what it waits for then never comes.
        """
        if self.closed:
            if self.refuse():
                raise AttemptEnded("the attempt has ended")
            return True
        if len(body) > COMMAND_BYTES_MAX:
            raise wire.too_large(f"{replay.COMMAND_NAMES[message_type]} with its key", len(body))
        position = self.command_index
        self.command_index = position + 1
        replayed = self._replayed
        if position >= len(replayed):
            self._output.append(_pack_header(message_type, 0, len(body)) + body)
            return False
        stored = replayed[position]
        if stored[1] != body or stored[0] != message_type:
            self._check(message_type, body, stored, name)
        return True

    def refuse(self) -> bool:
        """Note that ended code goes on; False when it has done so too often to be told."""
        self._refusals += 1
        return self._refusals <= REFUSALS_MAX

    def _user_line(self) -> str:
        frame = sys._getframe(1)
        if self.thread is not None:
            frame = sys._current_frames().get(self.thread, frame)
        return caller_line(frame, within_handler=True)

    def _check(
        self, message_type: int, body: bytes, stored: tuple[int, bytes], name: str | None
    ) -> None:
        stored_type, stored_body = stored
        if stored_type == message_type:
            if message_type == messages.OUTPUT_COMMAND:
                return  # the answer that was stored first stands
            if replay.same_command(message_type, body, stored_body):
                return
        self._mismatch(
            f"the code now does {replay.describe_command(message_type, body)}, the journal has "
            f"{replay.describe_command(stored_type, stored_body)}",
            message_type,
            name,
            self._user_line(),
        )

    def _mismatch(self, what: str, message_type: int | None, name: str | None, line: str) -> None:
        sentence = (
            f"journal mismatch at command {self.command_index}"
            + (f", {line}" if line else "")
            + f": {what}. The handler's code must do the same steps in the same order as when the "
            "invocation began"
        )
        self.fail(
            CODE_JOURNAL_MISMATCH,
            f"[{JournalMismatchError.code}] {sentence}",
            related=None if message_type is None else (self.command_index, name, message_type),
        )
        raise AttemptEnded(sentence) from JournalMismatchError(sentence)

    def blocked_before_journal_end(self, does: str, line: str) -> None:
        """The handler waits or ends although stored commands are left: fail. Raises as `command`.

        `does` says which, and `line` where.
        """
        left = self.journal_left
        self.command_index += 1
        self._mismatch(f"the code {does}, the journal goes on with {left}", None, None, line)

    def unknown_completion(self, completion_id: int, line: str) -> None:
        """A completion arrived of a command that the handler has not issued. Raises as `command`.

        What a handler has seen decides what it has issued, so the code must have changed.
        """
        self.command_index += 1
        self._mismatch(
            f"the code has not issued the command that completion {completion_id} answers",
            None,
            None,
            line,
        )

    def get_state(self, key: bytes, name: str | None) -> tuple[int, bytes | None]:
        """Read one state: (0, value or None) when known, else (completion id, None).

        Every read takes a completion id, so that eager and lazy attempts number alike.
        """
        self.completions += 1
        if self.command_index >= len(self._replayed):
            if self._partial_state and key not in self._state:
                body = wire.get_lazy_state(key, self.completions, name)
                self.command(messages.GET_LAZY_STATE_COMMAND, body, name)
                return self.completions, None
            value = self._state.get(key)
            body = wire.get_eager_state(key, value, name)
            self.command(messages.GET_EAGER_STATE_COMMAND, body, name)
            return 0, value
        # The journal decides between the two forms and holds the value that was seen then.
        stored_type, stored_body = self._replayed[self.command_index]
        if stored_type == messages.GET_EAGER_STATE_COMMAND:
            stored = pb.GetEagerStateCommand.FromString(stored_body)
            if stored.key == key and not self.closed:
                self.command_index += 1
                return 0, stored.value.content if stored.HasField("value") else None
        body = wire.get_lazy_state(key, self.completions, name)
        self.command(messages.GET_LAZY_STATE_COMMAND, body, name)
        return self.completions, None

    def set_state(self, key: bytes, value: bytes, name: str | None) -> None:
        """Write one state; later reads of this attempt see it."""
        self.command(messages.SET_STATE_COMMAND, wire.set_state(key, value, name), name)
        self._state[key] = value

    def clear_state(self, key: bytes, name: str | None) -> None:
        """Remove one state; later reads of this attempt find nothing."""
        self.command(messages.CLEAR_STATE_COMMAND, wire.clear_state(key, name), name)
        self._state[key] = None

    def clear_all_state(self, name: str | None) -> None:
        """Remove every state; later reads of this attempt find nothing."""
        self.command(messages.CLEAR_ALL_STATE_COMMAND, wire_commands.clear_all_state(name), name)
        self._state.clear()
        self._partial_state = False

    def state_keys(self, name: str | None) -> tuple[int, list[bytes]]:
        """Read the names of the states, sorted: (0, names) when known, else (completion id, [])."""
        self.completions += 1
        keys = sorted(key for key, value in self._state.items() if value is not None)
        lazy = self._partial_state
        if self.command_index < len(self._replayed):
            stored_type, stored_body = self._replayed[self.command_index]
            lazy = stored_type != messages.GET_EAGER_STATE_KEYS_COMMAND
            if not lazy:
                keys = list(pb.GetEagerStateKeysCommand.FromString(stored_body).value.keys)
        if lazy:
            body = wire_commands.get_lazy_state_keys(self.completions, name)
            self.command(messages.GET_LAZY_STATE_KEYS_COMMAND, body, name)
            return self.completions, []
        body = wire_commands.get_eager_state_keys(keys, name)
        self.command(messages.GET_EAGER_STATE_KEYS_COMMAND, body, name)
        return 0, keys

    def run(self, name: str) -> tuple[int, int, bool]:
        """Issue a Run: (its completion id, its command index, whether it was stored before)."""
        self.completions += 1
        body = wire.run(self.completions, name)
        stored = self.command(messages.RUN_COMMAND, body, name)
        return self.completions, self.command_index, stored

    def propose(self, completion_id: int, value: bytes) -> None:
        """Propose a step's result; it counts once its notification comes back."""
        if not self.closed:
            self._add(messages.PROPOSE_RUN_COMPLETION, wire.propose_run_value(completion_id, value))

    def propose_failure(self, completion_id: int, failure: pb.Failure) -> None:
        """Propose that a step has failed for good."""
        if not self.closed:
            self._add(
                messages.PROPOSE_RUN_COMPLETION, wire.propose_run_failure(completion_id, failure)
            )

    # The end

    def succeed(self, value: bytes) -> None:
        """The handler returned. Raises as `command`."""
        self._end_with(wire.output_value(value))

    def fail_terminally(
        self, code: int, message: str, metadata: Mapping[str, str] | None = None
    ) -> None:
        """The handler failed for good. Raises as `command`."""
        failure = wire.failure(code, message, metadata)
        self._end_with(wire.output_failure(failure))

    def _end_with(self, body: bytes) -> None:
        if self.closed:
            raise AttemptEnded("the attempt has ended")
        output = self._output
        if self.command_index >= len(self._replayed):
            header = _pack_header(messages.OUTPUT_COMMAND, 0, len(body))
            self.command_index += 1
            output.append(header + body + wire.END_FRAME)
        else:
            self.command(messages.OUTPUT_COMMAND, body)
            output.append(wire.END_FRAME)
        self.closed = True

    def fail(
        self,
        code: int,
        message: str,
        stacktrace: str = "",
        related: tuple[int, str | None, int] | None = None,
        retry_after: timedelta | None = None,
    ) -> None:
        """This attempt failed and another may be made; `related` is (index, name, type)."""
        if self.closed:
            return
        error = pb.Error(
            code=texts.status_code_of(code),
            message=texts.message_text(message),
            stacktrace=texts.stacktrace_text(stacktrace),
        )
        if related is not None:
            index, name, message_type = related
            error.related_command_index = index
            error.related_command_type = message_type
            if name:
                error.related_command_name = texts.message_text(name)
        if retry_after is not None:
            error.next_retry_delay = wire.delay_milliseconds(retry_after)
        self._add(messages.ERROR, error.SerializeToString())
        self.failure = error
        self.closed = True

    def suspend(self, completions: list[int], signals: list[int], names: list[str]) -> None:
        """End for now: any of these wakes the invocation again."""
        body = wire_commands.suspension(completions, signals, names)
        self._add(messages.SUSPENSION, body)
        self.closed = True

    def abort(self) -> None:
        """End without a word: nothing is issued from now on and nothing is left to send."""
        self._output.clear()
        self.closed = True

    def _add(self, message_type: int, body: bytes) -> None:
        self._output.append(_pack_header(message_type, 0, len(body)) + body)

    def take_output(self) -> bytes:
        """The frames to send now, in order; none are left afterwards."""
        output = self._output
        if not output:
            return b""
        frames = output[0] if len(output) == 1 else b"".join(output)
        output.clear()
        return frames
