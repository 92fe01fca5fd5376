"""The Files port: plain files with explicit syncs, and its adapter over the operating system.

For what is not rows of a `KvStore`: snapshots in a directory. The simulator has an adapter whose
files and names are lost in a crash unless they were synced.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import IO, Protocol

from ..errors import StorageError


class FileWriter(Protocol):
    """A new file that is being written."""

    def write(self, data: bytes) -> None:
        """Append bytes. Raises StorageError."""
        ...

    def sync(self) -> None:
        """Make everything written so far durable; not the file's name. Raises StorageError."""
        ...

    def close(self) -> None:
        """Let go of the file, synced or not; closing twice does nothing."""
        ...


class Files(Protocol):
    """Files and directories by path. Any thread may call; every call may wait for the disk.

    Contract:

    - What a crash leaves: of a file's bytes those that were synced; of a directory's names those
      that `sync_directory` was called for after the change. Both are needed for a file to be there.
    - `rename` is atomic: after a crash there is the old file under the name, or the new one.
    - Everything raises StorageError, which names the path and what the system said.
    """

    def create(self, path: str) -> FileWriter:
        """Begin a file, emptied if it exists; its directory exists."""
        ...

    def read(self, path: str, offset: int, size: int) -> bytes | None:
        """At most `size` bytes from `offset` on, fewer only at the end; None: there is no file."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Give a file another name in the same directory, in place of what has it."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file or an empty directory; what is not there is fine."""
        ...

    def names(self, directory: str) -> list[str]:
        """What a directory holds, sorted; nothing when there is none."""
        ...

    def make_directory(self, path: str) -> None:
        """Make a directory and its parents, each durably; it may exist."""
        ...

    def sync_directory(self, path: str) -> None:
        """Make the names in a directory durable."""
        ...

    def lock(self, path: str) -> AbstractContextManager[None]:
        """``with files.lock(path):`` nobody else is inside, in this process or another."""
        ...


class SystemFiles:
    """The Files port over the operating system."""

    def create(self, path: str) -> FileWriter:
        """Begin a file."""
        with _told("create", path):
            return _SystemWriter(path, open(path, "wb"))

    def read(self, path: str, offset: int, size: int) -> bytes | None:
        """At most `size` bytes from `offset` on; None when there is no file."""
        with _told("read", path):
            try:
                with open(path, "rb", buffering=0) as file:
                    file.seek(offset)
                    pieces: list[bytes] = []
                    while size > 0 and (piece := file.read(size)):
                        pieces.append(piece)
                        size -= len(piece)
                    return b"".join(pieces)
            except FileNotFoundError:
                return None

    def rename(self, old: str, new: str) -> None:
        """Give a file another name."""
        with _told("rename", old):
            os.replace(old, new)

    def remove(self, path: str) -> None:
        """Remove a file or an empty directory."""
        with _told("remove", path):
            try:
                if os.path.isdir(path):
                    os.rmdir(path)
                else:
                    os.remove(path)
            except FileNotFoundError:
                pass

    def names(self, directory: str) -> list[str]:
        """What a directory holds."""
        with _told("list", directory):
            try:
                return sorted(os.listdir(directory))
            except FileNotFoundError:
                return []

    def make_directory(self, path: str) -> None:
        """Make a directory and its parents, each durably."""
        with _told("make directory", path):
            self._make(os.path.abspath(path))

    def _make(self, path: str) -> None:
        if os.path.isdir(path):
            return
        parent = os.path.dirname(path)
        self._make(parent)
        try:
            os.mkdir(path)
        except FileExistsError:
            if not os.path.isdir(path):
                raise
        _sync_directory(parent)

    def sync_directory(self, path: str) -> None:
        """Make the names in a directory durable."""
        with _told("sync", path):
            _sync_directory(path)

    @contextmanager
    def lock(self, path: str) -> Iterator[None]:
        """Keep others out by an advisory lock on a file, which network file systems know too."""
        with _told("lock", path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            with _told("lock", path):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class _SystemWriter:
    def __init__(self, path: str, file: IO[bytes]) -> None:
        self._path = path
        self._file = file

    def write(self, data: bytes) -> None:
        with _told("write", self._path):
            self._file.write(data)

    def sync(self) -> None:
        with _told("sync", self._path):
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        with _told("close", self._path):
            self._file.close()


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _told(action: str, path: str) -> Iterator[None]:
    """What the system refuses, as a StorageError that names the path."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot {action} {path}: {error.strerror or error}") from error
