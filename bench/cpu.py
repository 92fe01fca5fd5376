"""Processor time and memory of whole process groups, per process and per thread, from /proc.

Times are utime + stime in clock ticks of 10 ms: over a run of seconds the rounding is below 1 %.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

TICK_SECONDS = 1.0 / os.sysconf("SC_CLK_TCK")

MAIN = "main"
"""The main thread of the program itself; threads of its child processes never count as this."""

ENDED = "(ended threads)"
"""Time that a process used and none of its threads at the end of the run accounts for."""


@dataclass(frozen=True)
class ThreadTime:
    """One thread at one moment, or the time it used between two moments."""

    process: str
    name: str
    seconds: float
    main: bool


@dataclass(frozen=True)
class GroupSample:
    """One program with all its descendants at one moment."""

    process_seconds: Mapping[int, float]
    process_names: Mapping[int, str]
    threads: Mapping[tuple[int, int], ThreadTime]
    rss_bytes: int


@dataclass(frozen=True)
class GroupUse:
    """What one program used between two samples."""

    main_seconds: float
    total_seconds: float
    threads: list[ThreadTime] = field(default_factory=list)

    @property
    def other_seconds(self) -> float:
        """Everything that is not the program's main thread."""
        return max(0.0, self.total_seconds - self.main_seconds)

    def per_call(self, calls: int) -> dict[str, object]:
        """In microseconds per call; each thread on its own line, the busiest first."""
        microseconds = 1e6 / max(1, calls)
        return {
            "main_us": round(self.main_seconds * microseconds, 2),
            "other_us": round(self.other_seconds * microseconds, 2),
            "total_us": round(self.total_seconds * microseconds, 2),
            "threads": [
                {
                    "process": thread.process,
                    "name": thread.name,
                    "main": thread.main,
                    "us": round(thread.seconds * microseconds, 2),
                }
                for thread in sorted(self.threads, key=lambda thread: -thread.seconds)
                if thread.seconds > 0
            ],
        }


def sample(session: int) -> GroupSample:
    """Read the session that `session` leads: the program and everything it started."""
    process_seconds: dict[int, float] = {}
    process_names: dict[int, str] = {}
    threads: dict[tuple[int, int], ThreadTime] = {}
    rss_bytes = 0
    for pid in _members(session):
        stat = _read_stat(Path(f"/proc/{pid}/stat"))
        if stat is None:
            continue
        process_names[pid], process_seconds[pid], _ = stat
        rss_bytes += _rss_bytes(pid)
        for folder in _folders(Path(f"/proc/{pid}/task")):
            thread_stat = _read_stat(folder / "stat")
            if thread_stat is None:
                continue
            tid = int(folder.name)
            threads[pid, tid] = ThreadTime(
                process=process_names[pid],
                name=thread_stat[0],
                seconds=thread_stat[1],
                main=tid == pid == session,
            )
    return GroupSample(process_seconds, process_names, threads, rss_bytes)


def use_between(before: GroupSample, after: GroupSample) -> GroupUse:
    """The time used between two samples of one session."""
    used: list[ThreadTime] = []
    for key, thread in after.threads.items():
        earlier = before.threads.get(key)
        seconds = thread.seconds - (earlier.seconds if earlier else 0.0)
        used.append(ThreadTime(thread.process, thread.name, seconds, thread.main))

    for pid, seconds in after.process_seconds.items():
        process_used = seconds - before.process_seconds.get(pid, 0.0)
        known = sum(
            thread.seconds - (before.threads[key].seconds if key in before.threads else 0.0)
            for key, thread in after.threads.items()
            if key[0] == pid
        )
        # Each thread is rounded down on its own, so a few ticks are always missing.
        if process_used - known > (5 + len(used)) * TICK_SECONDS:
            used.append(ThreadTime(after.process_names[pid], ENDED, process_used - known, False))

    total = sum(
        seconds - before.process_seconds.get(pid, 0.0)
        for pid, seconds in after.process_seconds.items()
    )
    main = sum(thread.seconds for thread in used if thread.main)
    return GroupUse(main_seconds=main, total_seconds=total, threads=used)


def _members(session: int) -> Iterator[int]:
    for folder in _folders(Path("/proc")):
        stat = _read_stat(folder / "stat")
        if stat is not None and stat[2] == session:
            yield int(folder.name)


def _folders(parent: Path) -> list[Path]:
    try:
        return [entry for entry in parent.iterdir() if entry.name.isdigit()]
    except FileNotFoundError:
        return []


def _read_stat(path: Path) -> tuple[str, float, int] | None:
    """Name, seconds of processor time and session id; None when it has ended meanwhile."""
    try:
        text = path.read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name stands in brackets and may itself hold spaces and brackets.
    opening, closing = text.index("("), text.rindex(")")
    fields = text[closing + 2 :].split()
    ticks = int(fields[11]) + int(fields[12])
    return text[opening + 1 : closing], ticks * TICK_SECONDS, int(fields[3])


def _rss_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    for line in text.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
