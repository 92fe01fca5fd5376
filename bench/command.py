"""What the commands share: one run at a time, exit statuses, and the file of raw data."""

import contextlib
import datetime
import fcntl
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from . import environment
from .errors import BenchError, MissingTool
from .paths import DATA, RESULTS, SCRATCH
from .processes import signals_as_exit
from .systems import SYSTEMS


def exit_status(run: Callable[[], int]) -> int:
    """The status of a run, alone in this working copy: its own, 1 for a failure, 2 for a lack."""
    try:
        with signals_as_exit(), one_run_at_a_time():
            return run()
    except MissingTool as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; everything that was started is stopped", file=sys.stderr)
        return 130


@contextlib.contextmanager
def one_run_at_a_time() -> Iterator[None]:
    """Hold the scratch folder: two runs would share ports, processor and data folders."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with (SCRATCH / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BenchError("another run is going on in this working copy") from None
        # Left by a run that was killed.
        shutil.rmtree(DATA, ignore_errors=True)
        DATA.mkdir()
        yield


def new_result(settings: dict[str, Any], systems: Sequence[str]) -> dict[str, Any]:
    """The head of a result: when, how, on what, and which versions."""
    started = datetime.datetime.now(datetime.UTC)
    return {
        "format": 1,
        "started": started.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "settings": settings,
        "environment": environment.describe(),
        "versions": {name: SYSTEMS[name].versions() for name in systems},
    }


def save(result: dict[str, Any], prefix: str = "") -> Path:
    """Write a result into its folder, named by when its run started, and say where it is."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{prefix}{result['started'].replace(':', '-')}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    progress(f"\nraw data: bench/results/{path.name}")
    return path


def progress(text: str) -> None:
    """Tell how far the run is, apart from its report."""
    print(text, file=sys.stderr, flush=True)
