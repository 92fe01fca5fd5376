"""The list of servers and its epochs: who counts, how many make a quorum, what may come next."""

from typing import Annotated, Final

import msgspec

from ...core.errors import MalformedMessageError

SERVERS_MAX: Final = 7
"""No list is longer; 5 is the most that makes sense, and replacing one goes through 6."""

SERVER_ID_BYTES: Final = 16
FINGERPRINT_CHARACTERS_MAX: Final = 64

ServerId = Annotated[bytes, msgspec.Meta(min_length=SERVER_ID_BYTES, max_length=SERVER_ID_BYTES)]
"""Drawn when a server's storage is made, and kept in it: lost storage is another server."""

Fingerprint = Annotated[str, msgspec.Meta(max_length=FINGERPRINT_CHARACTERS_MAX)]
ServerName = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Address = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class Member(msgspec.Struct, frozen=True, array_like=True):
    """One server of the list."""

    id: ServerId
    name: ServerName
    address: Address


Members = Annotated[tuple[Member, ...], msgspec.Meta(max_length=SERVERS_MAX)]


class Configuration(msgspec.Struct, frozen=True, array_like=True):
    """The list of servers of one epoch.

    Two lists of neighbouring epochs differ by one server, so that any majority of one meets any
    majority of the other. A list two epochs on comes only when this one is settled: nothing is
    chosen under the epoch before any more, and all that was chosen has been chosen again.

    Attributes:
        epoch: counts from 1; 0 is the list that a cluster is to begin with.
        fingerprint: of the cluster; the same in every epoch.
        members: sorted by id.
        previous: the list of the epoch before, while this one is not settled; then empty.
    """

    epoch: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    fingerprint: Fingerprint
    members: Members
    previous: Members = ()

    @property
    def quorum(self) -> int:
        """How many of the members make a quorum."""
        return quorum_of(len(self.members))

    @property
    def is_settled(self) -> bool:
        """Whether the next change may begin."""
        return not self.previous

    def has(self, server_id: bytes) -> bool:
        """Whether a server is in the list."""
        return any(member.id == server_id for member in self.members)

    def settled(self) -> "Configuration":
        """The same list when nothing of the one before matters any more."""
        return Configuration(self.epoch, self.fingerprint, self.members)

    def following(self, members: tuple[Member, ...]) -> "Configuration":
        """The list of the next epoch."""
        assert self.is_settled, self
        assert abs(len(members) - len(self.members)) == 1, members
        assert len(set(members) ^ set(self.members)) == 1, members
        ordered = tuple(sorted(members, key=lambda member: member.id))
        return Configuration(self.epoch + 1, self.fingerprint, ordered, self.members)


def quorum_of(count: int) -> int:
    """How many of `count` servers are more than half of them."""
    return count // 2 + 1


_DECODER: Final = msgspec.msgpack.Decoder(Configuration)


def encode_configuration(configuration: Configuration) -> bytes:
    """As MessagePack."""
    return msgspec.msgpack.encode(configuration)


def decode_configuration(encoded: bytes) -> Configuration:
    """The list of an encoding. Raises MalformedMessageError."""
    try:
        configuration: Configuration = _DECODER.decode(encoded)
    except msgspec.DecodeError as error:
        raise MalformedMessageError(f"a list of servers is not understood: {error}") from error
    return configuration
