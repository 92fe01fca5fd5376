"""Calls over one gRPC session beside calls over HTTP: ``python -m bench.session``.

One node and one worker with all defaults; in turn, wrk with 64 connections and a Python process
with 256 calls in flight over one session of `perdure.sdk.client`. Both greet.
"""

import argparse
import statistics
from collections.abc import Sequence
from typing import Any

from . import install, load
from .command import exit_status, new_result, progress, save
from .errors import BenchError
from .paths import LOGS
from .processes import Programs
from .session_client import run_calls
from .summary import SESSION_BESIDE_HTTP
from .systems import Perdure

CONNECTIONS = 64
IN_FLIGHT = 256
WIDTHS = (34, 12, 12, 9, 7)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; the status says whether it was measured, never how fast it was."""
    parser = argparse.ArgumentParser(prog="python -m bench.session", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--warmup", type=float, default=3.0, help="seconds before each")
    parser.add_argument("--rounds", type=int, default=2, help="how often each is taken, in turn")
    parser.add_argument("--in-flight", type=int, default=IN_FLIGHT, help="calls over the session")
    options = parser.parse_args(arguments)
    if options.seconds < 1 or options.rounds < 1 or options.in_flight < 1:
        parser.error("seconds, rounds and calls in flight start at 1")
    return exit_status(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    install.require_wrk()
    install.require_proc()
    install.require_perdure()
    result = new_result(vars(options), ("perdure",))
    with Programs(LOGS) as programs:
        result["rounds"] = _measure(programs, options)
    result["summary"] = _summary(result["rounds"])
    print(table(result))
    save(result, "session-")
    return 0


def _measure(programs: Programs, options: argparse.Namespace) -> list[dict[str, Any]]:
    system = Perdure(programs, 1)
    settings = load.Settings(
        options.seconds, options.warmup, options.rounds, ("perdure",), ("greet",), (CONNECTIONS,)
    )
    rounds: list[dict[str, Any]] = []
    try:
        system.start()
        system.check_answers()
        for number in range(1, options.rounds + 1):
            http = load.measure(
                system, programs, "greet", (system.ingress_port,), CONNECTIONS, settings
            )
            session = run_calls(
                system, programs, options.in_flight, options.seconds, options.warmup
            )
            rounds.append({"http": http, "session": session})
            progress(
                f"round {number}/{options.rounds}  HTTP {http['requests_per_second']:.1f}/s  "
                f"session {session['requests_per_second']:.1f}/s"
            )
    except BenchError as error:
        raise BenchError(f"{error}\n{system.log_tails()}", where=error.where) from None
    finally:
        system.stop()
    return rounds


def _summary(rounds: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The median of each figure over the rounds; wrk is the client of the calls over HTTP."""
    figures = [{way: _figures(run) for way, run in entry.items()} for entry in rounds]
    return {
        way: {
            name: round(statistics.median(entry[way][name] for entry in figures), 3)
            for name in figures[0][way]
        }
        for way in figures[0]
    }


def _figures(run: dict[str, Any]) -> dict[str, float]:
    use = {role: entry["total_us"] for role, entry in run["cpu_per_call"].items()}
    client_us = use.get("client", run.get("wrk_cpu_per_call_us"))
    return {
        "calls/s": run["requests_per_second"],
        "latency p50, ms": run["latency_ms"]["p50"],
        "latency p99, ms": run["latency_ms"]["p99"],
        "CPU per call, node, µs": use["node"],
        "CPU per call, worker, µs": use["worker"],
        "CPU per call, client, µs": client_us,
    }


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    settings, ways = result["settings"], result["summary"]
    http, session = ways["http"], ways["session"]
    lines = [
        f"greet; medians of {settings['rounds']} round(s) of {settings['seconds']:g} s in turn; "
        f"HTTP: wrk, {CONNECTIONS} connections; session: one Python process, "
        f"{settings['in_flight']} in flight",
        _line("", "HTTP", "session", "ratio", "aim"),
    ]
    for name, value in http.items():
        ratio = session[name] / value if value else 0.0
        line = _line(name, f"{value:.2f}", f"{session[name]:.2f}", f"{ratio:.2f}x", "")
        if name == "calls/s":
            aim = f"{SESSION_BESIDE_HTTP.aim:g}x"
            line = _line(name, f"{value:.0f}", f"{session[name]:.0f}", f"{ratio:.2f}x", aim)
            line += f"  {SESSION_BESIDE_HTTP.verdict(ratio)}"
        lines.append(line)
    return "\n".join(lines)


def _line(label: str, *cells: str) -> str:
    first = f"{label:<{WIDTHS[0]}}"
    padded = (f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS[1:], strict=True))
    return (first + "".join(padded)).rstrip()


if __name__ == "__main__":
    raise SystemExit(main())
