"""Three nodes of each system under load: ``python -m bench.cluster``.

Perdure and the peer, three nodes of each on one machine, two copies of everything, one program with
the handlers. Each round starts both on empty folders, one after the other: wrk first has one
connection, to another node in each round, then 63, as many to each node.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from . import install, load, summary
from .command import exit_status, new_result, progress, save
from .errors import BenchError
from .load import Settings
from .node_groups import GROUPS, NODES, NodeGroup, port
from .paths import LOGS
from .processes import Programs
from .report import at, heading, resident, row

EXAMPLES = """examples:
  python -m bench.cluster                               both systems, about five minutes
  python -m bench.cluster --only perdure --rounds 1 --workload counter --seconds 5
"""
WORKLOADS = ("greet", "counter")
MANY = 63
"""The multiple of three next to the 64 connections of the measurement of one node."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; the status says whether it was measured, never how fast it was."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.cluster",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", choices=tuple(GROUPS), help="measure one system alone")
    parser.add_argument("--workload", choices=WORKLOADS, help="default: both")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement; default 5")
    parser.add_argument("--warmup", type=float, default=2.0, help="seconds before each; default 2")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.seconds < 1:
        parser.error("rounds and seconds start at 1")
    settings = Settings(
        seconds=options.seconds,
        warmup=options.warmup,
        rounds=options.rounds,
        systems=(options.only,) if options.only else tuple(GROUPS),
        workloads=(options.workload,) if options.workload else WORKLOADS,
        connections=(1, MANY),
    )
    return exit_status(lambda: _run(settings))


def _run(settings: Settings) -> int:
    install.require_wrk()
    install.require_proc()
    result = new_result(vars(settings), settings.systems) | {"rounds": []}
    with Programs(LOGS) as programs:
        for number in range(1, settings.rounds + 1):
            for name in settings.systems:
                result["rounds"].append(
                    _measure(GROUPS[name](programs), programs, number, settings)
                )
    result["summary"] = summary.summarise(result["rounds"])
    print(table(result))
    save(result, "cluster-")
    return 0


def _measure(
    group: NodeGroup, programs: Programs, number: int, settings: Settings
) -> dict[str, Any]:
    """One round of one system. Raises BenchError when a call fails."""
    label = f"round {number}/{settings.rounds}  {group.name:<8}"
    entry: dict[str, Any] = {"round": number, "system": group.name, "runs": []}
    try:
        progress(f"{label}start")
        group.start()
        group.check_answers()
        entry["leads"] = group.settle()
        alone = (port(NODES[(number - 1) % len(NODES)], 0),)
        for workload in settings.workloads:
            for connections in settings.connections:
                ports = alone if connections == 1 else tuple(port(node, 0) for node in NODES)
                run = load.measure(group, programs, workload, ports, connections, settings)
                entry["runs"].append(run)
                progress(
                    f"{label}{workload:<8}{connections:>3} conn. "
                    f"{run['requests_per_second']:>9.1f}/s  p50 {run['latency_ms']['p50']} ms"
                )
    except BenchError as error:
        tails = "\n".join(program.log_tail() for program in group.programs.values())
        raise BenchError(f"{error}\n{tails}", where=error.where) from None
    finally:
        group.stop()
    return entry


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    systems = result["summary"]
    ours, peer = systems.get("perdure"), systems.get("peer")
    settings, machine = result["settings"], result["environment"]
    lines = [
        f"{machine['cpu_model']}, {machine['cpu_cores']} cores; a small write is on disk after "
        f"{machine['disk_sync_ms']['p50']} ms (median)",
        f"three nodes; medians of {settings['rounds']} round(s); each measurement "
        f"{settings['seconds']:g} s after {settings['warmup']:g} s of warm-up; "
        "ratio = perdure / peer",
    ]
    for key in next(iter(systems.values()))["runs"]:
        lines += ["", *_section(key, ours and ours["runs"][key], peer and peer["runs"][key])]
    return "\n".join(lines)


def _section(key: str, ours: summary.Run | None, peer: summary.Run | None) -> list[str]:
    workload, connections = key.split()
    alone = connections == "1"
    lines = [heading(f"{workload}, {connections} connection{'' if alone else 's'}")]
    what = "requests_per_second"
    goal = None if alone else summary.CLUSTER_THROUGHPUT
    lines.append(row("requests/s", at(ours, what), at(peer, what), goal))
    for name in ("p50", "p90", "p99"):
        goal = summary.CLUSTER_MEDIAN_LATENCY if alone and name == "p50" else None
        values = at(ours, "latency_ms", name), at(peer, "latency_ms", name)
        lines.append(row(f"latency {name}, ms", *values, goal))
    lines.append(
        row(
            "CPU per call, all programs, µs",
            summary.total_cpu(ours) if ours else None,
            summary.total_cpu(peer) if peer else None,
        )
    )
    for role in (*(f"n{node}" for node in NODES), "app"):
        path = ("cpu_us_per_call", role, "total")
        lines.append(row(f"  {role}", at(ours, *path), at(peer, *path)))
    what = "wrk_cpu_us_per_call"
    lines.append(row("  wrk", at(ours, what), at(peer, what)))
    lines.append(row("resident at the end, MiB", resident(ours), resident(peer)))
    return lines


if __name__ == "__main__":
    sys.exit(main())
