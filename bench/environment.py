"""What a reader must know to judge the figures: processor, memory, disk, versions. No names of
machines and no paths, because results are published."""

import os
import platform
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from .paths import DATA, ROOT

SYNC_PROBES = 200
SYNC_PROBE_BYTES = 4096


def describe() -> dict[str, object]:
    """The machine as far as it matters, and the state of the working copy."""
    return {
        "cpu_model": _first_value(Path("/proc/cpuinfo"), "model name"),
        "cpu_cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "os": platform.system(),
        "kernel": _numbers(platform.release()),
        "disk_sync_ms": _disk_sync_ms(),
        "load_average_at_start": round(os.getloadavg()[0], 2),
        "wrk": _wrk_version(),
        "commit": _git("rev-parse", "--short=12", "HEAD"),
        "commit_is_clean": _git("status", "--porcelain", "--untracked-files=no") == "",
    }


def _disk_sync_ms() -> dict[str, float]:
    """How long a small write takes to reach the disk: it bounds what one connection can do."""
    DATA.mkdir(parents=True, exist_ok=True)
    times: list[float] = []
    with tempfile.NamedTemporaryFile(dir=DATA) as file:
        for _ in range(SYNC_PROBES):
            os.write(file.fileno(), b"\0" * SYNC_PROBE_BYTES)
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - started) * 1000)
    times.sort()
    return {
        "p50": round(statistics.median(times), 3),
        "p99": round(times[int(len(times) * 0.99)], 3),
    }


def _first_value(path: Path, key: str) -> str:
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return platform.machine()


def _numbers(release: str) -> str:
    # What a vendor appends to the kernel's version may name the machine's owner.
    match = re.match(r"\d+(\.\d+)*", release)
    return match.group() if match else ""


def _wrk_version() -> str:
    # Its status is 1 even for this; the first line is "wrk VERSION [epoll] Copyright …".
    program = shutil.which("wrk")
    if program is None:
        return ""
    output = subprocess.run(
        (program, "-v"), capture_output=True, text=True, timeout=10, check=False
    )
    words = (output.stdout + output.stderr).split()
    return words[1] if len(words) > 1 else ""


def _git(*arguments: str) -> str:
    try:
        output = subprocess.run(
            ("git", *arguments), cwd=ROOT, capture_output=True, text=True, timeout=10, check=False
        )
    except FileNotFoundError:
        return ""
    return output.stdout.strip()
