"""From the rounds of a run to one figure each: medians, ratios, and the distance to the aims."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Run = dict[str, Any]


@dataclass(frozen=True)
class Goal:
    """What is worked towards (aim) and what must hold (floor, where there is one)."""

    aim: float
    floor: float | None
    more_is_better: bool

    def verdict(self, value: float) -> str:
        """In words, because a table is read from its last column."""
        if self._reached(value, self.aim):
            return "aim met"
        if self.floor is None:
            return "AIM MISSED"
        return "floor met" if self._reached(value, self.floor) else "BELOW FLOOR"

    def _reached(self, value: float, goal: float) -> bool:
        return value >= goal if self.more_is_better else value <= goal


THROUGHPUT_AT_64 = {
    "greet": Goal(aim=8.0, floor=4.0, more_is_better=True),
    "greet3": Goal(aim=10.0, floor=4.0, more_is_better=True),
    "counter": Goal(aim=8.0, floor=4.0, more_is_better=True),
}
MEDIAN_LATENCY_AT_1 = {
    "greet": Goal(aim=0.45, floor=0.6, more_is_better=False),
    "counter": Goal(aim=0.45, floor=0.6, more_is_better=False),
}
CLUSTER_THROUGHPUT = Goal(aim=5.0, floor=2.5, more_is_better=True)
CLUSTER_MEDIAN_LATENCY = Goal(aim=0.35, floor=0.6, more_is_better=False)
FAILOVER_MS = {
    "kill": {
        "worst_ms": Goal(aim=1000.0, floor=2000.0, more_is_better=False),
        "p99_ms": Goal(aim=300.0, floor=None, more_is_better=False),
    },
    "pause": {"worst_ms": Goal(aim=4000.0, floor=None, more_is_better=False)},
    "stop": {"worst_ms": Goal(aim=300.0, floor=None, more_is_better=False)},
    "reconfigure": {"worst_ms": Goal(aim=300.0, floor=None, more_is_better=False)},
    "swap": {"worst_ms": Goal(aim=300.0, floor=None, more_is_better=False)},
}
"""By what happens to the cluster; of the whole run."""
SESSION_BESIDE_HTTP = Goal(aim=0.8, floor=None, more_is_better=True)
SLEEPERS_NODE_MIB = Goal(aim=1024.0, floor=None, more_is_better=False)
SLEEPERS_LATE_MS = Goal(aim=1000.0, floor=None, more_is_better=False)
WORK_BESIDE_SLEEPERS = Goal(aim=0.8, floor=None, more_is_better=True)
START_SECONDS = Goal(aim=1.5, floor=None, more_is_better=False)
IDLE_RSS_MIB = Goal(aim=150.0, floor=None, more_is_better=False)
IDLE_CPU_PERCENT = Goal(aim=1.0, floor=None, more_is_better=False)


def median_run(runs: list[Run]) -> Run:
    """One run made of the medians of several alike; threads are added up by name."""
    roles = runs[0]["cpu_per_call"]
    return {
        "rounds": len(runs),
        "requests_per_second": _median(run["requests_per_second"] for run in runs),
        "latency_ms": {
            name: _median(run["latency_ms"][name] for run in runs) for name in ("p50", "p90", "p99")
        },
        "cpu_us_per_call": {
            role: {
                part: _median(run["cpu_per_call"][role][f"{part}_us"] for run in runs)
                for part in ("main", "other", "total")
            }
            | {"threads": _threads_by_name([run["cpu_per_call"][role] for run in runs])}
            for role in roles
        },
        "wrk_cpu_us_per_call": _median(run["wrk_cpu_per_call_us"] for run in runs),
        "rss_mib": {role: _median(run["rss_mib"][role] for run in runs) for role in roles},
    }


def median_idle(rounds: list[Run]) -> Run:
    """Idle cost per program and for all programs of the system together."""
    idles = [entry["idle"] for entry in rounds if entry.get("idle")]
    if not idles:
        return {}
    roles = {
        role: {
            key: _median(idle[role][key] for idle in idles) for key in ("cpu_percent", "rss_mib")
        }
        for role in idles[0]
    }
    together = {
        key: round(sum(values[key] for values in roles.values()), 2)
        for key in ("cpu_percent", "rss_mib")
    }
    return roles | {"together": together}


def summarise(rounds: list[Run]) -> Run:
    """Per system: start, idle, and one median run per workload and number of connections."""
    systems: Run = {}
    for name in dict.fromkeys(entry["system"] for entry in rounds):
        own = [entry for entry in rounds if entry["system"] == name]
        starts = [entry["start_seconds"] for entry in own if "start_seconds" in entry]
        alike: dict[str, list[Run]] = {}
        for entry in own:
            for run in entry["runs"]:
                key = f"{run['workload']} {run['connections']}"
                alike.setdefault(key, []).append(run)
        systems[name] = {
            "start_seconds": _median(starts) if starts else None,
            "idle": median_idle(own),
            "runs": {key: median_run(runs) for key, runs in alike.items()},
        }
    return systems


def total_cpu(run: Run) -> float:
    """All programs of a system, without the load generator."""
    return sum(float(role["total"]) for role in run["cpu_us_per_call"].values())


def _threads_by_name(groups: list[Run]) -> dict[str, float]:
    # Threads of one name are alike (a pool); the main thread has a row of its own already.
    sums: dict[str, list[float]] = {}
    for index, group in enumerate(groups):
        for thread in group["threads"]:
            if not thread["main"]:
                values = sums.setdefault(thread["name"], [0.0] * len(groups))
                values[index] += thread["us"]
    medians = {name: _median(values) for name, values in sums.items()}
    return dict(sorted(medians.items(), key=lambda item: -item[1]))


def _median(values: Iterable[float]) -> float:
    return round(statistics.median(values), 3)
