"""The aside table: a copy that does not count any more, as its rows are not those of the others.

It belongs to this node's copy alone: neither snapshots nor digests know of it. It goes in the write
that ends a restore, or the clearing of the copy.
"""

from typing import Final

import msgspec

from ...core.storage.kv import KvStore, PutOrDelete
from . import keys


class Aside(msgspec.Struct, frozen=True):
    """Why a copy is set aside.

    Attributes:
        lsn: of the record that told it; 0 where no record did.
        error: what was found, with its code.
        refill: somebody has asked that the copy is filled anew.
    """

    lsn: int
    error: str
    refill: bool = False


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Aside).decode


def read_aside(store: KvStore, first: bytes) -> Aside | None:
    """Why the copy is set aside whose range begins at `first`; None where it is not."""
    stored = store.get(keys.ASIDE + first)
    return None if stored is None else _decode(stored)


def write_aside(store: KvStore, first: bytes, aside: Aside) -> None:
    """Set a copy aside, durably. Raises StorageError."""
    store.write([(keys.ASIDE + first, _encode(aside))])
    # Else a power failure could take it back, and the copy might lead then.
    store.sync()


def no_longer_aside(first: bytes) -> PutOrDelete:
    """The operation by which a copy counts again."""
    return keys.ASIDE + first, None
