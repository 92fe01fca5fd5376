"""The command: ``python -m bench``, wrapped by ``bench/run.sh`` and ``make bench``."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from . import install, load, report, summary
from .command import exit_status, new_result, progress, save
from .errors import BenchError
from .load import CONNECTIONS, WORKLOADS, Settings
from .paths import LOGS
from .processes import Programs
from .systems import SYSTEMS

EPILOG = """\
variables: BENCH_SECONDS, BENCH_WARMUP, BENCH_ROUNDS (defaults of the options), BENCH_PORT_BASE
(first of ten ports), BENCH_PEER_SERVER (version that a fresh bench/scratch gets)
exit status: 0 measured (whatever the figures are), 1 a run failed, 2 something is not installed
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and report; the status says whether it was measured, never how fast it was."""
    settings = _settings(arguments)
    return exit_status(lambda: _run(settings))


def _run(settings: Settings) -> int:
    install.require_wrk()
    install.require_proc()
    if "perdure" in settings.systems:
        install.require_perdure()
    if "peer" in settings.systems:
        install.peer_server()
        install.peer_python()
    result = new_result(vars(settings), settings.systems) | {"rounds": [], "failures": []}
    with Programs(LOGS) as programs:
        for number in range(1, settings.rounds + 1):
            # One system after the other in each round, and the rounds in turn: when the machine
            # gets slower half-way, both systems lose.
            for name in settings.systems:
                entry = _measure_system(programs, name, number, settings, result)
                result["rounds"].append(entry)

    result["summary"] = summary.summarise(result["rounds"])
    print(report.table(result))
    save(result)
    return 1 if result["failures"] else 0


def _measure_system(
    programs: Programs, name: str, number: int, settings: Settings, result: dict[str, Any]
) -> dict[str, Any]:
    """All measurements of one system in one round; a failure ends its round, not the run."""
    system = SYSTEMS[name](programs, number)
    entry: dict[str, Any] = {"round": number, "system": name, "runs": []}
    label = f"round {number}/{settings.rounds}  {name:<8}"
    try:
        progress(f"{label}start")
        system.start()
        entry["start_seconds"] = round(system.start_seconds, 3)
        system.check_answers()
        progress(f"{label}idle")
        entry["idle"] = load.measure_idle(system)
        for workload in settings.workloads:
            for connections in settings.connections:
                run = load.measure(
                    system, programs, workload, (system.ingress_port,), connections, settings
                )
                entry["runs"].append(run)
                progress(
                    f"{label}{workload:<8}{connections:>3} conn. "
                    f"{run['requests_per_second']:>9.1f}/s  p50 {run['latency_ms']['p50']} ms"
                )
    except BenchError as error:
        print(f"error: {name}: {error}\n{system.log_tails()}", file=sys.stderr)
        result["failures"].append(f"round {number}, {name}: {error.where}")
    finally:
        system.stop()
    return entry


def _settings(arguments: Sequence[str] | None) -> Settings:
    parser = argparse.ArgumentParser(
        prog="bench/run.sh",
        description="Measure Perdure beside the peer: rate, latency, processor time, memory.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    variable = os.environ.get
    parser.add_argument("--only", choices=tuple(SYSTEMS), help="measure one system alone")
    parser.add_argument("--workload", choices=WORKLOADS, help="default: all")
    parser.add_argument(
        "--connections", type=int, metavar="N", help="default: 1, then 64; any number is taken"
    )
    parser.add_argument(
        "--rounds", type=int, default=int(variable("BENCH_ROUNDS", "2")), help="default: 2"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=float(variable("BENCH_SECONDS", "10")),
        help="of each measurement, default: 10",
    )
    parser.add_argument(
        "--warmup",
        type=float,
        default=float(variable("BENCH_WARMUP", "3")),
        help="seconds before each measurement, default: 3",
    )
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.seconds < 1 or (options.connections or 1) < 1:
        parser.error("rounds, seconds and connections start at 1")
    return Settings(
        seconds=options.seconds,
        warmup=options.warmup,
        rounds=options.rounds,
        systems=(options.only,) if options.only else tuple(SYSTEMS),
        workloads=(options.workload,) if options.workload else WORKLOADS,
        connections=(options.connections,) if options.connections else CONNECTIONS,
    )


if __name__ == "__main__":
    sys.exit(main())
