"""A cluster under load while something happens to it: how long answers take.

Adds to counters are sent at a fixed rate over HTTP, to the nodes in turn, each under an idempotency
key. A try that is refused, or not answered within ``--patience``, is repeated at the next node; the
clock runs from when the add was due. Of three nodes, the one that leads the most partitions is
killed, paused or told to stop, and is back after some seconds. Or logs go on in new segments, one
after the other: of three nodes as they are (reconfigure); of a cluster of one node, on its own disk
and on its log-server in turn (swap).
"""

import argparse
import http.client
import itertools
import json
import signal
import statistics
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from . import summary
from .client import get, post
from .command import exit_status, new_result, progress, save
from .errors import BenchError
from .node_groups import ASK_SECONDS, GROUPS, NodeGroup, PerdureAlone, PerdureGroup, port
from .paths import LOGS
from .processes import Programs

EXAMPLES = """examples:
  python -m bench.failover                          both systems, SIGKILL, 60 s each
  python -m bench.failover --mode stop              a leader is told to stop
  python -m bench.failover --mode swap --seconds 30 logs change their provider
  python -m bench.failover --only perdure --mode pause --seconds 30 --patience 500 -o json
"""
KEYS = 100
THREADS = 400
WARM_UP_SECONDS = 10.0
GIVE_UP_SECONDS = 30.0
AROUND_SECONDS = 2.0
SIGNALS = {"kill": signal.SIGKILL, "pause": signal.SIGSTOP, "stop": signal.SIGTERM}
CHANGES: dict[str, tuple[type[PerdureGroup], tuple[str, ...]]] = {
    "reconfigure": (PerdureGroup, ("replicated",)),
    "swap": (PerdureAlone, ("local", "replicated")),
}
"""What is changed without anything ending: of which cluster, and the kinds that logs go on with."""

CHANGE_SECONDS = 0.05
"""Between two changes."""


@dataclass
class Answers:
    """What the clients saw."""

    waits: list[tuple[float, float]] = field(default_factory=list)
    """Of each answered add: when it was due and how long it took, both in seconds."""
    values: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    repeats: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    given_up: int = 0


class Client:
    """Sends adds; connections are kept per thread and node."""

    def __init__(self, nodes: Sequence[int], began: float, patience_seconds: float) -> None:
        self.answers = Answers()
        self._nodes = nodes
        self._began = began
        self._patience = patience_seconds
        self._kept: dict[tuple[int, int], http.client.HTTPConnection] = {}
        self._lock = threading.Lock()

    def add(self, number: int, due: float) -> None:
        """One add until it is answered or given up; `due` is in seconds of the run."""
        key = f"k{number % KEYS}"
        for node in itertools.islice(itertools.cycle(self._nodes), number % 3, None):
            status, body = self._try(node, key, f"{self._began}-{number}")
            now = time.monotonic() - self._began
            with self._lock:
                if status == "200":
                    self.answers.waits.append((due, now - due))
                    self.answers.values[key].append(int(body))
                    return
                self.answers.repeats[status] += 1
                if now - due > GIVE_UP_SECONDS:
                    self.answers.given_up += 1
                    return
            time.sleep(0.02)

    def _try(self, node: int, key: str, identity: str) -> tuple[str, bytes]:
        # By thread, so no two threads ever share a connection.
        mine = (threading.get_ident(), node)
        connection = self._kept.get(mine)
        if connection is None:
            connection = http.client.HTTPConnection(
                "127.0.0.1", port(node, 0), timeout=self._patience
            )
            self._kept[mine] = connection
        headers = {"content-type": "application/json", "idempotency-key": identity}
        try:
            connection.request("POST", f"/Counter/{key}/add", b"1", headers)
            response = connection.getresponse()
            return str(response.status), response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return type(error).__name__, b""


def measure(group: NodeGroup, options: argparse.Namespace) -> dict[str, Any]:
    """Load one cluster and have it lose a node; the figures."""
    leads = group.settle()
    victim = max(leads, key=lambda node: leads[node])
    began = time.monotonic()
    client = Client(group.numbers, began, options.patience / 1e3)
    changes: list[float] = []
    if options.mode in SIGNALS:
        disturber = threading.Thread(target=disturb, args=(group, victim, began, options))
    else:
        disturber = threading.Thread(target=change_logs, args=(changes, began, options))
    disturber.start()
    with ThreadPoolExecutor(THREADS) as pool:
        for number in range(int(options.seconds * options.rate)):
            due = number / options.rate
            time.sleep(max(0.0, began + due - time.monotonic()))
            pool.submit(client.add, number, due)
    disturber.join()
    answers = client.answers
    wrong = sum(
        sorted(values) != list(range(1, len(values) + 1)) for values in answers.values.values()
    )
    around = [item for item in answers.waits if abs(item[0] - options.at) <= AROUND_SECONDS]
    changed = {
        "changes": len(changes),
        "longest_change_ms": round(max(changes, default=0) * 1e3, 1),
    }
    return {
        "leads": leads,
        **({"victim": victim} if options.mode in SIGNALS else changed),
        "adds": int(options.seconds * options.rate),
        "answered": len(answers.waits),
        "given_up": answers.given_up,
        "counters_wrong": wrong,
        "repeats": dict(answers.repeats),
        "whole_run": figures(answers.waits),
        **({"around_the_fault": figures(around)} if options.mode in SIGNALS else {}),
        "worst": [
            {"due_s": round(due, 1), "ms": round(wait * 1e3)}
            for due, wait in sorted(answers.waits, key=lambda item: -item[1])[:10]
        ],
    }


def disturb(group: NodeGroup, victim: int, began: float, options: argparse.Namespace) -> None:
    """End or pause the victim when it is time, and bring it back."""
    time.sleep(max(0.0, began + options.at - time.monotonic()))
    group.signal(victim, SIGNALS[options.mode])
    back = time.monotonic() + options.down
    if options.mode != "pause":
        group.forget(victim)
    time.sleep(max(0.0, back - time.monotonic()))
    if options.mode == "pause":
        group.signal(victim, signal.SIGCONT)
    else:
        group.spawn(victim)


def change_logs(changes: list[float], began: float, options: argparse.Namespace) -> None:
    """From when it is time to the end, have one log after the other go on in a new segment.

    Adds how long each change took, in seconds. Raises BenchError when one is refused.
    """
    group, kinds = CHANGES[options.mode]
    leaders = {
        row["partition"]: node
        for node in group.numbers
        for row in json.loads(get(port(node, 2), "/partitions", seconds=ASK_SECONDS))["partitions"]
        if row["role"] == "leader"
    }
    time.sleep(max(0.0, began + options.at - time.monotonic()))
    for kind, log in itertools.cycle(itertools.product(kinds, sorted(leaders))):
        if time.monotonic() > began + options.seconds:
            return
        at = time.monotonic()
        path, door = f"/logs/{log}/reconfigure", port(leaders[log], 2)
        status, answer = post(door, path, {"provider": kind}, seconds=ASK_SECONDS)
        if status != 200:
            raise BenchError(f"log {log} does not go on with {kind}: {answer}", where=path)
        changes.append(time.monotonic() - at)
        time.sleep(CHANGE_SECONDS)


def figures(waits: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Median, 99th percentile and worst in milliseconds."""
    times = sorted(wait * 1e3 for _, wait in waits)
    if not times:
        return {}
    return {
        "median_ms": round(statistics.median(times), 1),
        "p99_ms": round(times[len(times) * 99 // 100], 1),
        "worst_ms": round(times[-1], 1),
    }


def verdicts(results: dict[str, Any], mode: str) -> list[str]:
    """What became of the aims."""
    whole = results.get("perdure", {}).get("whole_run")
    if not whole:
        return []
    return [
        f"{what}: {whole[what]} ms, aim {goal.aim:g}: {goal.verdict(whole[what])}"
        for what, goal in summary.FAILOVER_MS[mode].items()
    ]


def run(options: argparse.Namespace) -> int:
    """Measure each system in turn; 1 when an add was given up or counted wrongly."""
    groups = dict(GROUPS)
    if options.mode in CHANGES:
        groups = {PerdureGroup.name: CHANGES[options.mode][0]}
    names = [options.only] if options.only else list(groups)
    results: dict[str, Any] = {}
    result = new_result(vars(options), names) | {"systems": results}
    for name in names:
        with Programs(LOGS) as programs:
            group = groups[name](programs)
            try:
                progress(f"{name}: starting")
                group.start()
                for number in range(KEYS):  # Warm-up, on keys of its own.
                    node = group.numbers[number % len(group.numbers)]
                    post(
                        port(node, 0),
                        f"/Counter/w{number}/add",
                        1,
                        seconds=WARM_UP_SECONDS,
                    )
                results[name] = measure(group, options)
            finally:
                group.stop()
    if options.output == "json":
        print(json.dumps({"mode": options.mode, "systems": results}, indent=1))
    else:
        for name, figures_of in results.items():
            print(f"{name}, {options.mode}")
            for what, value in figures_of.items():
                print(f"  {what:18} {value}")
        for line in verdicts(results, options.mode):
            print(line)
    save(result, f"failover-{options.mode}-")
    failed = any(item["given_up"] or item["counters_wrong"] for item in results.values())
    return 1 if failed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.failover",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", choices=tuple(GROUPS))
    parser.add_argument("--mode", choices=(*SIGNALS, *CHANGES), default="kill")
    parser.add_argument("--seconds", type=float, default=60.0, help="of load")
    parser.add_argument("--rate", type=float, default=200.0, help="adds per second")
    parser.add_argument("--at", type=float, default=20.0, help="seconds until the fault")
    parser.add_argument("--down", type=float, default=5.0, help="seconds until the node is back")
    parser.add_argument(
        "--patience",
        type=float,
        default=1000.0,
        metavar="MS",
        help="how long a try waits for its answer before the next node is asked; default 1000",
    )
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    options = parser.parse_args(arguments)
    return exit_status(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
