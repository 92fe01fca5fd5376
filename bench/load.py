"""One measurement: warm up, run wrk, and see what each process and thread used meanwhile."""

import json
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from . import cpu
from .errors import BenchError
from .paths import ROOT
from .processes import Program, Programs

WORKLOADS = ("greet", "greet3", "counter")
CONNECTIONS = (1, 64)

WRK_SLACK_SECONDS = 20.0
"""What wrk may take beyond its duration before it counts as hung."""

CALL_TIMEOUT_SECONDS = 10
"""A call without an answer for so long is an error, and an error fails the run."""

SETTLE_SECONDS = 1.0
IDLE_SECONDS = 5.0

SUMMARY_MARK = "BENCH "
ERROR_COUNTS = ("connect_errors", "read_errors", "write_errors", "status_errors", "timeouts")


@dataclass(frozen=True)
class Settings:
    """How long, how often, what: the same for both systems."""

    seconds: float
    warmup: float
    rounds: int
    systems: tuple[str, ...]
    workloads: tuple[str, ...]
    connections: tuple[int, ...]


class Target(Protocol):
    """What is loaded and measured: a `System` or a `NodeGroup`."""

    name: str

    @property
    def programs(self) -> Mapping[str, Program]:
        """The programs whose use is measured, by their names in the report."""
        ...

    def require_alive(self) -> None:
        """Raise BenchError when one of them has ended by itself."""
        ...


def measure(
    system: Target,
    programs: Programs,
    workload: str,
    ports: Sequence[int],
    connections: int,
    settings: Settings,
) -> dict[str, Any]:
    """One workload at one number of connections, spread over the ports; raises when a call failed.

    Raises BenchError.
    """
    where = f"{system.name} {workload} at {connections} connections"
    if settings.warmup > 0:
        _run_wrk(programs, workload, ports, connections, settings.warmup, f"{where}, warm-up")

    before = {role: cpu.sample(program.pid) for role, program in system.programs.items()}
    wrk_before = _children_seconds()
    summary = _run_wrk(programs, workload, ports, connections, settings.seconds, where)
    wrk_seconds = _children_seconds() - wrk_before
    after = {role: cpu.sample(program.pid) for role, program in system.programs.items()}
    # A process that ended and one that is too slow look alike in wrk's figures.
    system.require_alive()

    calls = int(summary["requests"])
    return {
        "workload": workload,
        "connections": connections,
        "requests_per_second": round(calls / (summary["duration_us"] / 1e6), 1),
        "latency_ms": {
            name: round(summary[f"{name}_us"] / 1000, 3)
            for name in ("p50", "p90", "p99", "max", "mean")
        },
        "cpu_per_call": {
            role: cpu.use_between(before[role], after[role]).per_call(calls) for role in before
        },
        "wrk_cpu_per_call_us": round(wrk_seconds * 1e6 / max(1, calls), 2),
        "rss_mib": {role: _mib(after[role]) for role in after},
        "wrk": summary,
    }


def measure_idle(system: Target) -> dict[str, Any]:
    """What a system costs that has nothing to do, soon after its start."""
    time.sleep(SETTLE_SECONDS)
    before = {role: cpu.sample(program.pid) for role, program in system.programs.items()}
    started = time.monotonic()
    time.sleep(IDLE_SECONDS)
    seconds = time.monotonic() - started
    after = {role: cpu.sample(program.pid) for role, program in system.programs.items()}
    return {
        role: {
            "cpu_percent": round(
                100 * cpu.use_between(before[role], after[role]).total_seconds / seconds, 2
            ),
            "rss_mib": _mib(after[role]),
        }
        for role in before
    }


def wrk_command(
    ports: Sequence[int], workload: str, connections: int, seconds: float
) -> tuple[str, ...]:
    """One thread per port: it is enough for the load, and wrk must not compete on a small machine.

    Each port gets as many connections, so `connections` is a multiple of the ports. Several ports
    are given to the script by `wrk_environment`, as wrk itself takes one.
    """
    return (
        *("wrk", "--latency", "--threads", str(len(ports)), "--connections", str(connections)),
        *("--duration", f"{max(1, round(seconds))}s", "--timeout", f"{CALL_TIMEOUT_SECONDS}s"),
        *("--script", f"bench/wrk/{workload}.lua", f"http://127.0.0.1:{ports[0]}"),
    )


def wrk_environment(ports: Sequence[int]) -> dict[str, str]:
    """What the scripts have to know."""
    return {"BENCH_PORTS": " ".join(map(str, ports))}


def _run_wrk(
    programs: Programs,
    workload: str,
    ports: Sequence[int],
    connections: int,
    seconds: float,
    where: str,
) -> dict[str, Any]:
    output = programs.run_to_end(
        "wrk",
        wrk_command(ports, workload, connections, seconds),
        cwd=ROOT,
        seconds=seconds + WRK_SLACK_SECONDS,
        what=f"wrk, {where}",
        environment=wrk_environment(ports),
    )
    return _parse_summary(output, where)


def last_summary(output: str, where: str) -> dict[str, Any]:
    """The figures that a load generator printed last, behind the mark."""
    lines = [line for line in output.splitlines() if line.startswith(SUMMARY_MARK)]
    if not lines:
        raise BenchError(f"{where}: no summary was printed but:\n{output}", where=where)
    summary: dict[str, Any] = json.loads(lines[-1].removeprefix(SUMMARY_MARK))
    return summary


def _parse_summary(output: str, where: str) -> dict[str, Any]:
    summary = last_summary(output, where)
    failed = {name: summary[name] for name in ERROR_COUNTS if summary[name]}
    if failed:
        counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in failed.items())
        raise BenchError(
            f"{where}: {counts} beside {summary['requests']} answers", where=f"{where}: {counts}"
        )
    if not summary["requests"]:
        raise BenchError(f"{where}: no call was answered", where=where)
    return summary


def _children_seconds() -> float:
    # Counts children that have ended and were waited for: during a run that is wrk alone, because
    # the measured programs are still running.
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _mib(group: cpu.GroupSample) -> float:
    return round(group.rss_bytes / 2**20, 1)
