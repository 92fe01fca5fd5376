"""What a log-server is asked and what it answers.

One message of the connection is a MessagePack array of requests or of replies, in order: everything
that one turn of the event loop has to say to one peer. Each is an array that begins with its tag;
new fields go to the end with a default, tags are never used again. Cluster and node were told when
the connection was made (`core.net.peers`).

Each request about a loglet names the *storage* that the chain has for this server. A server whose
disk is another one answers `LOST`, and so it never counts as if it had what was on the old one.
"""

from collections.abc import Iterable
from typing import Final, TypeAlias

import msgspec

from ...core.net.decoding import decode_sent
from ..message_parts import message_parts

SERVICE: Final = "log-server"
"""The name of the service at a node's listener."""

MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""A message is closed once it is as long as this; a single longer item makes one of its own."""

VALUE_BYTES_MAX: Final = 63 * 1024 * 1024
"""The longest stored batch that fits into a message of the transport."""

Ballot: TypeAlias = tuple[int, str]
"""Orders the attempts to end a loglet: (round, who); greater ones win."""

NO_BALLOT: Final[Ballot] = (0, "")

OK: Final = 0
SEALED: Final = 1
"""Takes nothing from its sequencer any more."""
LOST: Final = 2
"""This server does not have the disk that the request is meant for."""
GONE: Final = 3
"""The loglet was trimmed and deleted."""
OVERLOADED: Final = 4
"""More is waiting for the disk, or for the connection, than may; try again later."""
HOLE: Final = 5
"""Something before the batch is missing here, and is not known to be committed elsewhere."""
WRONG_SEQUENCER: Final = 6
"""Another sequencer has written here before."""
MALFORMED: Final = 7
"""The batch does not match its checksum, or does not fit between those that are here."""
FAILED: Final = 8
"""The disk of this server has failed, or what it holds of the loglet is damaged."""
SUPERSEDED: Final = 9
"""A greater ballot was promised."""
TRIMMED: Final = 10
"""What was to be read was trimmed."""

STATUS_NAMES: Final = (
    "ok",
    "sealed",
    "lost",
    "gone",
    "overloaded",
    "hole",
    "wrong-sequencer",
    "malformed",
    "failed",
    "superseded",
    "trimmed",
)
"""The statuses for people, by number."""


class _Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The layout of all of them."""


class Store(_Message, frozen=True, tag=1):
    """Store a batch. Answered by `Stored`, cumulatively, or by `StoreResult`.

    Attributes:
        sequencer: who gave out the offsets: node and generation.
        known_tail: everything below is committed.
        last_offset: of the batch.
        value: the batch as it is stored, see `batch_codec`.
        attempt: told again in a refusal, so that late ones can be told from new ones.
    """

    storage: str
    loglet: int
    sequencer: str
    known_tail: int
    last_offset: int
    value: bytes
    attempt: int = 0


class Release(_Message, frozen=True, tag=2):
    """Everything below `known_tail` is committed; not answered."""

    storage: str
    loglet: int
    known_tail: int


class GetInfo(_Message, frozen=True, tag=3):
    """What does the server have of the loglet? Answered by `Info`."""

    number: int
    storage: str
    loglet: int


class Wait(_Message, frozen=True, tag=4):
    """Answer by `Info` once the known tail is above `above`, the loglet is sealed, or time is up.

    `timeout_ms` 0 waits as long as the connection lives.
    """

    number: int
    storage: str
    loglet: int
    above: int
    timeout_ms: int


class Seal(_Message, frozen=True, tag=5):
    """Take nothing from the sequencer any more, and no ballot below this one. `Info` answers."""

    number: int
    storage: str
    loglet: int
    ballot: Ballot


class Digest(_Message, frozen=True, tag=6):
    """Which whole batches in [first_offset, end_offset) are here? Answered by `Spans`."""

    number: int
    storage: str
    loglet: int
    first_offset: int
    end_offset: int


class Read(_Message, frozen=True, tag=7):
    """Give batches from the one that holds `first_offset`. Answered by `Batches`.

    Attributes:
        known_tail: what the reader knows to be committed.
        uncommitted: also what is not known to be committed; for repair.
    """

    number: int
    storage: str
    loglet: int
    first_offset: int
    bytes_max: int
    known_tail: int
    uncommitted: bool = False


class Accept(_Message, frozen=True, tag=8):
    """Remember that by this ballot the loglet ends at `tail`. Answered by `Info`."""

    number: int
    storage: str
    loglet: int
    ballot: Ballot
    tail: int
    record_time_ns: int


class Finish(_Message, frozen=True, tag=9):
    """The loglet ends at `tail`, for ever: a write quorum has accepted it. Not answered."""

    storage: str
    loglet: int
    tail: int
    record_time_ns: int


class Trim(_Message, frozen=True, tag=10):
    """Remove up to `last_offset`, the end of a batch of this record time. `Info` answers."""

    number: int
    storage: str
    loglet: int
    last_offset: int
    record_time_ns: int
    known_tail: int


class Delete(_Message, frozen=True, tag=11):
    """Delete every loglet of a range, whose last id is before `end_loglet`, for ever.

    It concerns whatever disk the server has. Answered by `Info`.
    """

    number: int
    first_loglet: int
    end_loglet: int


class Fill(_Message, frozen=True, tag=12):
    """Store batches that a repair has found elsewhere, ascending. Answered by `StoreResult`.

    A sealed loglet takes them, too, unless it has promised a greater ballot. It takes those before
    the first one that it does not.

    Attributes:
        batches: of each the last offset, and the batch as it is stored.
    """

    number: int
    storage: str
    loglet: int
    ballot: Ballot
    batches: list[tuple[int, bytes]]


Request: TypeAlias = (
    Store | Release | GetInfo | Wait | Seal | Digest | Read | Accept | Finish | Trim | Delete | Fill
)


class Stored(_Message, frozen=True, tag=64):
    """Everything of the loglet that was taken on this connection below `tail` is durable."""

    storage: str
    loglet: int
    tail: int


class StoreResult(_Message, frozen=True, tag=65):
    """What became of a `Fill`, or, with the number 0, of a `Store` that was not taken."""

    number: int
    storage: str
    loglet: int
    status: int
    attempt: int


class Decided(msgspec.Struct, frozen=True, array_like=True):
    """An end of a loglet: accepted by a ballot, or final."""

    ballot: Ballot
    tail: int
    record_time_ns: int


class Info(_Message, frozen=True, tag=66):
    """What a server has of a loglet, all of it durable.

    Attributes:
        tail: behind the last batch that is here.
        known_tail: everything below is committed somewhere.
        trim_point: the last offset trimmed.
        record_time_ns: of the last batch that is, or was, here.
        promised: the greatest ballot seen; the loglet is sealed here if there is one.
        accepted: the end that was accepted last.
        final: the end for ever, if this server has heard of it.
    """

    number: int
    status: int
    tail: int = 1
    known_tail: int = 1
    trim_point: int = 0
    record_time_ns: int = 0
    promised: Ballot = NO_BALLOT
    accepted: Decided | None = None
    final: Decided | None = None

    @property
    def sealed(self) -> bool:
        """Whether the loglet is sealed here."""
        return self.promised > NO_BALLOT


class Spans(_Message, frozen=True, tag=67):
    """First and last offset of each whole batch, ascending, and how far the search went."""

    number: int
    status: int
    spans: list[tuple[int, int]]
    end_offset: int
    trim_point: int


class Batches(_Message, frozen=True, tag=68):
    """Batches without a gap between them, as (last offset, value)."""

    number: int
    status: int
    batches: list[tuple[int, bytes]]
    known_tail: int = 1
    trim_point: int = 0


Reply: TypeAlias = Stored | StoreResult | Info | Spans | Batches

_encode: Final = msgspec.msgpack.Encoder().encode
_decode_requests: Final = msgspec.msgpack.Decoder(list[Request]).decode
_decode_replies: Final = msgspec.msgpack.Decoder(list[Reply]).decode


def encode(items: list[Request] | list[Reply]) -> Iterable[bytes]:
    """The messages that carry these in order."""
    for part in message_parts(items, size_of, MESSAGE_BYTES):
        yield _encode(part)


def size_of(item: Request | Reply) -> int:
    """About how many bytes an item takes."""
    if isinstance(item, Store):
        return len(item.value) + 128
    if isinstance(item, Batches | Fill):
        return sum(len(value) + 16 for _, value in item.batches) + 128
    return 128


def decode_requests(message: bytes) -> list[Request]:
    """The requests in a message. Raises MalformedMessageError."""
    return decode_sent(_decode_requests, message, "no requests to a log-server")


def decode_replies(message: bytes) -> list[Reply]:
    """The replies in a message. Raises MalformedMessageError."""
    return decode_sent(_decode_replies, message, "no replies of a log-server")
