"""What an app is made of on disk, and whether it has changed."""

import os
from pathlib import Path
from typing import Final, TypeAlias

FILES_MAX: Final = 2_000
"""So many files are looked at; an app in a huge directory is not followed in all of it."""
ENTRIES_MAX: Final = 20_000
_SKIPPED: Final = frozenset(("__pycache__", "node_modules", "site-packages"))
_ENVIRONMENT: Final = "pyvenv.cfg"

Snapshot: TypeAlias = dict[str, tuple[int, int]]
"""Path to time of the last change, in ns, and size."""


def take_snapshot(app: Path) -> Snapshot:
    """Every Python file in the app's directory and below, the nearest first up to FILES_MAX."""
    found: Snapshot = {}
    _note(found, str(app))
    directories = [str(app.parent)]
    looked_at = 0
    while directories:
        deeper: list[str] = []
        for directory in directories:
            try:
                entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
            except OSError:
                continue  # Gone, or not for us to see.
            if any(entry.name == _ENVIRONMENT for entry in entries):
                continue
            for entry in entries:
                looked_at += 1
                if len(found) >= FILES_MAX or looked_at > ENTRIES_MAX:
                    return found
                if entry.name.startswith(".") or entry.name in _SKIPPED:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    deeper.append(entry.path)
                elif entry.name.endswith(".py"):
                    _note(found, entry.path)
        directories = deeper
    return found


def changed(before: Snapshot, after: Snapshot) -> list[str]:
    """The files that are new, gone or different, sorted."""
    return sorted(
        path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
    )


def _note(found: Snapshot, path: str) -> None:
    try:
        status = os.stat(path)
    except OSError:
        return  # An editor is just replacing it.
    found[path] = (status.st_mtime_ns, status.st_size)
