"""Ballots, and what one register holds: version, value, and who wrote the last versions."""

import struct
from dataclasses import dataclass
from typing import Final, NewType

from ...core.errors import MalformedMessageError
from ..api import VALUE_BYTES_MAX

Ballot = NewType("Ballot", bytes)
"""24 bytes: number, u64 big-endian, then 16 bytes that no two proposers share. Bytes order it."""

BALLOT_BYTES: Final = 24
PROPOSER_BYTES: Final = 16
NONCE_BYTES: Final = 8
BALLOT_NUMBER_MAX: Final = 2**63 - 1
"""No ballot has a higher number, so that there is always one above it."""

BEFORE_ALL_BALLOTS: Final = Ballot(bytes(BALLOT_BYTES))
"""The ballot of a register that nobody has touched; it is accepted there, absent, everywhere."""

WRITERS_MAX: Final = 64
"""How many versions back a register knows who wrote them."""

# Layout of a register, for ever, on disk and on the wire:
# format u8 = 1 | kind u8 | version u64 | count of writers u8 | 8 bytes each, newest first | value.
# Kind 0 was never changed (version 0, no writers), 1 has a value, 2 was deleted.
_HEADER: Final = struct.Struct(">BBQB")
_FORMAT: Final = 1
_ABSENT: Final = 0
_VALUE: Final = 1
_DELETED: Final = 2
REGISTER_BYTES_MAX: Final = _HEADER.size + WRITERS_MAX * NONCE_BYTES + VALUE_BYTES_MAX
"""No register's encoding is longer."""


def make_ballot(number: int, proposer: bytes) -> Ballot:
    """The ballot `number` of a proposer."""
    assert 0 < number <= BALLOT_NUMBER_MAX, number
    assert len(proposer) == PROPOSER_BYTES, proposer
    return Ballot(number.to_bytes(8, "big") + proposer)


def ballot_number(ballot: Ballot) -> int:
    """The number of a ballot."""
    return int.from_bytes(ballot[:8], "big")


def check_ballot(ballot: bytes) -> Ballot:
    """What arrived, as a ballot that somebody may propose. Raises MalformedMessageError."""
    if len(ballot) != BALLOT_BYTES or not 0 < ballot_number(Ballot(ballot)) <= BALLOT_NUMBER_MAX:
        raise MalformedMessageError(f"{ballot.hex()[:64]!r} is no ballot: use the same release")
    return Ballot(ballot)


@dataclass(frozen=True, slots=True)
class Register:
    """The state of one key.

    Attributes:
        version: counts the changes, deletes included; 0 while there was none.
        value: None when there is none.
        writers: the nonce of the change that made `version`, of the one before it, and so on.
    """

    version: int
    value: bytes | None
    writers: tuple[bytes, ...]

    def changed(self, value: bytes | None, nonce: bytes) -> "Register":
        """What a change by `nonce` makes of it; None deletes."""
        assert len(nonce) == NONCE_BYTES, nonce
        return Register(self.version + 1, value, (nonce, *self.writers[: WRITERS_MAX - 1]))

    def knows_writer_of(self, version: int) -> bool:
        """Whether it can tell who made `version`, or that nobody has yet."""
        return self.version - version < len(self.writers)

    def was_written_by(self, nonce: bytes, version: int) -> bool:
        """Whether `nonce` made `version`; ask only for versions that it knows of."""
        assert self.knows_writer_of(version), version
        return version <= self.version and self.writers[self.version - version] == nonce


UNTOUCHED: Final = Register(0, None, ())
"""A register that was never changed."""


def encode_register(register: Register) -> bytes:
    """The layout above."""
    without = _DELETED if register.version else _ABSENT
    kind = without if register.value is None else _VALUE
    header = _HEADER.pack(_FORMAT, kind, register.version, len(register.writers))
    return b"".join((header, *register.writers, register.value or b""))


def decode_register(encoded: bytes) -> Register:
    """The register of an encoding. Raises MalformedMessageError."""
    if len(encoded) < _HEADER.size or len(encoded) > REGISTER_BYTES_MAX:
        raise _malformed(f"a register of {len(encoded)} bytes")
    form, kind, version, count = _HEADER.unpack_from(encoded)
    start = _HEADER.size + count * NONCE_BYTES
    if form != _FORMAT:
        raise _malformed(f"a register of format {form}")
    if kind not in (_ABSENT, _VALUE, _DELETED) or (kind == _ABSENT) != (version == 0):
        raise _malformed(f"a register of kind {kind} and version {version}")
    if count != min(version, WRITERS_MAX) or len(encoded) < start:
        raise _malformed(f"a register of version {version} with {count} writers")
    if kind != _VALUE and len(encoded) > start:
        raise _malformed("a register with a value that its kind does not have")
    writers = tuple(
        encoded[at : at + NONCE_BYTES] for at in range(_HEADER.size, start, NONCE_BYTES)
    )
    return Register(version, encoded[start:] if kind == _VALUE else None, writers)


def has_value(encoded: bytes) -> bool:
    """Whether a sound encoding has a value."""
    return encoded[1] == _VALUE


def _malformed(what: str) -> MalformedMessageError:
    return MalformedMessageError(f"{what} is not understood: use the same release on both sides")
