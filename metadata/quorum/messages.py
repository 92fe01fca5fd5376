"""What proposers and servers say to each other, and its encoding.

A connection begins with `Hello` from the side that connected and `Welcome` from the server. After
that each request carries a number, u64 big-endian before its body, and its reply the same one.
Bodies are MessagePack arrays that begin with the tag given here. A tag is never used again, and a
field is only ever added at the end.
"""

import struct
from typing import Annotated, Final, TypeAlias

import msgspec

from ...core.errors import MalformedMessageError
from ...core.net.decoding import decode_sent
from ..api import KEY_BYTES_MAX
from .configuration import Configuration, Fingerprint, ServerId, ServerName
from .registers import BALLOT_BYTES, REGISTER_BYTES_MAX

SERVICE: Final = "metadata-quorum"
"""The name of the service at a node's listener."""

PROTOCOL_VERSION: Final = 1

LIST_ROWS_MAX: Final = 256
"""Rows of one answer to `List`."""

REGISTER_KEY_BYTES_MAX: Final = KEY_BYTES_MAX + 1

Key = Annotated[bytes, msgspec.Meta(min_length=1, max_length=REGISTER_KEY_BYTES_MAX)]
BallotBytes = Annotated[bytes, msgspec.Meta(min_length=BALLOT_BYTES, max_length=BALLOT_BYTES)]
Encoded = Annotated[bytes, msgspec.Meta(max_length=REGISTER_BYTES_MAX)]
Epoch = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Reason = Annotated[str, msgspec.Meta(max_length=4096)]


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Who connects: name and generation, for example ``n1:7``, and the cluster, "" if unknown."""

    version: int
    fingerprint: Fingerprint
    sender: Annotated[str, msgspec.Meta(max_length=255)]


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Who answers; with a refusal, which ends the connection, when it is not the empty string."""

    version: int
    server_id: ServerId
    name: ServerName
    fingerprint: Fingerprint
    refusal: Reason = ""


class Read(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """What is promised and accepted of a register?"""

    epoch: Epoch
    key: Key


class Prepare(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """Promise to accept nothing below this ballot, and say what is accepted."""

    epoch: Epoch
    key: Key
    ballot: BallotBytes


class Accept(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """Accept a state, unless a higher ballot is promised."""

    epoch: Epoch
    key: Key
    ballot: BallotBytes
    register: Encoded


class List(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """The registers whose keys start with `prefix` and come after `after`."""

    epoch: Epoch
    prefix: Annotated[bytes, msgspec.Meta(max_length=REGISTER_KEY_BYTES_MAX)]
    after: Annotated[bytes, msgspec.Meta(max_length=REGISTER_KEY_BYTES_MAX)]


class Install(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """A list of servers that was chosen; it counts for the server if it is newer than its own."""

    configuration: Configuration


class Fill(msgspec.Struct, frozen=True, array_like=True, tag=15):
    """A chosen state for a server that is to become a member and is none yet."""

    fingerprint: Fingerprint
    key: Key
    ballot: BallotBytes
    register: Encoded


class Status(msgspec.Struct, frozen=True, array_like=True, tag=16):
    """How are you?"""


class Held(msgspec.Struct, frozen=True, array_like=True, tag=30):
    """To `Read` and `Prepare`: what was promised before, what is accepted, and its ballot."""

    promised: BallotBytes
    accepted: BallotBytes
    register: Encoded


class Done(msgspec.Struct, frozen=True, array_like=True, tag=31):
    """To `Accept`, `Install` and `Fill`: it is durable."""


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One register of a listing."""

    key: Key
    promised: BallotBytes
    accepted: BallotBytes
    has_value: bool


class Page(msgspec.Struct, frozen=True, array_like=True, tag=32):
    """To `List`: registers in the order of their keys, and whether there may be more."""

    rows: Annotated[list[Row], msgspec.Meta(max_length=LIST_ROWS_MAX)]
    more: bool


class Report(msgspec.Struct, frozen=True, array_like=True, tag=33):
    """To `Status`: the server's list, None when it has none, and how many registers it keeps."""

    server_id: ServerId
    name: ServerName
    fingerprint: Fingerprint
    configuration: Configuration | None
    registers: int


class Beaten(msgspec.Struct, frozen=True, array_like=True, tag=40):
    """A higher ballot is promised."""

    promised: BallotBytes


class Superseded(msgspec.Struct, frozen=True, array_like=True, tag=41):
    """The request's epoch is over; this is the list of servers now."""

    configuration: Configuration


class Behind(msgspec.Struct, frozen=True, array_like=True, tag=42):
    """This server does not know the request's epoch yet; 0 when it has no list at all."""

    epoch: Epoch


class Failed(msgspec.Struct, frozen=True, array_like=True, tag=43):
    """The server cannot do it, and says why."""

    reason: Reason


Request: TypeAlias = Read | Prepare | Accept | List | Install | Fill | Status
Reply: TypeAlias = Held | Done | Page | Report | Beaten | Superseded | Behind | Failed

_NUMBER: Final = struct.Struct(">Q")
_UNREADABLE: Final = "between metadata servers is not understood"
_REMEDY: Final = "Use the same release on both sides"
_ENCODER: Final = msgspec.msgpack.Encoder()
_HELLO: Final = msgspec.msgpack.Decoder(Hello)
_WELCOME: Final = msgspec.msgpack.Decoder(Welcome)
_REQUEST: Final[msgspec.msgpack.Decoder[Request]] = msgspec.msgpack.Decoder(Request)
_REPLY: Final[msgspec.msgpack.Decoder[Reply]] = msgspec.msgpack.Decoder(Reply)


def encode_greeting(greeting: Hello | Welcome) -> bytes:
    """The first message of a side."""
    return _ENCODER.encode(greeting)


def decode_hello(message: bytes) -> Hello:
    """The first message of the side that connected. Raises MalformedMessageError."""
    return decode_sent(_HELLO.decode, message, f"a hello {_UNREADABLE}", _REMEDY)


def decode_welcome(message: bytes) -> Welcome:
    """The first message of a server. Raises MalformedMessageError."""
    return decode_sent(_WELCOME.decode, message, f"a welcome {_UNREADABLE}", _REMEDY)


def encode_numbered(number: int, body: Request | Reply) -> bytes:
    """A request or reply behind its number."""
    return _NUMBER.pack(number) + _ENCODER.encode(body)


def decode_request(message: bytes) -> tuple[int, Request]:
    """Number and request. Raises MalformedMessageError."""
    body = memoryview(message)[_NUMBER.size :]
    return _number_of(message), decode_sent(
        _REQUEST.decode, body, f"a request {_UNREADABLE}", _REMEDY
    )


def decode_reply(message: bytes) -> tuple[int, Reply]:
    """Number and reply. Raises MalformedMessageError."""
    body = memoryview(message)[_NUMBER.size :]
    return _number_of(message), decode_sent(_REPLY.decode, body, f"a reply {_UNREADABLE}", _REMEDY)


def _number_of(message: bytes) -> int:
    if len(message) < _NUMBER.size:
        raise MalformedMessageError(f"a message of {len(message)} bytes has no number")
    number: int = _NUMBER.unpack_from(message)[0]
    return number
