"""The SnapshotRepository port over a directory: fsync, rename, fsync of the directory.

An object is a file. While it is written it has another ending; the new name is given once the bytes
are durable, and counts once the directory is. What `replace` compares, it compares under a lock.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ...core.errors import StorageError
from ...core.storage.files import Files, FileWriter
from .errors import SnapshotRepositoryError

_PARTIAL: Final = ".partial"
_LOCK: Final = "lock"
_SMALL_BYTES_MAX: Final = 1 << 20


class DirectoryRepository:
    """Snapshots in a directory that every node reaches under the same path, or one node alone.

    Attributes:
        place: the directory.
    """

    def __init__(self, directory: str, files: Files) -> None:
        """Take the directory, which is made when it is first written to."""
        self.place = directory
        self._files = files

    def write(self, name: str) -> "_Object":
        """Begin an object."""
        with self._told():
            path = self._path(name)
            self._files.make_directory(os.path.dirname(path))
            return _Object(self, self._files, path)

    def read(self, name: str, offset: int, size: int) -> bytes | None:
        """At most `size` bytes from `offset` on; None when there is no such object."""
        with self._told():
            return self._files.read(self._path(name), offset, size)

    def names(self, prefix: str) -> list[str]:
        """The next part of the names below `prefix`."""
        with self._told():
            found = self._files.names(self._path(prefix))
        return [name for name in found if not name.endswith(_PARTIAL) and name != _LOCK]

    def replace(self, name: str, expected: bytes | None, value: bytes) -> bool:
        """Write a small object if it holds `expected`."""
        path = self._path(name)
        directory = os.path.dirname(path)
        files = self._files
        with self._told():
            files.make_directory(directory)
            with files.lock(os.path.join(directory, _LOCK)):
                if files.read(path, 0, _SMALL_BYTES_MAX) != expected:
                    return False
                item = _Object(self, files, path)
                try:
                    item.write(value)
                    item.commit()
                finally:
                    item.abandon()
        return True

    def delete(self, name: str) -> None:
        """Delete an object."""
        path = self._path(name)
        with self._told():
            self._files.remove(path)
            self._files.remove(path + _PARTIAL)
            if self._files.names(os.path.dirname(path)):
                self._files.sync_directory(os.path.dirname(path))

    def delete_all(self, prefix: str) -> None:
        """Delete everything below `prefix`."""
        path = self._path(prefix)
        with self._told():
            for name in self._files.names(path):
                self._files.remove(os.path.join(path, name))
            self._files.remove(path)

    def _path(self, name: str) -> str:
        return os.path.join(self.place, *name.split("/"))

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except StorageError as error:
            raise SnapshotRepositoryError(
                f"snapshots in {self.place}: {error}; mend the directory, the node tries again"
            ) from error


class _Object:
    """A file that gets its name when it is durable."""

    def __init__(self, repository: DirectoryRepository, files: Files, path: str) -> None:
        self._repository = repository
        self._files = files
        self._path = path
        self._partial = path + _PARTIAL
        self._file: FileWriter | None = files.create(self._partial)

    def write(self, data: bytes) -> None:
        assert self._file is not None, "written to after its end"
        with self._repository._told():
            self._file.write(data)

    def commit(self) -> None:
        assert self._file is not None, "committed twice"
        with self._repository._told():
            self._file.sync()
            self._file.close()
            self._files.rename(self._partial, self._path)
            self._files.sync_directory(os.path.dirname(self._path))
            self._file = None

    def abandon(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
                self._files.remove(self._partial)
            except StorageError:
                pass  # What is left has a name that nobody looks at; the next snapshot removes it.
