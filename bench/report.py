"""The table on the terminal: absolute figures, ratios, and the aims and floors beside them."""

from typing import Any

from . import summary
from .summary import Goal, Run

WIDTHS = (34, 12, 12, 9, 7, 7)
HEADINGS = ("perdure", "peer", "ratio", "aim", "floor")

THREADS_SHOWN_FROM_US = 1.0
"""Threads below this cost per call are in the raw data only."""


def table(result: dict[str, Any]) -> str:
    """The whole report of a run."""
    systems: Run = result["summary"]
    ours, peer = systems.get("perdure"), systems.get("peer")
    settings, machine = result["settings"], result["environment"]
    lines = [
        f"{machine['cpu_model']}, {machine['cpu_cores']} cores; a small write is on disk after "
        f"{machine['disk_sync_ms']['p50']} ms (median)",
        f"medians of {settings['rounds']} round(s); each measurement {settings['seconds']:g} s "
        f"after {settings['warmup']:g} s of warm-up; ratio = perdure / peer",
    ]
    keys = dict.fromkeys(key for system in systems.values() for key in system["runs"])
    for key in keys:
        lines += ["", *_section(key, _run(ours, key), _run(peer, key))]
    lines += ["", *_start_and_idle(ours, peer)]
    for failure in result["failures"]:
        lines += ["", f"FAILED: {failure}"]
    return "\n".join(lines)


def _section(key: str, ours: Run | None, peer: Run | None) -> list[str]:
    workload, connections = key.split()
    rate_goal = summary.THROUGHPUT_AT_64.get(workload) if connections == "64" else None
    median_goal = summary.MEDIAN_LATENCY_AT_1.get(workload) if connections == "1" else None
    lines = [
        heading(f"{workload}, {connections} connection{'s' if connections != '1' else ''}"),
        row(
            "requests/s",
            at(ours, "requests_per_second"),
            at(peer, "requests_per_second"),
            rate_goal,
        ),
    ]
    lines += [
        row(
            f"latency {name}, ms",
            at(ours, "latency_ms", name),
            at(peer, "latency_ms", name),
            median_goal if name == "p50" else None,
        )
        for name in ("p50", "p90", "p99")
    ]
    lines.append(
        row(
            "CPU per call, all programs, µs",
            summary.total_cpu(ours) if ours else None,
            summary.total_cpu(peer) if peer else None,
        )
    )
    for role in ("node", "worker"):
        lines += _own_cpu_rows(role, ours)
    for role in ("server", "app") if peer else ():
        lines.append(row(f"  {role}", None, at(peer, "cpu_us_per_call", role, "total")))
    lines.append(row("  wrk", at(ours, "wrk_cpu_us_per_call"), at(peer, "wrk_cpu_us_per_call")))
    lines.append(row("resident at the end, MiB", resident(ours), resident(peer)))
    return lines


def _own_cpu_rows(role: str, run: Run | None) -> list[str]:
    if run is None:
        return []
    use = run["cpu_us_per_call"][role]
    lines = [
        row(f"  {role}, main thread", use["main"], None),
        row(f"  {role}, other threads", use["other"], None),
    ]
    lines += [
        row(f"    {name}", microseconds, None)
        for name, microseconds in use["threads"].items()
        if microseconds >= THREADS_SHOWN_FROM_US
    ]
    return lines


def _start_and_idle(ours: Run | None, peer: Run | None) -> list[str]:
    lines = [
        heading("start and idle", ratio=False),
        row(
            "start to first answer, s",
            at(ours, "start_seconds"),
            at(peer, "start_seconds"),
            summary.START_SECONDS,
            absolute=True,
        ),
    ]
    for label, key, goal in (
        ("idle resident, MiB", "rss_mib", summary.IDLE_RSS_MIB),
        ("idle CPU, % of a core", "cpu_percent", summary.IDLE_CPU_PERCENT),
    ):
        lines.append(
            row(
                label,
                at(ours, "idle", "together", key),
                at(peer, "idle", "together", key),
                goal,
                absolute=True,
            )
        )
        lines += [
            row(f"  {role}", values[key], None)
            for role, values in (ours["idle"] if ours else {}).items()
            if role != "together"
        ]
    return lines


def heading(title: str, *, ratio: bool = True) -> str:
    """The line over a group of rows."""
    headings = tuple(name if ratio or name != "ratio" else "" for name in HEADINGS)
    first = f"{title:<{WIDTHS[0]}}"
    return first + "".join(
        f"{name:>{width}}" for name, width in zip(headings, WIDTHS[1:], strict=True)
    )


def row(
    label: str,
    ours: float | None,
    peer: float | None,
    goal: Goal | None = None,
    *,
    absolute: bool = False,
) -> str:
    """One line; the goal is for the ratio, or for Perdure's own figure when `absolute`."""
    ratio = ours / peer if ours is not None and peer and not absolute else None
    judged = ours if absolute else ratio
    unit = "" if absolute else "x"
    cells = (
        _number(ours),
        _number(peer),
        f"{ratio:.2f}x" if ratio is not None else "",
        f"{goal.aim:g}{unit}" if goal else "",
        f"{goal.floor:g}{unit}" if goal and goal.floor is not None else "",
    )
    line = f"{label:<{WIDTHS[0]}}" + "".join(
        f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS[1:], strict=True)
    )
    if goal is not None and judged is not None:
        line += f"  {goal.verdict(judged)}"
    return line.rstrip()


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if value >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}"


def _run(system: Run | None, key: str) -> Run | None:
    return system["runs"].get(key) if system else None


def resident(run: Run | None) -> float | None:
    """The memory of all programs of a system at the end of a run, MiB."""
    return sum(run["rss_mib"].values()) if run else None


def at(data: Run | None, *path: str) -> float | None:
    """The figure at a path, or None where a run or a part of it is missing."""
    value: Any = data
    for key in path:
        if not value:
            return None
        value = value.get(key)
    return None if value is None else float(value)
