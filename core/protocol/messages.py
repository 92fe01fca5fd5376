"""The service protocol's frames: an 8-byte header and a protobuf body.

Header, big-endian: ``type u16 | flags u16 | body length u32``. Type numbers are those of the
public protocol, versions 5 and 6; numbers from 0xFC00 up are free for a runtime's own use and are
listed here once, never to be reused.
"""

import struct
from collections.abc import Iterator
from typing import Final

from ..errors import MalformedMessageError

PROTOCOL_VERSION: Final = 6

START: Final = 0x0000
SUSPENSION: Final = 0x0001
ERROR: Final = 0x0002
END: Final = 0x0003
COMMAND_ACK: Final = 0x0004
PROPOSE_RUN_COMPLETION: Final = 0x0005

INPUT_COMMAND: Final = 0x0400
OUTPUT_COMMAND: Final = 0x0401
GET_LAZY_STATE_COMMAND: Final = 0x0402
SET_STATE_COMMAND: Final = 0x0403
CLEAR_STATE_COMMAND: Final = 0x0404
CLEAR_ALL_STATE_COMMAND: Final = 0x0405
GET_LAZY_STATE_KEYS_COMMAND: Final = 0x0406
GET_EAGER_STATE_COMMAND: Final = 0x0407
GET_EAGER_STATE_KEYS_COMMAND: Final = 0x0408
GET_PROMISE_COMMAND: Final = 0x0409
PEEK_PROMISE_COMMAND: Final = 0x040A
COMPLETE_PROMISE_COMMAND: Final = 0x040B
SLEEP_COMMAND: Final = 0x040C
CALL_COMMAND: Final = 0x040D
ONE_WAY_CALL_COMMAND: Final = 0x040E
SEND_SIGNAL_COMMAND: Final = 0x0410
RUN_COMMAND: Final = 0x0411
ATTACH_INVOCATION_COMMAND: Final = 0x0412
GET_INVOCATION_OUTPUT_COMMAND: Final = 0x0413
COMPLETE_AWAKEABLE_COMMAND: Final = 0x0414

GET_LAZY_STATE_COMPLETION: Final = 0x8002
GET_LAZY_STATE_KEYS_COMPLETION: Final = 0x8006
GET_PROMISE_COMPLETION: Final = 0x8009
PEEK_PROMISE_COMPLETION: Final = 0x800A
COMPLETE_PROMISE_COMPLETION: Final = 0x800B
SLEEP_COMPLETION: Final = 0x800C
CALL_COMPLETION: Final = 0x800D
CALL_INVOCATION_ID: Final = 0x800E
RUN_COMPLETION: Final = 0x8011
ATTACH_INVOCATION_COMPLETION: Final = 0x8012
GET_INVOCATION_OUTPUT_COMPLETION: Final = 0x8013
SIGNAL: Final = 0xFBFF

SIGNAL_CANCEL: Final = 1
"""Index of the signal that asks an invocation to cancel itself."""
SIGNAL_FIRST_AWAKEABLE: Final = 17
"""Index of an invocation's first awakeable; those below are reserved."""

# Ours, on the worker session only; see `envelope` and `session`.
HELLO: Final = 0xFC00
WELCOME: Final = 0xFC01
REFUSED: Final = 0xFC02
DRAIN: Final = 0xFC03
NODES: Final = 0xFC04
OPEN: Final = 0xFC10
ABORT: Final = 0xFC11
SUPERSEDED: Final = 0xFC12
SUSPEND: Final = 0xFC13

COMMAND_FIRST: Final = 0x0400
COMMAND_LAST: Final = 0x07FF
NOTIFICATION_FIRST: Final = 0x8000
NOTIFICATION_LAST: Final = 0xFBFF

FRAME_HEADER: Final = struct.Struct(">HHI")
FRAME_HEADER_BYTES: Final = FRAME_HEADER.size

ENTRY_BYTES_MAX: Final = 32 * 1024 * 1024
"""The longest body of one frame, and of one request or answer at the front doors."""


def frame(message_type: int, body: bytes) -> bytes:
    """One frame as bytes."""
    return FRAME_HEADER.pack(message_type, 0, len(body)) + body


def split_frames(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (type, body start, body end) of each frame in `data`.

    Raises MalformedMessageError when the frames do not fill `data` exactly.
    """
    position = 0
    end = len(data)
    unpack = FRAME_HEADER.unpack_from
    while position < end:
        if position + FRAME_HEADER_BYTES > end:
            raise MalformedMessageError(f"frame header cut short at byte {position} of {end}")
        message_type, _flags, length = unpack(data, position)
        start = position + FRAME_HEADER_BYTES
        position = start + length
        if position > end:
            raise MalformedMessageError(
                f"frame of type {message_type:#06x} says {length} bytes, {end - start} are there"
            )
        yield message_type, start, position
