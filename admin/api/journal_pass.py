"""Going through a journal once: the entries of a part of it, and the commands left open."""

from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from ...core.errors import MalformedMessageError
from ...core.ids import InvocationId
from ...core.protocol import messages
from ...partition_processor.tables import keys
from ...partition_processor.tables.journal import Chunk, decode_chunk
from .entry_view import Frame, details_of, fields_of, read_frame
from .invocation_answers import EntryView, ResultView
from .invocation_scan import Found
from .pacing import Pacer
from .times import time_text
from .value_view import key_text, result_view

PAGE_BYTES_MAX: Final = 4 * 1024 * 1024
"""Frames of entries that are shown together; the first one is always shown."""
_ROWS_PER_READ: Final = 8
_WITH_RESULT: Final = (messages.OUTPUT_COMMAND, messages.GET_EAGER_STATE_COMMAND)


class OpenCommand(msgspec.Struct):
    """A command whose completion has not come.

    Attributes:
        called: text of the invocation that a call has started.
    """

    index: int
    frame: Frame
    time_ns: int
    view: EntryView | None
    called: str | None = None


class JournalPart(msgspec.Struct, frozen=True):
    """A part of a journal, and of all of it the commands that are open, by completion id."""

    entries: list[EntryView]
    next_entry: int | None
    open: dict[int, OpenCommand]


class JournalPass:
    """Reads one journal."""

    def __init__(self, found: Found, pacer: Pacer, *, from_entry: int, limit: int) -> None:
        """Prepare to show `limit` entries from the index `from_entry` on."""
        self._found = found
        self._pacer = pacer
        self._from = from_entry
        self._limit = limit
        self._index = 0
        self._bytes = 0
        self._entries: list[EntryView] = []
        self._next_entry: int | None = None
        self._open: dict[int, OpenCommand] = {}

    async def read(self) -> JournalPart:
        """Read it all. Raises StorageError; cancelling is safe."""
        async for chunk in self._chunks():
            try:
                for message_type, start, end in messages.split_frames(chunk.frames):
                    self._take(chunk, message_type, chunk.frames[start:end])
                    self._index += 1
                    await self._pacer.pause()
            except MalformedMessageError:
                # What is stored was checked when it came; show what can be read of it.
                continue
        return JournalPart(self._entries, self._next_entry, self._open)

    async def _chunks(self) -> AsyncIterator[Chunk]:
        found = self._found
        for value in found.invocation.head:
            yield decode_chunk(value)
        if not found.invocation.rows:
            return
        first = keys.JOURNAL + found.invocation_id
        end = keys.prefix_end(first)
        while True:
            rows = found.processor.transaction.scan(first, end, _ROWS_PER_READ)
            for _, value in rows:
                yield decode_chunk(value)
            if len(rows) < _ROWS_PER_READ:
                return
            first = rows[-1][0] + b"\x00"
            await self._pacer.pause()

    def _take(self, chunk: Chunk, message_type: int, body: bytes) -> None:
        frame = read_frame(message_type, body)
        view = None
        completes = None
        if not frame.is_command:
            completes = self._complete(frame, chunk.record_time_ns)
        if self._shows(len(body)):
            view = _view(frame, self._found.invocation_id, self._index, chunk, completes=completes)
            self._entries.append(view)
        if frame.is_command and frame.message is not None:
            command = OpenCommand(self._index, frame, chunk.record_time_ns, view)
            for number in _completion_ids(frame.message):
                self._open[number] = command

    def _shows(self, size: int) -> bool:
        if self._index < self._from or self._next_entry is not None:
            return False
        full = self._bytes + size > PAGE_BYTES_MAX and bool(self._entries)
        if len(self._entries) == self._limit or full:
            self._next_entry = self._index
            return False
        self._bytes += size
        return True

    def _complete(self, frame: Frame, time_ns: int) -> int | None:
        """A notification has come: the index of its command."""
        message = frame.message
        if message is None or message.WhichOneof("id") != "completion_id":
            return None
        command = self._open.pop(message.completion_id, None)
        if command is None:
            return None
        if frame.message_type == messages.CALL_INVOCATION_ID:
            command.called = message.invocation_id
            one_way = command.frame.message_type == messages.ONE_WAY_CALL_COMMAND
            self._replace(command, time_ns, result_view(message), ended=one_way)
        else:
            result = result_view(message)
            if command.called is not None:
                result = msgspec.structs.replace(result, invocation=command.called)
            self._replace(command, time_ns, result, ended=True)
        return command.index

    def _replace(
        self, command: OpenCommand, time_ns: int, result: ResultView, *, ended: bool
    ) -> None:
        if command.view is None:
            return
        details = command.view.details
        if result.invocation is not None and result.invocation not in details:
            details = f"{details} as {result.invocation}"
        changed = msgspec.structs.replace(command.view, result=result, details=details)
        if ended:
            changed = msgspec.structs.replace(
                changed,
                completed=time_text(time_ns),
                duration_ms=(time_ns - command.time_ns) / 1e6,
            )
        self._entries[command.index - self._from] = changed
        command.view = changed


def _view(
    frame: Frame, invocation_id: InvocationId, index: int, chunk: Chunk, *, completes: int | None
) -> EntryView:
    message = frame.message
    return EntryView(
        index=index,
        entry=frame.entry,
        name=frame.name,
        details=details_of(frame, invocation_id),
        time=time_text(chunk.record_time_ns),
        attempt=chunk.attempt,
        fields={} if message is None else fields_of(message),
        result=_own_result(frame),
        completes=completes,
    )


def _own_result(frame: Frame) -> ResultView | None:
    """The result that a frame brings itself."""
    message = frame.message
    if message is None:
        return None
    if not frame.is_command or frame.message_type in _WITH_RESULT:
        return result_view(message)
    if frame.message_type == messages.GET_EAGER_STATE_KEYS_COMMAND:
        return ResultView(state_keys=[key_text(key) for key in message.value.keys])
    return None


def _completion_ids(message: Any) -> list[int]:
    fields = message.DESCRIPTOR.fields_by_name
    return [
        getattr(message, name)
        for name in ("invocation_id_notification_idx", "result_completion_id")
        if name in fields
    ]
