"""Profiles of Perdure under load: ``python -m bench.profile``, wrapped by ``bench/profile.sh``.

The node is sampled first, then the worker, under one load that goes on meanwhile: two samplers at
once would slow each other and both programs.
"""

import argparse
import collections
import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import install
from .command import exit_status
from .errors import BenchError
from .load import WORKLOADS, wrk_command
from .paths import LOGS, PROFILES, ROOT
from .processes import Program, Programs, run_tool
from .systems import Perdure, System

ROLES = ("node", "worker")
FORMATS = {"raw": "txt", "flamegraph": "svg"}
SLACK_SECONDS = 30.0
"""What py-spy may take beyond its sampling time to write its file."""

TOP = 25


def main(arguments: Sequence[str] | None = None) -> int:
    """Start, load, sample, print where the time went."""
    options = _options(arguments)
    return exit_status(lambda: _profile(options))


def _profile(options: argparse.Namespace) -> int:
    install.require_wrk()
    install.require_perdure()
    py_spy = install.require_py_spy()
    PROFILES.mkdir(parents=True, exist_ok=True)
    with Programs(LOGS) as programs:
        system = Perdure(programs, 0)
        try:
            system.start()
            system.check_answers()
            with _load(system, programs, options):
                time.sleep(options.warmup)
                for role in ROLES:
                    _sample(py_spy, system, role, options)
        except BenchError as error:
            raise BenchError(f"{error}\n{system.log_tails()}") from None
        finally:
            system.stop()
    return 0


@contextlib.contextmanager
def _load(system: System, programs: Programs, options: argparse.Namespace) -> Iterator[Program]:
    samplings = len(ROLES) * len(FORMATS)
    # Longer than all sampling may take; it is stopped when the last profile is written.
    seconds = options.warmup + samplings * (options.seconds + SLACK_SECONDS)
    command = wrk_command((system.ingress_port,), options.workload, options.connections, seconds)
    load = programs.start("profile-wrk", command, cwd=ROOT)
    try:
        yield load
        if not load.running():
            raise BenchError(f"the load ended before the profiles did\n{load.log_tail()}")
    finally:
        programs.stop(load)


def _sample(py_spy: Path, system: System, role: str, options: argparse.Namespace) -> None:
    for kind, ending in FORMATS.items():
        system.require_alive()
        target = PROFILES / f"{options.workload}-{role}.{ending}"
        target.unlink(missing_ok=True)
        # --threads keeps threads apart; without --idle only threads that run are counted.
        flags = ["--threads", "--rate", str(options.rate), "--duration", str(options.seconds)]
        flags += ["--native"] if options.native else []
        pid = str(system.programs[role].pid)
        print(f"profile {role} as {kind}, {options.seconds} s", file=sys.stderr, flush=True)
        try:
            run_tool(
                (py_spy, "record", "--pid", pid, "--format", kind, "--output", target, *flags),
                cwd=PROFILES,
                seconds=options.seconds + SLACK_SECONDS,
                what="py-spy",
            )
        except BenchError as error:
            raise BenchError(
                f"{error}\nWhere a process may not look into another one, run this as root or "
                "allow it: sudo sysctl kernel.yama.ptrace_scope=0"
            ) from None
    _print_top(role, PROFILES / f"{options.workload}-{role}.{FORMATS['raw']}")


def _print_top(role: str, raw: Path) -> None:
    """The functions with the most time of their own, from lines ``thread;frame;frame COUNT``."""
    own: collections.Counter[str] = collections.Counter()
    within: collections.Counter[str] = collections.Counter()
    threads: collections.Counter[str] = collections.Counter()
    for line in raw.read_text().splitlines():
        stack, _, samples = line.rpartition(" ")
        frames = stack.split(";")
        threads[frames[0]] += int(samples)
        # A frame is "function (file:line)"; lines of one function belong together.
        functions = [frame.rpartition(":")[0].replace(" (", "  ") for frame in frames[1:]]
        if functions:
            own[functions[-1]] += int(samples)
            within.update(dict.fromkeys(functions, int(samples)))
    total = sum(threads.values()) or 1
    print(f"\n{role}: {total} samples")
    for thread, count in threads.most_common(10):
        print(f"  {100 * count / total:5.1f} %  {thread}")
    print(f"  {'own':>7}  {'with callees':>12}")
    for function, count in own.most_common(TOP):
        print(
            f"  {100 * count / total:5.1f} %  {100 * within[function] / total:10.1f} %  {function}"
        )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/profile.sh",
        description="Profile Perdure's node and worker under load, into bench/scratch/profile.",
    )
    parser.add_argument("--workload", choices=WORKLOADS, default="greet")
    parser.add_argument("--connections", type=int, default=64, metavar="N")
    parser.add_argument("--seconds", type=int, default=10, help="of each profile, default: 10")
    parser.add_argument("--warmup", type=int, default=3, help="seconds of load before, default: 3")
    parser.add_argument("--rate", type=int, default=200, help="samples per second, default: 200")
    parser.add_argument(
        "--native", action="store_true", help="also the frames of compiled extensions"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
