"""Taking a snapshot: the partition's rows as of one moment, copied in bounded steps.

The moment is when the writer is made, on the event loop and between two writes of the store: the
progress row and one scan per table are taken with nothing in between, and a scan sees the store as
it was when it began. The steps may then run beside the loop. While it lasts, the store keeps the
files and buffers that the scans read.
"""

import threading
from collections.abc import Iterator
from typing import Final

import msgspec
import xxhash

from ...core.storage.kv import KvStore
from ..context import PartitionRange
from ..tables import keys
from ..tables.progress import decode_progress
from .archive import Archive
from .errors import SnapshotRefusedError
from .manifest import FORMAT, Manifest, SnapshotFile, partition_folder, snapshot_name
from .rows import ROWS_BYTES, ROWS_MAX, encode_block

FILE_BYTES: Final = 64 * 1024 * 1024
"""A file of rows ends with the block that fills it up to here."""


class SnapshotWriter:
    """Takes one snapshot.

    Attributes:
        lsn: the last one whose effect is in it.
    """

    def __init__(
        self,
        archive: Archive,
        store: KvStore,
        own: PartitionRange,
        *,
        log: int,
        node: str,
        random_bits: int,
        created_ns: int,
        file_bytes: int | None = None,
    ) -> None:
        """Fix the moment: on the loop, with no batch applied that is not written.

        Args:
            file_bytes: when a file is full, if not at `FILE_BYTES`.

        Raises SnapshotRefusedError when nothing was applied yet, or StorageError.
        """
        row = store.get(keys.PROGRESS + own.first)
        if row is None:
            raise SnapshotRefusedError(
                f"partition {own.number} has applied nothing yet: there is nothing to keep"
            )
        progress = decode_progress(row)
        self.lsn = progress.applied_lsn
        self._archive = archive
        self._own = own
        self._file_bytes = file_bytes or FILE_BYTES
        self._name = snapshot_name(self.lsn, node, random_bits)
        self._scans: list[Iterator[tuple[bytes, bytes]]] | None = [
            store.scan(start, end) for start, end in partition_spans(own)
        ]
        self._reading = threading.Lock()
        self._begun = Manifest(
            format=FORMAT,
            name=self._name,
            cluster=archive.cluster,
            partition=own.number,
            partition_count=own.count,
            log=log,
            lsn=self.lsn,
            epoch=progress.epoch,
            digest=progress.digest.hex(),
            progress=row,
            rows=0,
            bytes=0,
            node=node,
            created_ns=created_ns,
            files=(),
        )
        self.manifest: Manifest | None = None
        self._steps = self._run()

    def step(self) -> bool:
        """Do a bounded part of the work, beside the loop; whether the snapshot is complete.

        Raises SnapshotRepositoryError and what `Archive.publish` raises; StorageError when the
        store cannot be read; SnapshotRefusedError after `abandon`. Nothing can be seen of a
        snapshot that failed.
        """
        try:
            next(self._steps)
        except StopIteration:
            return True
        except BaseException:
            self.abandon()
            raise
        return False

    def abandon(self) -> None:
        """Let go of the store, waiting for the rows that are being read now, which is short."""
        with self._reading:
            self._scans = None

    def _run(self) -> Iterator[None]:
        files: list[SnapshotFile] = []
        rows = self._next_rows()
        # A partition without rows has no file; its progress row says it all.
        while rows:
            name = f"rows-{len(files) + 1}"
            folder = partition_folder(self._own.number)
            item = self._archive.repository.write(f"{folder}/{self._name}/{name}")
            try:
                hasher = xxhash.xxh3_128()
                size = count = 0
                while rows and size < self._file_bytes:
                    block = encode_block(rows)
                    item.write(block)
                    hasher.update(block)
                    size += len(block)
                    count += len(rows)
                    yield
                    rows = self._next_rows()
                item.commit()
            finally:
                item.abandon()
            files.append(SnapshotFile(name, size, count, hasher.hexdigest()))
            yield
        self.abandon()
        manifest = self._complete(tuple(files))
        self._archive.publish(manifest)
        self.manifest = manifest

    def _complete(self, files: tuple[SnapshotFile, ...]) -> Manifest:
        return msgspec.structs.replace(
            self._begun,
            files=files,
            rows=sum(file.rows for file in files),
            bytes=sum(file.bytes for file in files),
        )

    def _next_rows(self) -> list[tuple[bytes, bytes]]:
        """The next block's rows; none at the end."""
        with self._reading:
            scans = self._scans
            if scans is None:
                raise SnapshotRefusedError(
                    f"the snapshot of partition {self._own.number} was given up: the node stops"
                )
            rows: list[tuple[bytes, bytes]] = []
            size = 0
            while scans:
                for row in scans[0]:
                    rows.append(row)
                    size += len(row[0]) + len(row[1])
                    if size >= ROWS_BYTES or len(rows) >= ROWS_MAX:
                        return rows
                del scans[0]
            return rows


def partition_spans(own: PartitionRange) -> list[tuple[bytes, bytes]]:
    """Where a partition's rows are: first key and the one after the last, table by table."""
    return [(table + own.first, keys.prefix_end(table + own.last)) for table in keys.TABLES]
