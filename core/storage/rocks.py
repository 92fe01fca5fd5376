"""RocksStore: the KvStore on disk, over rocksdict (RocksDB) in raw mode.

What this adapter rests on, tried out with rocksdict 0.3.29 and checked by the tests beside it:
`flush_wal` releases the interpreter lock while a synced `write` holds it; an iterator sees the
store as it was when it was made; `items()` ends silently at a damaged block while the plain
iterator's `status()` tells; a lower bound in ReadOptions sets the upper one; an iterator reads its
bounds from memory that its ReadOptions own, so they must live as long; a live iterator keeps
the lock on the directory after `close`; `delete_range` goes through the write-ahead log;
`compact_range` releases the interpreter lock, reports no failure and must have ended before
`close`; options of the column family count only when it is named.
"""

import os
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, TypeAlias

from rocksdict import (
    BlockBasedIndexType,
    BlockBasedOptions,
    BottommostLevelCompaction,
    Cache,
    CompactOptions,
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

Profile: TypeAlias = Literal["state", "log"]
"""What a store is tuned for: `state` for values that are read and overwritten at random, `log` for
values that are appended, read in order and deleted in ranges from the oldest on."""


class RocksStore:
    """The KvStore port on a directory; its contract is in `kv.KvStore`.

    One thread writes; `sync` may run in another. Reads of a damaged block raise
    StorageCorruptError and do not poison the store, as nothing was written.
    """

    __slots__ = (
        "_database",
        "_get",
        "_path",
        "_pinned_bytes_max",
        "_poison",
        "_reclaim_lock",
        "_scans",
        "_sync_lock",
        "_write",
    )

    def __init__(self, database: Rdict, path: str, pinned_bytes_max: int | None = None) -> None:
        """Take an open database; use `open`.

        Args:
            pinned_bytes_max: how much dead data `reclaim` leaves in value files; None without them.
        """
        self._database = database
        self._path = path
        self._get = database.get
        self._write = database.write
        self._poison: str | None = None
        # Scans that are not finished: `close` must take their iterators away to free the directory.
        self._scans: weakref.WeakSet[_Scan] = weakref.WeakSet()
        # `close` waits here for a sync that is running in another thread.
        self._sync_lock = threading.Lock()
        self._pinned_bytes_max = pinned_bytes_max
        # RocksDB must not be closed below a running `reclaim`.
        self._reclaim_lock = threading.Lock()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        profile: Profile = "state",
        write_buffer_bytes: int | None = None,
        block_cache_bytes: int | None = None,
        background_jobs_max: int = 2,
        compression: bool = True,
    ) -> "RocksStore":
        """Open the store in a directory, made when it is missing.

        After a crash the log is read up to the first torn record and no further. Two write buffers
        of 32 MiB and a block cache of 64 MiB are held in memory at most, in the profile `log`
        three of 16 MiB and 8 MiB. A directory may be opened with either profile at any time.

        Raises StorageLockedError when the directory is open elsewhere, StorageCorruptError when
        its files are damaged and StorageError for everything else the disk may say.
        """
        directory = os.fspath(path)
        is_log = profile == "log"
        buffer_bytes = write_buffer_bytes or (_LOG_BUFFER_BYTES if is_log else 32 * _MIB)
        cache_bytes = block_cache_bytes or (_LOG_CACHE_BYTES if is_log else 64 * _MIB)
        options = _options(buffer_bytes, cache_bytes, background_jobs_max, compression)
        if is_log:
            _tune_for_log(options)
        try:
            _make_directory(Path(directory))
            # Without the second mention the options that the directory was last opened with would
            # count, and with them the default block cache.
            database = Rdict(directory, options, {_DEFAULT_FAMILY: options})
        except Exception as error:
            raise _storage_error("open", directory, error) from error
        return cls(database, directory, _PINNED_BUFFERS_MAX * buffer_bytes if is_log else None)

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

    def reclaim(self, start: bytes, end: bytes) -> None:
        """Give back the disk space of what was deleted in [start, end). Any thread may call it.

        It takes from milliseconds to seconds, writes what is buffered to tables and leaves the
        interpreter to others. In the profile `log` values are moved only when the files hold
        more dead bytes than living ones. What goes wrong with the disk is told by later writes.

        Raises StorageError when the store is closed or takes no writes.
        """
        with self._reclaim_lock:
            if self._poison is not None:
                raise StorageError(self._poison)
            if start >= end:
                return
            try:
                self._database.compact_range(start, end)
                if self._pinned_bytes_max is not None:
                    self._move_living_values(start, end, self._pinned_bytes_max)
            except Exception as error:
                raise _storage_error("reclaim space in", self._path, error) from error

    def _move_living_values(self, start: bytes, end: bytes, dead_bytes_max: int) -> None:
        """Copy living values out of files that are mostly dead, when those are worth it."""
        database = self._database
        total = database.property_int_value("rocksdb.live-blob-file-size") or 0
        dead = database.property_int_value("rocksdb.live-blob-file-garbage-size") or 0
        # Never more is copied than is given back.
        if dead <= max(dead_bytes_max, total // 2):
            return
        database.set_options({_MOVE_VALUES: "true"})
        try:
            options = CompactOptions()
            options.set_bottommost_level_compaction(BottommostLevelCompaction.force())
            database.compact_range(start, end, options)
        finally:
            database.set_options({_MOVE_VALUES: "false"})

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
            interrupted = not self._reclaim_lock.acquire(blocking=False)
            try:
                if interrupted:
                    self._database.cancel_all_background(False)
                    self._reclaim_lock.acquire()
                self._database.close()
            except Exception as error:
                # After an interruption RocksDB does not flush; what it would have is synced.
                if failure is None and not was_poisoned and not interrupted:
                    failure = _storage_error("close", self._path, error)
            finally:
                self._reclaim_lock.release()
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
_DEFAULT_FAMILY: Final = "default"

_LOG_BUFFER_BYTES: Final = 16 * _MIB
_LOG_CACHE_BYTES: Final = 8 * _MIB
_LOG_FILES_MERGED: Final = 4
_PINNED_BUFFERS_MAX: Final = 8
# Below this a value costs less inside of the table than beside it.
_VALUE_FILE_BYTES_MIN: Final = 256
_MOVE_VALUES: Final = "enable_blob_garbage_collection"
_NEVER: Final = 1 << 30


def _tune_for_log(options: Options) -> None:
    """Keep compaction off the values: they stay in the file that the flush wrote.

    Tables hold keys and where the values are, so merging them costs next to nothing; a value file
    goes when the last of its values is trimmed, without being read. Measured over 7 GiB in 32
    loglets, trimmed every 64 MiB to the last 32 MiB: 2.04 bytes written per byte appended and at
    most 275 MiB on disk; the profile `state` had 2.55 bytes and 371 MiB (over 12 GiB).
    """
    options.set_enable_blob_files(True)
    options.set_min_blob_size(_VALUE_FILE_BYTES_MIN)
    # One that lives long pins its file with all its neighbours; `reclaim` moves the living ones
    # out of the older half when that pays. On its own RocksDB would move them again and again.
    options.set_enable_blob_gc(False)
    options.set_blob_gc_age_cutoff(0.5)
    # Tables of keys are far too few for a level between: every merge reaches the last one, where
    # deletions end. They are small, so that an append touches only those with the last keys.
    options.set_level_compaction_dynamic_level_bytes(True)
    options.set_target_file_size_base(2 * _MIB)
    options.set_level_zero_file_num_compaction_trigger(_LOG_FILES_MERGED)
    # A backlog of merges is no reason to stop the event loop.
    options.set_level_zero_slowdown_writes_trigger(_NEVER)
    options.set_level_zero_stop_writes_trigger(_NEVER)
    options.set_soft_pending_compaction_bytes_limit(0)
    options.set_hard_pending_compaction_bytes_limit(0)
    options.set_max_write_buffer_number(3)
    # Write out steadily, so that the sync of the write-ahead log does not wait behind a flush.
    options.set_bytes_per_sync(_MIB)


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
    # Else the indexes and filters of all tables stay in memory, and grow with the data.
    blocks.set_cache_index_and_filter_blocks(True)
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
    # A table's index and filter as one block each are a megabyte: as soon as those of all tables
    # did not fit into the cache, every read loaded some anew. Measured with 700 000 rows of two
    # tables: 186 µs for each key that is not there, 6 µs in partitions of 4 KiB.
    blocks.set_index_type(BlockBasedIndexType.two_level_index_search())
    blocks.set_partition_filters(True)
    blocks.set_pin_top_level_index_and_filter(True)
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
