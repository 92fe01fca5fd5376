"""Starts programs in process groups of their own and stops every one of them on any exit."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from .errors import BenchError

STOP_SECONDS = 15.0
"""How long a program may take to stop when asked; then its group is killed."""

LOG_TAIL_LINES = 25

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH")
"""The only variables that a measured program gets from outside: settings of a shell (a proxy, a
log filter, PERDURE__… or RESTATE_…) must not make two runs differ."""


@dataclass(frozen=True)
class Program:
    """A running program: the leader of its own session, whose id is `pid`."""

    name: str
    pid: int
    log: Path
    popen: subprocess.Popen[bytes]

    def running(self) -> bool:
        """Whether the program itself is alive; its children are not asked."""
        return self.popen.poll() is None

    def log_tail(self) -> str:
        """The last lines that the program wrote, to stand under an error."""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        body = "\n".join(f"  | {line}" for line in lines) or "  | (nothing was written)"
        return f"the end of what {self.name} wrote:\n{body}"


class Programs:
    """All running programs of one benchmark run. Use as a context: leaving it stops them all."""

    def __init__(self, log_folder: Path) -> None:
        self._log_folder = log_folder
        self._running: list[Program] = []
        self._guard: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Programs":
        self._log_folder.mkdir(parents=True, exist_ok=True)
        guard_script = Path(__file__).with_name("guard.py")
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(guard_script)],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop_all()
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            self._guard.wait(timeout=STOP_SECONDS)

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
    ) -> Program:
        """Start a program with its output in a log file of its name."""
        log = self._log_folder / f"{name}.log"
        inherited = {key: os.environ[key] for key in INHERITED if key in os.environ}
        with log.open("wb") as output:
            popen = subprocess.Popen(
                [str(part) for part in command],
                cwd=cwd,
                env={**inherited, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        program = Program(name=name, pid=popen.pid, log=log, popen=popen)
        self._running.append(program)
        self._tell_guard(f"+{program.pid}")
        return program

    def run_to_end(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        cwd: Path,
        seconds: float,
        what: str,
        environment: Mapping[str, str] | None = None,
    ) -> str:
        """Start a program, wait until it has ended by itself, and return what it wrote."""
        program = self.start(name, command, cwd=cwd, environment=environment)
        try:
            status = program.popen.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{what} did not end within {seconds:.0f} s", where=what) from None
        finally:
            self.stop(program)
        if status != 0:
            raise BenchError(f"{what}: status {status}; {program.log_tail()}", where=what)
        return program.log.read_text(errors="replace")

    def stop(self, program: Program) -> None:
        """Ask the whole group to stop, wait, and kill what is left of it."""
        if program not in self._running:
            return
        _signal_group(program.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while _group_alive(program) and time.monotonic() < deadline:
            time.sleep(0.02)
        if _group_alive(program):
            print(f"warning: {program.name} did not stop and was killed", file=sys.stderr)
        # Also when all seems gone: a child that was just being made is caught by this.
        _signal_group(program.pid, signal.SIGKILL)
        program.popen.wait(timeout=STOP_SECONDS)
        self._running.remove(program)
        self._tell_guard(f"-{program.pid}")

    def stop_all(self) -> None:
        """Stop everything, the last started first, because clients start after their servers."""
        for program in reversed(self._running.copy()):
            self.stop(program)

    def _tell_guard(self, line: str) -> None:
        if self._guard is None or self._guard.stdin is None:
            raise BenchError("programs are started inside `with Programs(…)` only")
        print(line, file=self._guard.stdin, flush=True)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _group_alive(program: Program) -> bool:
    # The leader must be reaped by its parent, which is us, or its group would never be empty.
    program.popen.poll()
    try:
        os.killpg(program.pid, 0)
    except ProcessLookupError:
        return False
    return True


def run_tool(command: Sequence[str | Path], *, cwd: Path, seconds: float, what: str) -> str:
    """Run a short helper outside of any measurement and return what it printed."""
    popen = subprocess.Popen(
        [str(part) for part in command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = popen.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{what} did not end within {seconds:.0f} s", where=what) from None
    finally:
        if popen.poll() is None:
            _signal_group(popen.pid, signal.SIGKILL)
            popen.wait(timeout=STOP_SECONDS)
    if popen.returncode != 0:
        tail = "\n".join(f"  | {line}" for line in output.splitlines()[-LOG_TAIL_LINES:])
        raise BenchError(f"{what} failed with status {popen.returncode}:\n{tail}", where=what)
    return output


@contextlib.contextmanager
def signals_as_exit() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into an exit that unwinds, so that every `finally` runs."""

    def leave(number: int, frame: FrameType | None) -> None:
        # A second signal must not cut the cleaning short.
        signal.signal(number, signal.SIG_IGN)
        raise SystemExit(128 + number)

    previous = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
