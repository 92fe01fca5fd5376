"""Very many sleeping invocations: ``python -m bench.sleepers --count 1000000 --spread 600``.

Starts the sleepers over one gRPC session, each due at a time drawn evenly from the spread; when all
are suspended and the node rests, greets there and on an empty node, in turn; waits until all have
woken. Each tells how late its handler went on. The memory of node and worker is looked at every
second.
"""

import argparse
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from . import cpu, install, load
from .client import invocations_by_status
from .command import exit_status, new_result, progress, save
from .errors import BenchError
from .paths import LOGS
from .processes import Programs
from .session_client import run_sends
from .summary import SLEEPERS_LATE_MS, SLEEPERS_NODE_MIB, WORK_BESIDE_SLEEPERS
from .systems import PORT_BASE, Perdure

CONNECTIONS = 64
ACTIVE_MAX_DEFAULT = 250_000
"""Of the node, per partition; it is raised only where there are more sleepers."""

TRIAL_SHARE, TRIAL_MIN, TRIAL_MAX = 0.02, 5_000, 20_000
MARGIN_FACTOR = 1.25
"""The store grows while the sleepers come, so they may come more slowly than those of the trial,
though these also wake and end."""

MARGIN_SPARE_SECONDS = 10.0
REST_SECONDS = 3.0
REST_MAX_SECONDS = 60.0
REST_CPU_SHARE = 0.1
"""The node rests when it takes less of a core. Until then it compacts what the sleepers brought,
which would slow the empty node down as well and so make the comparison look better than it is."""

LATE_MAX_SECONDS = 120.0
"""Whoever has not woken so long after the last one was due counts as lost, and the run failed."""

POLL_SECONDS = 1.0
SAMPLES_KEPT_EVERY = 10
MIB = 1024 * 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; the status says whether it was measured, whatever the figures are."""
    parser = argparse.ArgumentParser(prog="python -m bench.sleepers", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000, help="sleepers")
    parser.add_argument(
        "--spread", type=float, default=600.0, help="seconds over which they are due"
    )
    parser.add_argument(
        "--margin",
        type=float,
        help="seconds from the first start until the first is due; default: from a short trial",
    )
    parser.add_argument("--in-flight", type=int, default=2048, help="starts under way at once")
    parser.add_argument("--rounds", type=int, default=6, help="loads of greet on each node")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load of greet")
    parser.add_argument("--warmup", type=float, default=1.0, help="seconds before each load")
    options = parser.parse_args(arguments)
    counts = (options.count, options.spread, options.seconds, options.in_flight, options.rounds)
    if min(counts) < 1:
        parser.error("count, spread, rounds, seconds and starts in flight begin at 1")
    return exit_status(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    install.require_wrk()
    install.require_proc()
    install.require_perdure()
    set_on_node = {"limits.active_max_per_partition": max(options.count, ACTIVE_MAX_DEFAULT)}
    result = new_result(vars(options) | {"set_on_node": set_on_node}, ("perdure",))
    with Programs(LOGS) as programs:
        system = Perdure(programs, 1, app="sleepers_app.py", options=set_on_node)
        empty = Perdure(
            programs, 2, app="sleepers_app.py", options=set_on_node, first_port=PORT_BASE + 5
        )
        try:
            system.start()
            empty.start()
            result |= Sleepers(system, empty, programs, options).run()
        except BenchError as error:
            tails = f"{system.log_tails()}\n{empty.log_tails()}"
            raise BenchError(f"{error}\n{tails}", where=error.where) from None
        finally:
            system.stop()
            empty.stop()
    print(table(result))
    save(result, "sleepers-")
    return 0


class Sleepers:
    """One run on a system that has just been started, beside another that stays empty."""

    def __init__(
        self, system: Perdure, empty: Perdure, programs: Programs, options: argparse.Namespace
    ) -> None:
        self._system = system
        self._empty = empty
        self._programs = programs
        self._options = options
        self._started = time.monotonic()
        self._samples: list[dict[str, float]] = []

    def run(self) -> dict[str, Any]:
        """All steps, in order. Raises BenchError where one fails."""
        options = self._options
        with self._memory_watched():
            margin = options.margin or self._margin()
            first_ms = int((time.time() + margin) * 1000)
            starts = self._start_all(first_ms, margin)
            progress(f"{options.count} started at {starts['requests_per_second']:.0f}/s")
            self._wait_until_asleep(first_ms)
            asleep_sample = self._samples[-1]
            rested = self._wait_until_rested()
            empty, beside = self._greet_in_turn()
            if time.time() * 1000 > first_ms:
                raise self._margin_too_short("greet was still being measured")
            lateness = self._wait_until_woken(first_ms)
        return {
            "margin_seconds": round(margin, 1),
            "starts": starts,
            "rested_after_seconds": round(rested, 1),
            "greet_empty": empty,
            "greet_beside": beside,
            "lateness_ms": figures_of(lateness),
            "memory_mib": {
                "node_max": max(sample["node"] for sample in self._samples),
                "worker_max": max(sample["worker"] for sample in self._samples),
                "node_asleep": asleep_sample["node"],
                "worker_asleep": asleep_sample["worker"],
                "samples": self._samples[::SAMPLES_KEPT_EVERY],
            },
        }

    def _greet_in_turn(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """On the empty node and beside the sleepers; who is first changes from round to round."""
        empty: list[dict[str, Any]] = []
        beside: list[dict[str, Any]] = []
        for number in range(self._options.rounds):
            both = [(self._empty, empty), (self._system, beside)]
            for system, runs in both if number % 2 == 0 else reversed(both):
                runs.append(self._greet(system))
            progress(f"greet: {rate_of(empty[-1:]):.0f}/s empty, {rate_of(beside[-1:]):.0f} beside")
        return empty, beside

    def _greet(self, system: Perdure) -> dict[str, Any]:
        options = self._options
        settings = load.Settings(
            options.seconds, options.warmup, 1, ("perdure",), ("greet",), (CONNECTIONS,)
        )
        ports = (system.ingress_port,)
        return load.measure(system, self._programs, "greet", ports, CONNECTIONS, settings)

    def _greet_seconds(self) -> float:
        options = self._options
        # A load begins and ends by starting a process, a second is generous.
        return float(2 * options.rounds * (options.seconds + options.warmup + 1))

    def _wait_until_rested(self) -> float:
        """How long it took, in seconds. Goes on after a minute also where the node works still."""
        node = self._system.programs["node"].pid
        started = time.monotonic()
        while time.monotonic() - started < REST_MAX_SECONDS:
            before = cpu.sample(node)
            time.sleep(REST_SECONDS)
            used = cpu.use_between(before, cpu.sample(node)).total_seconds
            if used < REST_CPU_SHARE * REST_SECONDS:
                break
        progress(f"the node rests: {used / REST_SECONDS:.0%} of a core")
        return time.monotonic() - started

    def _margin(self) -> float:
        """Seconds to let pass before the first is due: starts, suspensions, and greet again."""
        options = self._options
        count = min(max(int(options.count * TRIAL_SHARE), TRIAL_MIN), TRIAL_MAX)
        starts = run_sends(
            self._system,
            self._programs,
            "doze",
            count=count,
            in_flight=options.in_flight,
            due_ms=int(time.time() * 1000),
            spread_ms=1,
            seconds=60.0,
        )
        started = time.monotonic()
        while self._not_completed() and time.monotonic() - started < 120:
            time.sleep(0.1)
        rate = count / (starts["seconds"] + time.monotonic() - started)
        margin = MARGIN_FACTOR * options.count / rate
        margin += self._greet_seconds() + REST_MAX_SECONDS + MARGIN_SPARE_SECONDS
        progress(f"trial: {rate:.0f}/s; the first sleeper is due {margin:.0f} s from now")
        return margin

    def _start_all(self, first_ms: int, margin: float) -> dict[str, Any]:
        options = self._options
        return run_sends(
            self._system,
            self._programs,
            "nap",
            count=options.count,
            in_flight=options.in_flight,
            due_ms=first_ms,
            spread_ms=int(options.spread * 1000),
            seconds=margin,
        )

    def _wait_until_asleep(self, first_ms: int) -> None:
        until = first_ms / 1000 - self._greet_seconds()
        while (asleep := self._statuses().get("suspended", 0)) < self._options.count:
            self._system.require_alive()
            if time.time() > until:
                raise self._margin_too_short(f"{asleep} were asleep")
            time.sleep(POLL_SECONDS)

    def _wait_until_woken(self, first_ms: int) -> dict[int, int]:
        """How many naps ended so many milliseconds late."""
        count, file = self._options.count, self._system.worker_dir / "naps.json"
        last = first_ms / 1000 + self._options.spread
        progress(f"all asleep; the last is due {last - time.time():.0f} s from now")
        while True:
            self._system.require_alive()
            lateness: dict[int, int] = {}
            if file.exists():
                lateness = {int(ms): naps for ms, naps in json.loads(file.read_text()).items()}
            woken = sum(lateness.values())
            if woken >= count:
                return lateness
            if time.time() > last + LATE_MAX_SECONDS:
                what = f"{count - woken} of {count} sleepers have not woken"
                raise BenchError(f"{what} {LATE_MAX_SECONDS:.0f} s after the last was due", what)
            time.sleep(POLL_SECONDS)

    def _statuses(self) -> dict[str, int]:
        return invocations_by_status(self._system.admin_port, seconds=30)

    def _not_completed(self) -> int:
        return sum(count for status, count in self._statuses().items() if status != "completed")

    def _margin_too_short(self, what: str) -> BenchError:
        return BenchError(
            f"{what} when the first sleeper was due: give them more time with --margin",
            where="margin",
        )

    @contextmanager
    def _memory_watched(self) -> Iterator[None]:
        stop = threading.Event()

        def watch() -> None:
            while True:
                sample = {"seconds": round(time.monotonic() - self._started, 1)}
                for role, program in self._system.programs.items():
                    sample[role] = round(cpu.sample(program.pid).rss_bytes / MIB, 1)
                self._samples.append(sample)
                if stop.wait(POLL_SECONDS):
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()


def rate_of(runs: Sequence[dict[str, Any]]) -> float:
    """Answers per second over all the runs together."""
    return sum(run["requests_per_second"] for run in runs) / len(runs)


def figures_of(lateness: dict[int, int]) -> dict[str, float]:
    """Percentiles of a histogram; `before` counts those that woke early, `min` says how early."""
    total = sum(lateness.values())
    wanted = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
    figures: dict[str, float] = {"min": min(lateness)}
    seen = 0
    for ms in sorted(lateness):
        seen += lateness[ms]
        for name, share in wanted.items():
            if name not in figures and seen >= share * total:
                figures[name] = ms
    over = sum(naps for ms, naps in lateness.items() if ms > SLEEPERS_LATE_MS.aim)
    before = sum(naps for ms, naps in lateness.items() if ms < 0)
    return figures | {"over_aim": over, "before": before}


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    settings, late, memory = result["settings"], result["lateness_ms"], result["memory_mib"]
    empty, beside = rate_of(result["greet_empty"]), rate_of(result["greet_beside"])
    ratio = beside / empty
    set_on_node = ", ".join(f"{name}={value}" for name, value in settings["set_on_node"].items())
    return "\n".join(
        (
            f"{settings['count']} sleepers due over {settings['spread']:g} s, started over one "
            f"session at {result['starts']['requests_per_second']:.0f}/s",
            f"set: {set_on_node} on the node; inactivity_timeout=0s for the sleepers' service",
            f"woken: p50 {late['p50']:.0f} ms late, p99 {late['p99']:.0f}, p99.9 "
            f"{late['p99.9']:.0f}, max {late['max']:.0f} (aim ≤ {SLEEPERS_LATE_MS.aim:g}: "
            f"{SLEEPERS_LATE_MS.verdict(late['max'])}); {late['over_aim']} later than the aim, "
            f"{late['before']} before their time, by {max(0, -late['min']):.0f} ms at most",
            f"resident, node: max {memory['node_max']:.0f} MiB (aim ≤ {SLEEPERS_NODE_MIB.aim:g}: "
            f"{SLEEPERS_NODE_MIB.verdict(memory['node_max'])}), {memory['node_asleep']:.0f} when "
            f"all were asleep; worker: max {memory['worker_max']:.0f}",
            f"greet, {CONNECTIONS} connections, {settings['rounds']} times in turn: {empty:.0f}/s "
            f"on an empty node, {beside:.0f}/s beside the sleepers: {ratio:.3f}x "
            f"(aim ≥ {WORK_BESIDE_SLEEPERS.aim:g}: {WORK_BESIDE_SLEEPERS.verdict(ratio)})",
        )
    )


if __name__ == "__main__":
    raise SystemExit(main())
