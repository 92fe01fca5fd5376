"""A client process with many requests in flight over one gRPC session; ends with one line of JSON.

``calls`` greets for some seconds and also tells the processor time of the programs it is given;
``sends`` starts so many sleepers and waits until each is accepted. A request that fails ends the
process with status 1.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Sequence
from typing import Any

import uvloop

from perdure.sdk.client import RestateClient, create_client

from . import cpu
from .errors import BenchError
from .load import SUMMARY_MARK, last_summary
from .paths import PERDURE_BIN, ROOT
from .processes import Programs
from .systems import GREETING, Perdure

NAME_BODY = b'"Ann"'
GREETING_BODY = json.dumps(GREETING).encode()
SEED = 1
SLACK_SECONDS = 20.0
"""What the process may take beyond its duration before it counts as hung."""


def run_calls(
    system: Perdure, programs: Programs, in_flight: int, seconds: float, warmup: float
) -> dict[str, Any]:
    """One measurement by a process of its own; the keys are those of `load.measure`."""
    watched = [f"{role}={program.pid}" for role, program in system.programs.items()]
    summary = _run(
        programs,
        *("calls", f"127.0.0.1:{system.session_port}", "--in-flight", str(in_flight)),
        *("--seconds", str(seconds), "--warmup", str(warmup), "--watch", *watched),
        seconds=seconds + warmup,
    )
    system.require_alive()
    return summary


def run_sends(
    system: Perdure,
    programs: Programs,
    handler: str,
    *,
    count: int,
    in_flight: int,
    due_ms: int,
    spread_ms: int,
    seconds: float,
) -> dict[str, Any]:
    """Start `count` sleepers; give how many per second were accepted. Fails after `seconds`."""
    return _run(
        programs,
        *("sends", f"127.0.0.1:{system.session_port}", "--in-flight", str(in_flight)),
        *("--handler", handler, "--count", str(count)),
        *("--due-ms", str(due_ms), "--spread-ms", str(spread_ms)),
        seconds=seconds,
    )


def _run(programs: Programs, *arguments: str, seconds: float) -> dict[str, Any]:
    what = f"session client, {arguments[0]}"
    output = programs.run_to_end(
        "session-client",
        (PERDURE_BIN / "python", "-m", "bench.session_client", *arguments),
        cwd=ROOT,
        seconds=seconds + SLACK_SECONDS,
        what=what,
    )
    return last_summary(output, what)


# In the process itself


async def call(client: RestateClient, options: argparse.Namespace) -> dict[str, Any]:
    """Greet with so many calls in flight: rate, latencies, processor time of each program."""
    latencies: list[float] = []
    ended = False

    async def caller() -> None:
        while not ended:
            started = time.perf_counter()
            answer = await client.generic_call("Greeter", "greet", NAME_BODY)
            latencies.append(time.perf_counter() - started)
            if answer != GREETING_BODY:
                raise BenchError(f"greet answers {answer!r}, not {GREETING_BODY!r}")

    programs = {"client": os.getpid()}
    programs |= {role: int(pid) for role, pid in (item.split("=") for item in options.watch)}
    async with asyncio.TaskGroup() as group:
        for _ in range(options.in_flight):
            group.create_task(caller())
        await asyncio.sleep(options.warmup)
        before = {role: cpu.sample(pid) for role, pid in programs.items()}
        started = time.perf_counter()
        latencies.clear()
        await asyncio.sleep(options.seconds)
        measured = sorted(latencies)
        seconds = time.perf_counter() - started
        after = {role: cpu.sample(pid) for role, pid in programs.items()}
        ended = True
    if not measured:
        raise BenchError("no call was answered")
    return {
        "in_flight": options.in_flight,
        "requests": len(measured),
        "requests_per_second": round(len(measured) / seconds, 1),
        "latency_ms": {
            name: round(measured[min(int(len(measured) * share), len(measured) - 1)] * 1000, 3)
            for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
        },
        "cpu_per_call": {
            role: cpu.use_between(before[role], after[role]).per_call(len(measured))
            for role in programs
        },
        "rss_mib": {role: round(after[role].rss_bytes / 2**20, 1) for role in programs},
    }


async def send(client: RestateClient, options: argparse.Namespace) -> dict[str, Any]:
    """Start the sleepers, each due at a time drawn evenly from the spread."""
    # Drawn and not in turn, because sleeps that are started in the order of their ends are easy.
    chance = random.Random(SEED)
    numbers = iter(range(options.count))

    async def sender() -> None:
        for _ in numbers:
            until_ms = options.due_ms + int(chance.random() * options.spread_ms)
            await client.generic_send("Sleeper", options.handler, str(until_ms).encode())

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(options.in_flight):
            group.create_task(sender())
    seconds = time.perf_counter() - started
    return {
        "requests": options.count,
        "seconds": round(seconds, 2),
        "requests_per_second": round(options.count / seconds, 1),
    }


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """Open the session and do what was asked for."""
    async with create_client(options.address) as client:
        return await (call if options.what == "calls" else send)(client, options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and print the figures behind the mark that wrk's have."""
    parser = argparse.ArgumentParser(prog="python -m bench.session_client", description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    calls, sends = commands.add_parser("calls"), commands.add_parser("sends")
    for command in (calls, sends):
        command.add_argument("address", help="host:port of the gRPC front door")
        command.add_argument("--in-flight", type=int, required=True)
    calls.add_argument("--seconds", type=float, required=True)
    calls.add_argument("--warmup", type=float, default=0.0)
    calls.add_argument("--watch", nargs="*", default=[], metavar="ROLE=PID")
    sends.add_argument("--handler", required=True)
    sends.add_argument("--count", type=int, required=True)
    sends.add_argument("--due-ms", type=int, required=True, help="since 1970")
    sends.add_argument("--spread-ms", type=int, default=0)
    options = parser.parse_args(arguments)
    print(SUMMARY_MARK + json.dumps(uvloop.run(run(options))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
