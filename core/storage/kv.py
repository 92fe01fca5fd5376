"""The KvStore port: an ordered map of bytes with atomic batches and an explicit sync."""

from collections.abc import Iterator
from typing import Protocol, TypeAlias

PutOrDelete: TypeAlias = tuple[bytes, bytes | None]
"""A key and its new value; None deletes the key."""


class KvStore(Protocol):
    """An ordered map from bytes to bytes. Keys order as unsigned bytes, shorter first.

    Contract (`tests/conformance/kv_store.py` runs for every implementation):

    - `write` applies all its operations or none, also after a crash, and in their order; a later
      operation on the same key wins. It is visible to reads at once and MUST NOT be taken for
      durable: a crash may lose any suffix of the writes made since the last `sync`, but never a
      write in the middle (what survives is a prefix of what was written).
    - `sync` returns after everything written before the call is durable. It may be called from
      another thread than the writer's and releases the interpreter lock while it waits.
    - Any failure of `write` or `sync` raises `StorageError`; from then on every `write` and `sync`
      raises it too until the store is opened again, because what reached the disk is unknown.
    - `scan` sees the store as it was when the scan began, whatever is written meanwhile.
    - `reclaim` changes nothing that can be read and nothing about what a crash may lose. It may be
      called from another thread than the writer's, at any time, and lets both go on meanwhile.
    - `close` syncs. Using a closed store raises `StorageError`.
    """

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, or None."""
        ...

    def write(self, operations: list[PutOrDelete]) -> None:
        """Apply puts and deletes atomically, without waiting for the disk."""
        ...

    def delete_range(self, start: bytes, end: bytes) -> None:
        """Delete every key in [start, end); ordered with `write` and as durable as it."""
        ...

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys in [start, end) with their values, ascending or descending."""
        ...

    def sync(self) -> None:
        """Make everything written so far durable."""
        ...

    def reclaim(self, start: bytes, end: bytes) -> None:
        """Give back the disk space of what was deleted in [start, end), as far as it pays.

        A hint: stores do so on their own in time. May take seconds: call it in a thread.
        """
        ...

    def close(self) -> None:
        """Sync and let go of the files; closing twice does nothing."""
        ...
