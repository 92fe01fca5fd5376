"""One process of a local cluster: what it prints goes to a file, how it ended is known."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

LOG_BYTES_MAX: Final = 16 << 20
"""A log that is longer at a start is put aside as NAME.log.1, in place of the one before."""
_TAIL_BYTES: Final = 16 << 10
_CHILD: Final = f"{__package__}.child"


class ManagedProcess:
    """A `perdure` command that can be started again and again.

    Attributes:
        name: what it is called.
        log: the file that has what it printed.
        starts: how often it was started.
        asked: whether the latest start was told to end, by `terminate` or `kill`.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> None:
        """Nothing runs before `start`."""
        self.name = name
        self.log = log
        self.starts = 0
        self.asked = False
        self._arguments = list(arguments)
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        # Whoever takes the exit status, on any thread, gives the number back to the system: not
        # between a look at it and the signal to it.
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The number of the latest start; None before the first."""
        return None if self._process is None else self._process.pid

    @property
    def status(self) -> int | None:
        """How the latest start ended, as subprocess tells it; None while it runs."""
        with self._lock:
            return None if self._process is None else self._process.poll()

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self.status is None

    def start(self) -> None:
        """Start it; must not run already. On the main thread: it ends when its starter does."""
        assert not self.runs, self.name
        self._make_room()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", _CHILD, str(os.getpid()), *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                # Ctrl-C at the terminal is for the launcher, which ends all of them in order.
                start_new_session=True,
            )
        self.starts += 1
        self.asked = False

    def _make_room(self) -> None:
        try:
            if self.log.stat().st_size > LOG_BYTES_MAX:
                self.log.replace(self.log.with_name(f"{self.log.name}.1"))
        except FileNotFoundError:
            pass

    def terminate(self) -> None:
        """Ask it to end; fine when it has."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                self.asked = True
                self._process.terminate()

    def kill(self) -> None:
        """SIGKILL it and what it has started, and wait for the end; fine when it has ended."""
        with self._lock:
            process = self._process
            if process is not None and process.poll() is None:
                self.asked = True
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def ending(self) -> str:
        """How it ended, in words; empty while it runs or before it was started."""
        status = self.status
        if status is None:
            return ""
        return (
            f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        )

    def last_lines(self, count: int) -> list[str]:
        """The end of what it printed."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                return file.read().decode(errors="replace").splitlines()[-count:]
        except OSError:
            return []
