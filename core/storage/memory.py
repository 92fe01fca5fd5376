"""MemoryStore: the KvStore in memory, with writes that a crash can lose and faults on demand."""

import threading
from bisect import bisect_left, insort
from collections.abc import Iterator

from ..errors import StorageError
from ..random import Random
from .kv import PutOrDelete


class MemoryStore:
    """The KvStore port in memory, for tests, simulation and runtimes that keep nothing.

    It remembers how to take back every write since the last sync, so that `crash` can lose a
    suffix of them, as a machine that loses its power does.

    Attributes:
        writes: calls of `write` and `delete_range` that succeeded.
        puts: keys put by them.
        deletes: keys deleted by them, whether they were there or not; a range counts as one.
        gets: calls of `get`.
        scans: calls of `scan`.
        syncs: calls of `sync` that succeeded.
        reclaims: calls of `reclaim` that succeeded.
    """

    __slots__ = (
        "_data",
        "_fail_after",
        "_fail_next_sync",
        "_fail_next_write",
        "_keys",
        "_lock",
        "_poison",
        "_undo",
        "deletes",
        "gets",
        "puts",
        "reclaims",
        "scans",
        "syncs",
        "writes",
    )

    def __init__(self, content: dict[bytes, bytes] | None = None) -> None:
        """Start with a copy of `content`, durable, or empty."""
        self._data: dict[bytes, bytes] = dict(content or {})
        self._keys: list[bytes] = sorted(self._data)
        # Per write since the last sync: the former value of each key, in the order of the changes.
        self._undo: list[list[PutOrDelete]] = []
        self._poison: str | None = None
        self._fail_next_write = False
        self._fail_next_sync = False
        self._fail_after: int | None = None
        # `sync` may come from another thread than `write`.
        self._lock = threading.Lock()
        self.writes = self.puts = self.deletes = self.gets = self.scans = self.syncs = 0
        self.reclaims = 0

    @property
    def unsynced_writes(self) -> int:
        """How many writes a crash could lose now."""
        return len(self._undo)

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, or None. Raises StorageError when closed."""
        self._check_open()
        self.gets += 1
        return self._data.get(key)

    def write(self, operations: list[PutOrDelete]) -> None:
        """Apply puts and deletes atomically. Raises StorageError when closed, poisoned or told."""
        with self._lock:
            self._check_writable()
            self._maybe_fail(self._fail_next_write, "write")
            self._apply(operations)
            deletes = sum(1 for _, value in operations if value is None)
            self.deletes += deletes
            self.puts += len(operations) - deletes

    def delete_range(self, start: bytes, end: bytes) -> None:
        """Delete every key in [start, end). Raises StorageError when closed, poisoned or told."""
        with self._lock:
            self._check_writable()
            if start >= end:
                return
            self._maybe_fail(self._fail_next_write, "write")
            self._apply([(key, None) for key in self._range(start, end)])
            self.deletes += 1

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys in [start, end) as they are now, ascending or descending.

        Raises StorageError, also from the iterator, when the store is closed.
        """
        self._check_open()
        self.scans += 1
        with self._lock:
            found = [(key, self._data[key]) for key in self._range(start, end)]
        if reverse:
            found.reverse()
        return self._give_out(found)

    def sync(self) -> None:
        """Make everything written so far durable. Raises StorageError as `write` does."""
        with self._lock:
            self._check_writable()
            self._maybe_fail(self._fail_next_sync, "sync")
            self._undo.clear()
            self.syncs += 1

    def reclaim(self, start: bytes, end: bytes) -> None:
        """Do nothing, as deleted values hold no space. Raises StorageError as `write` does."""
        with self._lock:
            self._check_writable()
            self.reclaims += 1

    def close(self) -> None:
        """Sync and refuse every use from now on; closing twice does nothing.

        Raises StorageError when the sync was told to fail; the store is closed all the same.
        """
        if self._is_closed():
            return
        try:
            if self._poison is None:
                self.sync()
        finally:
            self._poison = _CLOSED

    # What follows is not in the port: the powers of a test.

    def fail_next_write(self) -> None:
        """Let the next `write` or `delete_range` fail, and leave no trace of it."""
        self._fail_next_write = True

    def fail_next_sync(self) -> None:
        """Let the next `sync` fail; what was not durable before may be lost by `crash`."""
        self._fail_next_sync = True

    def fail_after(self, operations: int) -> None:
        """Let `operations` more writes and syncs succeed, and fail the one after them."""
        assert operations >= 0, operations
        self._fail_after = operations

    def crash(self, keep_unsynced: int | Random = 0) -> "MemoryStore":
        """Lose the machine: give a new store with what survived; this one is of no use any more.

        What was synced survives, and of the unsynced writes the first `keep_unsynced`; a Random
        draws how many, none and all included.
        """
        with self._lock:
            if isinstance(keep_unsynced, int):
                keep = min(keep_unsynced, len(self._undo))
            else:
                keep = int(keep_unsynced.fraction() * (len(self._undo) + 1))
            survivors = dict(self._data)
            for former in reversed(self._undo[keep:]):
                for key, value in reversed(former):
                    if value is None:
                        survivors.pop(key, None)
                    else:
                        survivors[key] = value
            self._poison = _CLOSED
            return MemoryStore(survivors)

    def reopen(self) -> "MemoryStore":
        """Give a new store as after a restart of the process alone: it loses no write.

        This one is closed without a sync; it may have been closed or poisoned before.
        """
        unsynced = list(self._undo)
        self._poison = _CLOSED
        successor = MemoryStore(self._data)
        # The machine did not stop, so what was not synced is still at risk.
        successor._undo = unsynced
        return successor

    def _apply(self, operations: list[PutOrDelete]) -> None:
        data = self._data
        keys = self._keys
        former: list[PutOrDelete] = []
        for key, value in operations:
            before = data.get(key)
            former.append((key, before))
            if value is not None:
                data[key] = value
                if before is None:
                    insort(keys, key)
            elif before is not None:
                del data[key]
                del keys[bisect_left(keys, key)]
        self._undo.append(former)
        self.writes += 1

    def _range(self, start: bytes, end: bytes) -> list[bytes]:
        return self._keys[bisect_left(self._keys, start) : bisect_left(self._keys, end)]

    def _give_out(self, found: list[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        for item in found:
            self._check_open()
            yield item

    def _maybe_fail(self, told: bool, action: str) -> None:
        """Fail when told so, or when `fail_after` has counted down."""
        if self._fail_after is not None:
            told = told or self._fail_after == 0
            self._fail_after -= 1
        if told:
            message = f"cannot {action} the store in memory: a fault was asked for"
            self._poison = f"{message} (the store takes no writes since then)"
            raise StorageError(message)

    def _is_closed(self) -> bool:
        return self._poison is _CLOSED

    def _check_open(self) -> None:
        if self._poison is _CLOSED:
            raise StorageError(_CLOSED)

    def _check_writable(self) -> None:
        if self._poison is not None:
            raise StorageError(self._poison)


_CLOSED = "the store in memory is closed: open it again to use it"
