"""SimulationFiles: the Files port in memory, where a crash takes away what was not synced.

Bytes of a file that were not synced may be lost, and so may names in a directory that was not: a
new one, a removed one, and what a rename changed. Both are lost together or apart, by chance or as
told. Each call that changes something, and each sync, is one operation that the power may fail at.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from ...core.errors import StorageError
from ...core.random import Random


class _File:
    """A file's bytes, and how many of them are durable."""

    __slots__ = ("data", "synced")

    def __init__(self) -> None:
        self.data = bytearray()
        self.synced = 0


class _Directory:
    """What a directory holds now, and what it holds after a loss of power."""

    __slots__ = ("durable", "entries")

    def __init__(self) -> None:
        self.entries: dict[str, _File | _Directory] = {}
        self.durable: dict[str, _File | _Directory] = {}


class SimulationFiles:
    """The Files port of one simulated machine, or of one that several of them share.

    Attributes:
        operations: changes and syncs so far.
        on_operation: told of each before it is made, or None; may raise.
    """

    def __init__(self) -> None:
        """Start with an empty root."""
        self._root = _Directory()
        self._locked: set[str] = set()
        self._fail_at: int | None = None
        self._poisons = True
        self._poison: str | None = None
        self.operations = 0
        self.on_operation: Callable[[str, str], None] | None = None

    # The port ------------------------------------------------------------------------------------

    def create(self, path: str) -> "_Writer":
        """Begin a file, emptied if it exists."""
        self._operation("create", path)
        directory, name = self._parent(path, "create")
        file = _File()
        # Emptying a file that was durable may or may not survive: its old bytes are of no use.
        directory.entries[name] = file
        return _Writer(self, file, path)

    def read(self, path: str, offset: int, size: int) -> bytes | None:
        """At most `size` bytes from `offset` on; None when there is no file."""
        self._check_power("read", path)
        found = self._find(path)
        return bytes(found.data[offset : offset + size]) if isinstance(found, _File) else None

    def rename(self, old: str, new: str) -> None:
        """Give a file another name."""
        self._operation("rename", old)
        directory, name = self._parent(old, "rename")
        other, new_name = self._parent(new, "rename")
        assert directory is other, (old, new)
        if name not in directory.entries:
            raise StorageError(f"cannot rename {old}: No such file or directory")
        directory.entries[new_name] = directory.entries.pop(name)

    def remove(self, path: str) -> None:
        """Remove a file or an empty directory."""
        self._operation("remove", path)
        found = self._find(path)
        if found is None:
            return
        if isinstance(found, _Directory) and found.entries:
            raise StorageError(f"cannot remove {path}: Directory not empty")
        directory, name = self._parent(path, "remove")
        del directory.entries[name]

    def names(self, directory: str) -> list[str]:
        """What a directory holds."""
        self._check_power("list", directory)
        found = self._find(directory)
        return sorted(found.entries) if isinstance(found, _Directory) else []

    def make_directory(self, path: str) -> None:
        """Make a directory and its parents, each durably."""
        if isinstance(self._find(path), _Directory):
            self._check_power("make directory", path)
            return
        self._operation("make directory", path)
        place = self._root
        for part in _parts(path):
            found = place.entries.setdefault(part, _Directory())
            if not isinstance(found, _Directory):
                raise StorageError(f"cannot make directory {path}: File exists")
            place.durable[part] = found
            place = found

    def sync_directory(self, path: str) -> None:
        """Make the names in a directory durable."""
        self._operation("sync directory", path)
        found = self._find(path)
        if not isinstance(found, _Directory):
            raise StorageError(f"cannot sync {path}: No such file or directory")
        found.durable = dict(found.entries)

    @contextmanager
    def lock(self, path: str) -> Iterator[None]:
        """Keep others out. Whoever would have to wait in one thread would wait for ever."""
        self._check_power("lock", path)
        assert path not in self._locked, f"{path} is locked already"
        self._locked.add(path)
        try:
            yield
        finally:
            self._locked.discard(path)

    # Faults --------------------------------------------------------------------------------------

    def fail_at(self, operation: int | None, *, poison: bool = True) -> None:
        """Lose the power instead of the operation that is `operation` further on; None for none.

        With `poison`, everything fails from then on; else only that one.
        """
        self._fail_at = None if operation is None else self.operations + operation
        self._poisons = poison

    def crash(self, chance: Random | None = None) -> "SimulationFiles":
        """The files after a loss of power: what was not synced is gone, or by chance is not."""
        survivor = SimulationFiles()
        _survive(self._root, survivor._root, chance)
        return survivor

    def damage(self, path: str, place: int = 0) -> None:
        """Flip a bit of a byte of a file."""
        file = self._find(path)
        assert isinstance(file, _File), path
        file.data[place] ^= 1

    def cut(self, path: str, size: int) -> None:
        """Cut a file off after `size` bytes."""
        file = self._find(path)
        assert isinstance(file, _File), path
        del file.data[size:]
        file.synced = min(file.synced, size)

    def paths(self) -> list[str]:
        """Every file, durable or not."""
        return sorted(_paths(self._root, ""))

    def _operation(self, action: str, path: str) -> None:
        self._check_power(action, path)
        if self.on_operation is not None:
            self.on_operation(action, path)
        if self.operations == self._fail_at:
            self._fail_at = None
            if self._poisons:
                self._poison = _NO_POWER
            raise StorageError(f"cannot {action} {path}: {_NO_POWER}")
        self.operations += 1

    def _check_power(self, action: str, path: str) -> None:
        if self._poison is not None:
            raise StorageError(f"cannot {action} {path}: {self._poison}")

    def _find(self, path: str) -> "_File | _Directory | None":
        place: _File | _Directory | None = self._root
        for part in _parts(path):
            if not isinstance(place, _Directory):
                return None
            place = place.entries.get(part)
        return place

    def _parent(self, path: str, action: str) -> tuple[_Directory, str]:
        *parents, name = _parts(path)
        found = self._find("/".join(parents))
        if not isinstance(found, _Directory):
            raise StorageError(f"cannot {action} {path}: No such file or directory")
        return found, name


class _Writer:
    """A file that is being written."""

    def __init__(self, files: SimulationFiles, file: _File, path: str) -> None:
        self._files = files
        self._file = file
        self._path = path

    def write(self, data: bytes) -> None:
        self._files._operation("write", self._path)
        self._file.data += data

    def sync(self) -> None:
        self._files._operation("sync", self._path)
        self._file.synced = len(self._file.data)

    def close(self) -> None:
        pass


_NO_POWER: Final = "the power is out"


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _survive(before: _Directory, after: _Directory, chance: Random | None) -> None:
    """Fill a directory with what a loss of power leaves of another."""
    for name in sorted({*before.entries, *before.durable}):
        now, then = before.entries.get(name), before.durable.get(name)
        item = now if chance is not None and chance.bits(1) else then
        if isinstance(item, _Directory):
            copy = _Directory()
            _survive(item, copy, chance)
            after.entries[name] = after.durable[name] = copy
        elif item is not None:
            file = _File()
            lost = len(item.data) - item.synced
            kept = item.synced
            if chance is not None:
                kept += int(chance.fraction() * (lost + 1))
            file.data = item.data[:kept]
            file.synced = kept
            after.entries[name] = after.durable[name] = file


def _paths(directory: _Directory, prefix: str) -> Iterator[str]:
    for name, item in directory.entries.items():
        path = f"{prefix}/{name}"
        if isinstance(item, _Directory):
            yield from _paths(item, path)
        else:
            yield path
