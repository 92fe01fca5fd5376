"""The mark on a node's disk: whose it is, and the tokens by which the cluster knows it again.

It stands in the store whose loss it is to reveal, the one of the log; `joining` says why.
"""

from typing import Final

import msgspec

from ...core.errors import StorageCorruptError, StorageFormatError
from ...core.storage.kv import KvStore

MARKER_KEY: Final = b"node/marker"
"""Layout for ever: the key, and JSON with a format. Absent: the disk is new. Never deleted."""

MARKER_FORMAT: Final = 1


class DiskMarker(msgspec.Struct, frozen=True):
    """What a node's disk says of itself.

    Attributes:
        fingerprint: the cluster that it belongs to.
        node_id: the node's number, 0 until it has joined.
        confirmed: the token of the last start that is known to have joined; empty before.
        pending: the token of a start of which that is not known; empty when there is none.
    """

    format: int
    fingerprint: str
    node_id: int
    confirmed: str
    pending: str

    @property
    def tokens(self) -> frozenset[str]:
        """The tokens that prove the disk."""
        return frozenset((self.confirmed, self.pending)) - {""}


NEW_DISK: Final = DiskMarker(MARKER_FORMAT, "", 0, "", "")


class _Format(msgspec.Struct, frozen=True):
    format: int


def read_marker(store: KvStore) -> DiskMarker:
    """The mark, `NEW_DISK` where there is none.

    Raises StorageError, and of it StorageCorruptError or StorageFormatError.
    """
    stored = store.get(MARKER_KEY)
    if stored is None:
        return NEW_DISK
    try:
        form = msgspec.json.decode(stored, type=_Format).format
        if form > MARKER_FORMAT:
            raise StorageFormatError(
                f"the disk's mark is in format {form}, newer than this program's {MARKER_FORMAT}: "
                "use the release that wrote it, or a later one"
            )
        return msgspec.json.decode(stored, type=DiskMarker)
    except msgspec.MsgspecError as error:
        raise StorageCorruptError(
            f"the disk's mark does not decode ({error}): restore the directory, or join with an "
            "empty one under another name"
        ) from None


def write_marker(store: KvStore, marker: DiskMarker) -> None:
    """Mark the disk, durably. Raises StorageError. Holds the event loop for one disk sync."""
    store.write([(MARKER_KEY, msgspec.json.encode(marker))])
    store.sync()
