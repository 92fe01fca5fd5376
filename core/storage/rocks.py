"""RocksStore: the KvStore on disk, over rocksdict (RocksDB) in raw mode.

What this adapter rests on, tried out with rocksdict 0.3.29 and checked by the tests beside it:
`flush_wal` releases the interpreter lock while a synced `write` holds it; an iterator sees the
store as it was when it was made; `items()` ends silently at a damaged block while the plain
iterator's `status()` tells; a lower bound in ReadOptions sets the upper one; an iterator reads its
bounds from memory that its ReadOptions own, so they must live as long; a live iterator keeps
the lock on the directory after `close`.
"""

import os
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DbClosedError,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    RdictIter,
    ReadOptions,
    WriteBatch,
)

from ..errors import StorageCorruptError, StorageError, StorageLockedError
from .kv import PutOrDelete

_MIB: Final = 1024 * 1024
_BLOOM_BITS_PER_KEY: Final = 10
# Enough for tables of 64 MiB on a big disk, and far from the usual limit of 1024 open files.
_OPEN_FILES_MAX: Final = 512


class RocksStore:
    """The KvStore port on a directory; its contract is in `kv.KvStore`.

    One thread writes; `sync` may run in another. Reads of a damaged block raise
    StorageCorruptError and do not poison the store, as nothing was written.
    """

    __slots__ = ("_database", "_get", "_path", "_poison", "_scans", "_sync_lock", "_write")

    def __init__(self, database: Rdict, path: str) -> None:
        """Take an open database; use `open`."""
        self._database = database
        self._path = path
        self._get = database.get
        self._write = database.write
        self._poison: str | None = None
        # Scans that are not finished: `close` must take their iterators away to free the directory.
        self._scans: weakref.WeakSet[_Scan] = weakref.WeakSet()
        # `close` waits here for a sync that is running in another thread.
        self._sync_lock = threading.Lock()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        write_buffer_bytes: int = 32 * _MIB,
        block_cache_bytes: int = 32 * _MIB,
        background_jobs_max: int = 2,
        compression: bool = True,
    ) -> "RocksStore":
        """Open the store in a directory, made when it is missing.

        After a crash the log is read up to the first torn record and no further. Up to two write
        buffers and the block cache are held in memory.

        Raises StorageLockedError when the directory is open elsewhere, StorageCorruptError when
        its files are damaged and StorageError for everything else the disk may say.
        """
        directory = os.fspath(path)
        options = _options(write_buffer_bytes, block_cache_bytes, background_jobs_max, compression)
        try:
            _make_directory(Path(directory))
            database = Rdict(directory, options)
        except Exception as error:
            raise _storage_error("open", directory, error) from error
        return cls(database, directory)

    @property
    def path(self) -> str:
        """The directory, as it was given to `open`."""
        return self._path

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, or None. Raises StorageError."""
        try:
            value: bytes | None = self._get(key)
        except Exception as error:
            raise _storage_error("read", self._path, error) from error
        return value

    def write(self, operations: list[PutOrDelete]) -> None:
        """Apply puts and deletes atomically, without waiting for the disk. Raises StorageError."""
        if self._poison is not None:
            raise StorageError(self._poison)
        batch = WriteBatch(True)
        put = batch.put
        delete = batch.delete
        for key, value in operations:
            if value is None:
                delete(key)
            else:
                put(key, value)
        try:
            self._write(batch)
        except Exception as error:
            raise self._poisoned("write to", error) from error

    def delete_range(self, start: bytes, end: bytes) -> None:
        """Delete every key in [start, end); an empty range does nothing. Raises StorageError."""
        if self._poison is not None:
            raise StorageError(self._poison)
        if start >= end:
            return
        try:
            self._database.delete_range(start, end)
        except Exception as error:
            raise self._poisoned("write to", error) from error

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys in [start, end) as they are now, ascending or descending.

        An unfinished scan pins the files it reads: let go of it. Raises StorageError, also from
        the iterator: when a block is damaged or the store was closed meanwhile.
        """
        options = ReadOptions()
        # An upper bound below the start would make RocksDB seek outside of the range.
        options.set_iterate_upper_bound(max(start, end))
        try:
            cursor = self._database.iter(options)
            if reverse:
                cursor.seek_for_prev(max(start, end))
            else:
                cursor.seek(start)
        except Exception as error:
            raise _storage_error("scan", self._path, error) from error
        scan = _Scan(cursor, options, start, reverse, self._path)
        self._scans.add(scan)
        return scan

    def sync(self) -> None:
        """Make everything written so far durable. Raises StorageError. Any thread may call it."""
        with self._sync_lock:
            if self._poison is not None:
                raise StorageError(self._poison)
            try:
                self._database.flush_wal(True)
            except Exception as error:
                raise self._poisoned("sync", error) from error

    def close(self) -> None:
        """Sync and let go of the files, in every case; closing twice does nothing.

        Raises StorageError when the last sync failed. A store that is poisoned is closed without
        another word, because its owner has had the error.
        """
        with self._sync_lock:
            if self._poison is not None and self._poison.startswith(_CLOSED):
                return
            failure: StorageError | None = None
            if self._poison is None:
                try:
                    self._database.flush_wal(True)
                except Exception as error:
                    failure = _storage_error("sync", self._path, error)
            for scan in tuple(self._scans):
                scan.end()
            was_poisoned = self._poison is not None
            self._poison = f"{_CLOSED}{self._path}: open it again to use it"
            try:
                self._database.close()
            except Exception as error:
                if failure is None and not was_poisoned:
                    failure = _storage_error("close", self._path, error)
        if failure is not None:
            raise failure

    def _poisoned(self, action: str, error: Exception) -> StorageError:
        failure = _storage_error(action, self._path, error)
        if self._poison is None:
            self._poison = f"{failure.message} (the store takes no writes since then)"
        return failure


class _Scan:
    """One running scan; rocksdict's own item iterators would hide a damaged block."""

    __slots__ = ("__weakref__", "_advance", "_cursor", "_options", "_path", "_start")

    def __init__(
        self, cursor: RdictIter, options: ReadOptions, start: bytes, reverse: bool, path: str
    ) -> None:
        # RocksDB reads the upper bound from memory that the options own.
        self._options = options
        self._cursor: RdictIter | None = cursor
        self._advance = cursor.prev if reverse else cursor.next
        self._start = start
        self._path = path

    def __iter__(self) -> "_Scan":
        return self

    def __next__(self) -> tuple[bytes, bytes]:
        cursor = self._cursor
        if cursor is None:
            raise StorageError(f"{_CLOSED}{self._path}: a scan was still running")
        try:
            if cursor.valid():
                key: bytes = cursor.key()
                # Only a descending scan can get below its start.
                if key >= self._start:
                    item = key, cursor.value()
                    self._advance()
                    return item
            else:
                cursor.status()
        except Exception as error:
            raise _storage_error("scan", self._path, error) from error
        raise StopIteration

    def end(self) -> None:
        """Let go of the files; the next step raises StorageError."""
        self._cursor = None
        self._advance = _nothing


def _nothing() -> None:
    return None


_CLOSED: Final = "the store is closed: "


def _options(
    write_buffer_bytes: int, block_cache_bytes: int, background_jobs_max: int, compression: bool
) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_wal_recovery_mode(DBRecoveryMode.point_in_time())
    options.set_write_buffer_size(write_buffer_bytes)
    options.set_max_write_buffer_number(2)
    options.set_max_background_jobs(background_jobs_max)
    options.set_max_open_files(_OPEN_FILES_MAX)
    # There is one writer: the machinery for many costs it a tenth of every write.
    options.set_allow_concurrent_memtable_write(False)
    options.set_enable_write_thread_adaptive_yield(False)
    options.set_compression_type(
        DBCompressionType.lz4() if compression else DBCompressionType.none()
    )
    blocks = BlockBasedOptions()
    blocks.set_block_cache(Cache(block_cache_bytes))
    blocks.set_bloom_filter(_BLOOM_BITS_PER_KEY, False)
    options.set_block_based_table_factory(blocks)
    # rocksdict cannot lower the level of the info log, so it is kept short instead.
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(_MIB)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    return options


def _make_directory(path: Path) -> None:
    """Make the directory and its parents, each durably: a lost parent would lose the store."""
    if path.is_dir():
        return
    _make_directory(path.parent)
    path.mkdir(exist_ok=True)
    parent = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _storage_error(action: str, path: str, error: Exception) -> StorageError:
    """The StorageError for what rocksdict or the file system said; other errors are bugs."""
    if isinstance(error, DbClosedError):
        return StorageError(f"{_CLOSED}{path}: open it again to use it")
    # RocksDB's errors come as plain Exception; wrong argument types as subclasses of it.
    if type(error) is not Exception and not isinstance(error, OSError):
        raise error
    reason = " ".join(str(error).split())
    what = f"cannot {action} the store in {path}: {reason}"
    if "/LOCK: " in reason:
        return StorageLockedError(
            f"the store in {path} is open already, in another process or in this one: stop that "
            f"process or use another directory ({reason})"
        )
    if reason.startswith("Corruption:"):
        return StorageCorruptError(
            f"{what}; the files are damaged: replace the disk and restore this directory from a "
            "replica or a snapshot"
        )
    if "No space left" in reason or "Disk quota exceeded" in reason:
        return StorageError(f"{what}; the disk is full: free space and restart")
    if "File too large" in reason:
        return StorageError(
            f"{what}; a file reached the size limit of this process: raise it (ulimit -f) and "
            "restart"
        )
    if "Permission denied" in reason or "Read-only file system" in reason:
        return StorageError(f"{what}; give this process write access to it and restart")
    return StorageError(f"{what}; mend the disk or the path and restart")
