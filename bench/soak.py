"""Full load for a long time: ``python -m bench.soak --minutes 30``.

A node and a worker with all defaults under 64 connections of greet calls. Every ten seconds: calls,
bytes of the log's directory, resident memory. At the end: the most that the log ever took, and how
memory went over the second half of the run.
"""

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import cpu, install
from .command import exit_status
from .load import WORKLOADS, Settings, measure
from .paths import LOGS
from .processes import Programs
from .systems import Perdure

LOG_MIB_AIM = 512
CONNECTIONS = 64
SAMPLE_SECONDS = 10.0
MIB = 1024 * 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, and give 1 when the log grew beyond its aim or a call failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long the load lasts")
    parser.add_argument("--workload", choices=WORKLOADS, default="greet")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    return exit_status(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    install.require_wrk()
    install.require_proc()
    install.require_perdure()
    with Programs(LOGS) as programs:
        result = soak(programs, options.workload, options.minutes * 60)
    print(json.dumps(result, indent=1) if options.output == "json" else table(result))
    return 0 if result["log_mib_max"] <= LOG_MIB_AIM else 1


def soak(programs: Programs, workload: str, seconds: float) -> dict[str, Any]:
    """The samples and what they come to."""
    system = Perdure(programs, 1)
    samples: list[dict[str, float]] = []
    stop = threading.Event()

    def watch(started: float) -> None:
        while not stop.wait(SAMPLE_SECONDS):
            samples.append(sample(system, time.monotonic() - started))
            last = samples[-1]
            print(
                f"{last['seconds']:6.0f} s  log {last['log_mib']:6.0f} MiB  "
                f"node {last['node_mib']:5.0f} MiB  worker {last['worker_mib']:5.0f} MiB",
                file=sys.stderr,
            )

    try:
        system.start()
        watcher = threading.Thread(target=watch, args=(time.monotonic(),), daemon=True)
        watcher.start()
        settings = Settings(seconds, 0, 1, ("perdure",), (workload,), (CONNECTIONS,))
        run = measure(system, programs, workload, CONNECTIONS, settings)
        stop.set()
        watcher.join()
    finally:
        stop.set()
        system.stop()
    late = samples[len(samples) // 2 :]
    return {
        "workload": workload,
        "seconds": seconds,
        "requests_per_second": run["requests_per_second"],
        "latency_ms": run["latency_ms"],
        "log_mib_max": max(item["log_mib"] for item in samples),
        "log_mib_median": statistics.median(item["log_mib"] for item in samples),
        "node_mib_half_way": late[0]["node_mib"],
        "node_mib_end": late[-1]["node_mib"],
        "worker_mib_half_way": late[0]["worker_mib"],
        "worker_mib_end": late[-1]["worker_mib"],
        "samples": samples,
    }


def sample(system: Perdure, seconds: float) -> dict[str, float]:
    """Sizes at one moment, in MiB."""
    figures = {"seconds": round(seconds, 1), "log_mib": directory_bytes(system.log_dir) / MIB}
    for role, program in system.programs.items():
        figures[f"{role}_mib"] = cpu.sample(program.pid).rss_bytes / MIB
    return figures


def directory_bytes(path: Path) -> int:
    """What the files of a directory take on the disk; one that goes meanwhile counts as nothing."""
    total = 0
    for item in path.rglob("*"):
        try:
            total += item.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    return "\n".join(
        (
            f"{result['workload']}, {CONNECTIONS} connections, {result['seconds'] / 60:.0f} min: "
            f"{result['requests_per_second']:,.0f} calls/s, p99 {result['latency_ms']['p99']} ms",
            f"log on disk: at most {result['log_mib_max']:.0f} MiB (aim ≤ {LOG_MIB_AIM}), "
            f"median {result['log_mib_median']:.0f} MiB",
            f"memory of the node: {result['node_mib_half_way']:.0f} MiB half-way, "
            f"{result['node_mib_end']:.0f} MiB at the end",
            f"memory of the worker: {result['worker_mib_half_way']:.0f} MiB half-way, "
            f"{result['worker_mib_end']:.0f} MiB at the end",
        )
    )


if __name__ == "__main__":
    raise SystemExit(main())
