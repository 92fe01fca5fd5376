"""The skipped table: the records that a partition has gone on without, as was decided for all."""

from typing import Final

import msgspec


class Skip(msgspec.Struct, frozen=True):
    """A record that a partition goes on without.

    Attributes:
        lsn: of the record.
        what: the record, for people.
        error: why it could not be applied.
        by: who decided it.
        node: where it was decided.
        at_ns: when, by that node's wall clock, nanoseconds since 1970.
    """

    lsn: int
    what: str
    error: str
    by: str
    node: str
    at_ns: int


encode_skip: Final = msgspec.json.Encoder().encode
decode_skip: Final = msgspec.json.Decoder(Skip).decode
