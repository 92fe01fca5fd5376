"""What nodes tell each other about who lives: a greeting, its answer, and gossip.

Each message is a msgpack array whose first item names it, so that fields may be added at the end.
Bounds are checked before anything is kept.
"""

from typing import Final, TypeAlias

import msgspec

from ...core.errors import MalformedMessageError
from ...core.net.decoding import decode_sent
from ...metadata.nodes import NODES_MAX

APPLIED_MAX: Final = 1024
"""As many partitions as a cluster can have."""

MEMBERSHIP_SERVICE: Final = "membership"
"""The name of the service on the node's listener."""

MESSAGE_BYTES_MAX: Final = 64 * 1024
"""A full gossip of the largest cluster has about 4 KiB."""

HEARD: Final = 1
"""Flag: the sender hears this process of the node over a connection that is open."""
DEAD: Final = 2
"""Flag: the sender holds this generation of the node to be dead."""
REFUSED: Final = 4
"""Flag: the sender was refused at the node's address and asks who has a connection."""
LEAVING: Final = 8
"""Flag, of the node's own making: it is about to stop."""

_NUMBER_MAX: Final = 2**62


class Hello(msgspec.Struct, frozen=True, tag="hello", array_like=True):
    """The first message of who dials: who it is, and whom it wants.

    A greeting from node 0 only asks who is there, and no gossip follows.
    """

    fingerprint: str
    node_id: int
    generation: int
    wanted_id: int


class Welcome(msgspec.Struct, frozen=True, tag="welcome", array_like=True):
    """The answer: who is there. When it is not the wanted node, the connection ends."""

    node_id: int
    generation: int


class Turned(msgspec.Struct, frozen=True, tag="turned", array_like=True):
    """The answer to a stranger: why it is not heard."""

    code: str
    reason: str


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """What the sender knows of one node.

    Attributes:
        counter: the newest heartbeat of this generation that the sender has heard of, 0 for none.
        flags: see the constants of this file.
    """

    node_id: int
    generation: int
    counter: int
    flags: int


class Gossip(msgspec.Struct, frozen=True, tag="gossip", array_like=True):
    """What the sender knows of every node, itself included.

    Attributes:
        nodes_version: the newest version of the nodes configuration that it knows.
        placement_version: of the placement of partitions.
        schema_version: of the known deployments.
        applied: how far the sender is: partition and last applied LSN of each that it keeps. Told
            to admin nodes only.
        time_ns: the sender's wall clock, nanoseconds since 1970; 0 where it is not told. For
            operators only.
        latest_ns: the latest time of a clock or a record that the sender has heard of.
        stopped: the copies of the sender that have stopped: partition, last applied LSN, and why
            (`describing.PARKED` or `UNFIT`). Told to everybody, also when there are none.
    """

    nodes_version: int
    placement_version: int
    entries: tuple[Entry, ...]
    schema_version: int = 0
    applied: tuple[tuple[int, int], ...] = ()
    time_ns: int = 0
    latest_ns: int = 0
    stopped: tuple[tuple[int, int, int], ...] = ()


Message: TypeAlias = Hello | Welcome | Turned | Gossip

_encode: Final = msgspec.msgpack.Encoder().encode
_decoder: Final[msgspec.msgpack.Decoder[Message]] = msgspec.msgpack.Decoder(Message)
_UNREADABLE: Final = "a membership message cannot be read"
_REMEDY: Final = "Run the same release on all nodes"


def encode_message(message: Message) -> bytes:
    """The bytes that travel."""
    return _encode(message)


def decode_message(data: bytes) -> Message:
    """Read what `encode_message` wrote. Raises MalformedMessageError when it is out of bounds."""
    if len(data) > MESSAGE_BYTES_MAX:
        raise _malformed(f"it has {len(data)} bytes, over the limit of {MESSAGE_BYTES_MAX}")
    message = decode_sent(_decoder.decode, data, _UNREADABLE, _REMEDY)
    match message:
        case Gossip(
            nodes_version,
            placement_version,
            entries,
            schema_version,
            applied,
            time_ns,
            latest_ns,
            stopped,
        ):
            numbers = [nodes_version, placement_version, schema_version, time_ns, latest_ns]
            for told in (applied, stopped):
                if len(told) > APPLIED_MAX:
                    raise _malformed(f"it tells of {len(told)} partitions, more than {APPLIED_MAX}")
                numbers += [number for item in told for number in item]
            if len(entries) > NODES_MAX:
                raise _malformed(f"it tells of {len(entries)} nodes, more than {NODES_MAX}")
            for entry in entries:
                numbers += (entry.node_id, entry.generation, entry.counter, entry.flags)
        case Hello():
            numbers = [message.node_id, message.generation, message.wanted_id]
        case Welcome():
            numbers = [message.node_id, message.generation]
        case Turned():
            numbers = []
    if any(not 0 <= number < _NUMBER_MAX for number in numbers):
        raise _malformed("a number in it is out of bounds")
    return message


def _malformed(what: str) -> MalformedMessageError:
    return MalformedMessageError(f"{_UNREADABLE}: {what}. {_REMEDY}")
