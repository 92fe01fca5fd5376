"""Reading a snapshot back: first all checksums, then the rows, in bounded steps."""

from collections.abc import Iterator
from typing import Final

import msgspec
import xxhash

from ...core.storage.kv import PutOrDelete
from ..tables.progress import Progress, decode_progress
from .archive import Archive
from .errors import SnapshotCorruptError
from .manifest import Manifest, SnapshotFile, partition_folder
from .rows import LENGTH_BYTES, block_length, decode_rows

CHUNK_BYTES: Final = 1024 * 1024
"""Read at once while checksums are compared."""


class SnapshotReader:
    """Reads one snapshot; may wait for the repository, so not on the loop."""

    def __init__(self, archive: Archive, manifest: Manifest) -> None:
        """Take the snapshot's metadata."""
        self.manifest = manifest
        self._repository = archive.repository
        self._folder = f"{partition_folder(manifest.partition)}/{manifest.name}"

    def progress(self) -> Progress:
        """The partition's progress as of the snapshot. Raises SnapshotCorruptError."""
        manifest = self.manifest
        try:
            progress = decode_progress(manifest.progress)
        except msgspec.MsgspecError as error:
            raise SnapshotCorruptError(
                f"{self._repository.place}/{self._folder}: the progress row does not decode "
                f"({error})"
            ) from None
        if progress.applied_lsn != manifest.lsn or progress.digest.hex() != manifest.digest:
            raise SnapshotCorruptError(
                f"{self._repository.place}/{self._folder}: metadata and progress row are of "
                "different moments"
            )
        return progress

    def verify(self) -> Iterator[None]:
        """Compare every file with its checksum, a chunk per step.

        Raises SnapshotCorruptError or SnapshotRepositoryError.
        """
        self.progress()
        for file in self.manifest.files:
            hasher = xxhash.xxh3_128()
            place = 0
            while place < file.bytes:
                data = self._read(file, place, min(CHUNK_BYTES, file.bytes - place))
                hasher.update(data)
                place += len(data)
                yield
            self._check(file, hasher.hexdigest())

    def blocks(self) -> Iterator[list[PutOrDelete]]:
        """All rows, a block at a time; the last comes only if every checksum was right again.

        Raises SnapshotCorruptError or SnapshotRepositoryError.
        """
        for file in self.manifest.files:
            hasher = xxhash.xxh3_128()
            place = rows = 0
            held: list[PutOrDelete] = []
            while place < file.bytes:
                try:
                    head = self._read(file, place, LENGTH_BYTES)
                    length = block_length(head)
                    if place + LENGTH_BYTES + length > file.bytes:
                        raise ValueError(f"a block of {length} bytes reaches beyond the end")
                    body = self._read(file, place + LENGTH_BYTES, length)
                    block = decode_rows(body)
                except ValueError as error:
                    raise SnapshotCorruptError(f"{self._place(file)}: {error}") from None
                hasher.update(head)
                hasher.update(body)
                place += LENGTH_BYTES + length
                rows += len(block)
                if held:
                    yield held
                held = block
            self._check(file, hasher.hexdigest())
            if rows != file.rows:
                raise SnapshotCorruptError(
                    f"{self._place(file)} holds {rows} rows, and its metadata says {file.rows}"
                )
            if held:
                yield held

    def _read(self, file: SnapshotFile, place: int, size: int) -> bytes:
        data = self._repository.read(f"{self._folder}/{file.name}", place, size)
        if data is None:
            raise SnapshotCorruptError(f"{self._place(file)} is not there")
        if len(data) < size:
            raise SnapshotCorruptError(
                f"{self._place(file)} ends after {place + len(data)} bytes, and its metadata says "
                f"{file.bytes}: it was cut off"
            )
        return data

    def _check(self, file: SnapshotFile, found: str) -> None:
        if found != file.checksum:
            raise SnapshotCorruptError(
                f"{self._place(file)} has checksum {found}, and its metadata says "
                f"{file.checksum}: it is damaged"
            )

    def _place(self, file: SnapshotFile) -> str:
        return f"{self._repository.place}/{self._folder}/{file.name}"
