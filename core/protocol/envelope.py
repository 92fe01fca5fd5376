"""The worker session's envelope: segments of many invocations in one transport message.

A message is one version byte and any number of segments, big-endian::

    message  = version u8 | segment *
    segment  = stream u32 | length u32 | record time u64 | frames (length bytes)

``stream`` names one attempt of one invocation, chosen by the node, not reused on a connection
until all 32 bits are used up; stream 0 is the session itself. ``frames`` are whole frames of
`messages`. ``record time`` is the time, in nanoseconds, that the log gave the record the frames
come from; 0 from workers. Its top bit, `CONTINUED`, says that the next segment of the same stream
goes on inside the same frames: frames longer than `SEGMENT_BYTES_MAX` are cut there, so that no
invocation holds the line for long.
"""

import struct
from collections.abc import Iterator
from typing import Final

from ..errors import MalformedMessageError, MessageTooLargeError

ENVELOPE_VERSION: Final = 1
SEGMENT_HEADER: Final = struct.Struct(">IIQ")
SEGMENT_BYTES_MAX: Final = 256 * 1024
REASSEMBLED_BYTES_MAX: Final = 64 * 1024 * 1024
CONTINUED: Final = 1 << 63
SESSION_STREAM: Final = 0


class EnvelopeWriter:
    """Collects the segments of one turn of the event loop and hands them out as messages."""

    __slots__ = ("_parts", "_size")

    # A message this long is closed; the rest goes into the next one.
    MESSAGE_BYTES_TARGET: Final = 1024 * 1024

    def __init__(self) -> None:
        """Start empty."""
        self._parts: list[bytes] = []
        self._size = 0

    def __bool__(self) -> bool:
        """Whether anything is waiting to be taken."""
        return bool(self._parts)

    @property
    def size(self) -> int:
        """Bytes waiting to be taken."""
        return self._size

    def add(self, stream: int, record_time_ns: int, frames: bytes) -> None:
        """Add whole frames of one stream."""
        length = len(frames)
        if length > SEGMENT_BYTES_MAX:
            self._add_in_pieces(stream, record_time_ns, frames)
            return
        self._parts.append(SEGMENT_HEADER.pack(stream, length, record_time_ns))
        self._parts.append(frames)
        self._size += SEGMENT_HEADER.size + length

    def _add_in_pieces(self, stream: int, record_time_ns: int, frames: bytes) -> None:
        last = len(frames) - SEGMENT_BYTES_MAX
        for start in range(0, len(frames), SEGMENT_BYTES_MAX):
            piece = frames[start : start + SEGMENT_BYTES_MAX]
            marked = record_time_ns | CONTINUED if start < last else record_time_ns
            self._parts.append(SEGMENT_HEADER.pack(stream, len(piece), marked))
            self._parts.append(piece)
            self._size += SEGMENT_HEADER.size + len(piece)

    def take(self) -> list[bytes]:
        """The messages to send now, in order; the writer is empty afterwards."""
        parts, self._parts = self._parts, []
        size, self._size = self._size, 0
        version = bytes((ENVELOPE_VERSION,))
        if size <= self.MESSAGE_BYTES_TARGET:
            return [version + b"".join(parts)] if parts else []
        messages: list[bytes] = []
        current: list[bytes] = [version]
        current_size = 0
        for header, frames in zip(parts[::2], parts[1::2], strict=True):
            current.append(header)
            current.append(frames)
            current_size += len(header) + len(frames)
            if current_size >= self.MESSAGE_BYTES_TARGET:
                messages.append(b"".join(current))
                current, current_size = [version], 0
        if current_size:
            messages.append(b"".join(current))
        return messages


class EnvelopeReader:
    """Turns messages back into (stream, record time, frames); keeps cut frames until whole."""

    __slots__ = ("_pending", "_pending_bytes")

    def __init__(self) -> None:
        """Start with nothing pending."""
        self._pending: dict[int, list[bytes]] = {}
        self._pending_bytes = 0

    def read(self, message: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Yield each whole (stream, record time in ns, frames) of the message, in order.

        Raises MalformedMessageError for bytes that are no envelope and MessageTooLargeError when
        cut frames grow over `REASSEMBLED_BYTES_MAX`; the connection is of no use afterwards.
        """
        if not message or message[0] != ENVELOPE_VERSION:
            raise MalformedMessageError(
                f"session message starts with {message[:1]!r}; this program speaks envelope "
                f"version {ENVELOPE_VERSION}: use the same release on both sides"
            )
        position = 1
        end = len(message)
        header_bytes = SEGMENT_HEADER.size
        unpack = SEGMENT_HEADER.unpack_from
        while position < end:
            if position + header_bytes > end:
                raise MalformedMessageError(f"segment header cut short at byte {position}")
            stream, length, record_time_ns = unpack(message, position)
            start = position + header_bytes
            position = start + length
            if position > end:
                raise MalformedMessageError(f"segment of {length} bytes cut short at {start}")
            frames = message[start:position]
            if record_time_ns & CONTINUED or stream in self._pending:
                whole = self._collect(stream, record_time_ns, frames)
                if whole is None:
                    continue
                frames = whole
            yield stream, record_time_ns, frames

    def _collect(self, stream: int, record_time_ns: int, piece: bytes) -> bytes | None:
        pieces = self._pending.setdefault(stream, [])
        pieces.append(piece)
        self._pending_bytes += len(piece)
        if self._pending_bytes > REASSEMBLED_BYTES_MAX:
            raise MessageTooLargeError(
                f"unfinished frames on this session exceed {REASSEMBLED_BYTES_MAX} bytes"
            )
        if record_time_ns & CONTINUED:
            return None
        del self._pending[stream]
        whole = b"".join(pieces)
        self._pending_bytes -= len(whole)
        return whole
