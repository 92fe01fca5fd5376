"""Processes of Perdure in groups of their own, with what they wrote kept in files."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

WAIT_SECONDS_MAX = 120.0
"""Bound on every wait; generous, because a busy machine is no failure."""
POLL_SECONDS = 0.01
TAIL_LINES = 40


def perdure_command() -> list[str]:
    """How to start the ``perdure`` that this Python has: its console script, else its module."""
    script = Path(sys.executable).with_name("perdure")
    return [str(script)] if script.exists() else [sys.executable, "-m", "perdure.admin.cli.main"]


def clean_environment() -> dict[str, str]:
    """Ours, without what somebody has set for a node of their own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PERDURE_")}


def wait_until(what: str, done: Callable[[], bool], seconds: float = WAIT_SECONDS_MAX) -> None:
    """Ask until the answer is yes. Raises AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(POLL_SECONDS)


class Finished:
    """What a process that has ended left behind."""

    def __init__(self, status: int, stdout: str, stderr: str) -> None:
        """Take exit status and output."""
        self.status = status
        self.stdout = stdout
        self.stderr = stderr

    def __repr__(self) -> str:
        """Everything, for the text of a failed assertion."""
        return f"status {self.status}\nstdout:\n{self.stdout}\nstderr:\n{self.stderr}"


def run_perdure(
    *arguments: str, stdin: str | None = None, environment: Mapping[str, str] | None = None
) -> Finished:
    """Run one command to its end and give what it left."""
    process = subprocess.Popen(
        [*perdure_command(), *arguments],
        stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment() | dict(environment or {}),
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(stdin, timeout=WAIT_SECONDS_MAX)
    except BaseException:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return Finished(process.returncode, stdout, stderr)


class Process:
    """One process and everything it starts; its output goes to ``NAME.out`` and ``NAME.err``."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        directory: Path,
        *,
        in_child: Callable[[], None] | None = None,
        program: Sequence[str] | None = None,
    ) -> None:
        """Start ``perdure`` with these arguments.

        Args:
            program: in its place.
            in_child: called in the new process before it becomes ``perdure``.
        """
        self.name = name
        self.arguments = [*(program or perdure_command()), *arguments]
        self.stdout_path = directory / f"{name}.out"
        self.stderr_path = directory / f"{name}.err"
        # A process of the same name goes on in the same files; what it wrote starts here.
        self._stderr_start = self.stderr_path.stat().st_size if self.stderr_path.exists() else 0
        self.started = time.monotonic()
        with self.stdout_path.open("ab") as stdout, self.stderr_path.open("ab") as stderr:
            self._popen = subprocess.Popen(
                self.arguments,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=clean_environment(),
                start_new_session=True,
                preexec_fn=in_child,
            )

    @property
    def pid(self) -> int:
        """The process's number, also that of its group."""
        return self._popen.pid

    @property
    def status(self) -> int | None:
        """The exit status, None while it runs."""
        return self._popen.poll()

    @property
    def stderr(self) -> str:
        """What this process has written to stderr."""
        with self.stderr_path.open("rb") as file:
            file.seek(self._stderr_start)
            return file.read().decode(errors="replace")

    def kill(self) -> None:
        """SIGKILL the whole group; fine when it has ended already."""
        # Once the exit status was taken, the number may be that of somebody else's group.
        if self._popen.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait(WAIT_SECONDS_MAX)

    def terminate(self) -> None:
        """Send SIGTERM and do not wait."""
        self._popen.send_signal(signal.SIGTERM)

    def signal(self, number: int) -> None:
        """Send any signal and do not wait."""
        self._popen.send_signal(number)

    def wait(self, seconds: float = WAIT_SECONDS_MAX) -> int:
        """Wait for the end and give the exit status. Raises AssertionError when none comes."""
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {seconds:g} s") from None

    def stop(self) -> int:
        """SIGTERM, wait, exit status."""
        self.terminate()
        return self.wait()

    def wait_for_line(self, text: str) -> None:
        """Wait until the process has written `text` to stderr."""
        wait_until(f"{self.name} to say {text!r}", lambda: text in self.stderr)

    def finished(self) -> Finished:
        """Wait for the end and give what the process left."""
        status = self.wait()
        return Finished(status, self.stdout_path.read_text(errors="replace"), self.stderr)

    def tail(self) -> str:
        """The ends of both files."""
        parts = [f"--- {self.name} (pid {self.pid}, exit status {self.status})"]
        for path in (self.stdout_path, self.stderr_path):
            lines = path.read_text(errors="replace").splitlines()
            parts += [f"{path.name}: {line}" for line in lines[-TAIL_LINES:]]
        return "\n".join(parts)

    def resident_bytes(self) -> int:
        """Resident memory; 0 where the system does not tell."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except OSError:
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self) -> float:
        """User and system time so far; 0 where the system does not tell."""
        try:
            text = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return 0.0
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
