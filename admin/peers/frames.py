"""The messages between two nodes of which one asks the other's admin REST.

A message is one frame, a MessagePack array that begins with its type's number. Numbers are never
used again, new fields go to the end with a default. Whoever made the connection asks.
"""

from typing import Final, TypeAlias

import msgspec

from ...core.net.decoding import decode_sent

ADMIN_SERVICE: Final = "admin"
"""The service's name at a node's listener."""


class Ask(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """A request; `number` is the asker's own."""

    number: int
    method: str
    path: str
    query: str
    body: bytes


class Forget(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """Nobody waits for the answer of this number any more."""

    number: int


class Answer(msgspec.Struct, frozen=True, array_like=True, tag=32, gc=False):
    """The answer: an HTTP status and JSON."""

    number: int
    status: int
    body: bytes


Asked: TypeAlias = Ask | Forget

encode_frame: Final = msgspec.msgpack.Encoder().encode
_decode_asked: Final = msgspec.msgpack.Decoder(Asked).decode
_decode_answer: Final = msgspec.msgpack.Decoder(Answer).decode


def decode_asked(message: bytes) -> Asked:
    """A frame of whoever asks. Raises MalformedMessageError."""
    return decode_sent(_decode_asked, message, "a message of another node makes no sense")


def decode_answer(message: bytes) -> Answer:
    """A frame of whoever answers. Raises MalformedMessageError."""
    return decode_sent(_decode_answer, message, "an answer of another node makes no sense")
