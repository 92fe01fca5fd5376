"""Snapshots of a big partition: ``python -m bench.restore --keys 1000000``.

A node in one process, on RocksDB and on files of this machine, takes a snapshot of a partition with
so many state entries while a worker's calls go on; then a node with an empty partition store starts
from it. Each of the two runs in a process of its own, whose peak memory is told beside what it was
before the work began. Prints a table; exits with 1 when the digests or rows differ.
"""

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog
import uvloop

from perdure.core.storage.kv import PutOrDelete
from perdure.core.storage.rocks import RocksStore
from perdure.partition_processor.snapshots.writer import partition_spans
from perdure.partition_processor.tables import keys
from perdure.sdk import Context, Service, app
from perdure.testing import InProcessNode

VALUE_BYTES = 100
BATCH = 1000
QUIET_CALLS = 2000

greeter = Service("Greeter")


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    """Greet somebody."""
    return f"Hello {name}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the status says whether it was right, not how fast it was."""
    parser = argparse.ArgumentParser(prog="python -m bench.restore", description=__doc__)
    parser.add_argument("--keys", type=int, action="append", help="default: 100000, then 1000000")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.add_argument("--phase", choices=("take", "restore"), help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.phase is not None:
        phase = take if options.phase == "take" else restore
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
        print(json.dumps(uvloop.run(phase(options.directory, (options.keys or [0])[0]))))
        return 0
    figures = [measure(count) for count in options.keys or [100_000, 1_000_000]]
    print(json.dumps(figures, indent=1) if options.output == "json" else table(figures))
    return 0 if all(row["same"] for row in figures) else 1


def measure(count: int) -> dict[str, Any]:
    """One size: both phases, each in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="perdure-bench-") as directory:
        taken = run_phase("take", directory, count)
        restored = run_phase("restore", directory, count)
    same = all(taken[name] == restored[name] for name in ("digest", "rows"))
    return {"keys": count, "same": same, "take": taken, "restore": restored}


def run_phase(phase: str, directory: str, count: int) -> dict[str, Any]:
    """What a phase has measured."""
    line = [sys.executable, "-m", "bench.restore", "--phase", phase, "--directory", directory]
    ended = subprocess.run(
        [*line, "--keys", str(count)], stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def peak_mib() -> float:
    """The most memory that this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def node_on(directory: Path, store: str) -> InProcessNode:
    """A node with one partition on this disk."""
    stores = {
        "metadata": RocksStore.open(directory / "metadata"),
        "log": RocksStore.open(directory / "log", profile="log"),
        "store": RocksStore.open(directory / store),
    }
    options = [
        "partitions.count=1",
        "log.trim_interval=1h",
        f"snapshots.directory={directory / 'snapshots'}",
        "snapshots.interval=0s",
    ]
    return InProcessNode(options=options, stores=dict(stores))


async def take(directory: Path, count: int) -> dict[str, Any]:
    """Fill a partition and take its snapshot while calls go on."""
    async with node_on(directory, "store") as node:
        fill(node, count)
        await node.add_worker(app([greeter]))
        quiet = [await call(node) for _ in range(QUIET_CALLS)]
        before_mib = peak_mib()
        started = time.perf_counter()
        processor = node.engine.manager.processors[0]
        task = asyncio.ensure_future(node.engine.snapshots.create(processor))
        busy: list[float] = []
        while not task.done():
            busy.append(await call(node))
        manifest, _ = task.result()
        seconds = time.perf_counter() - started
        found = {
            "seconds": seconds,
            "bytes": manifest.bytes,
            "before_mib": before_mib,
            "peak_mib": peak_mib(),
            "quiet_ms": quantiles(quiet),
            "busy_ms": quantiles(busy),
            "calls": len(busy),
        }
        return found | await state_of(node)


def fill(node: InProcessNode, count: int) -> None:
    """State entries, a hundred per object, as if calls had set them."""
    store = node.stores["store"]
    for start in range(0, count, BATCH):
        rows: list[PutOrDelete] = [
            (
                keys.STATE
                + (number // 100 * 0x9E3779B97F4A7C15 % (1 << 64)).to_bytes(8, "big")
                + keys.object_suffix("Counter", f"key-{number // 100}")
                + b"entry-%02d" % (number % 100),
                os.urandom(VALUE_BYTES // 2).hex().encode(),
            )
            for number in range(start, min(start + BATCH, count))
        ]
        store.write(rows)


async def call(node: InProcessNode) -> float:
    """Seconds that one call takes."""
    started = time.perf_counter()
    await node.call("Greeter", "greet", b'"Ann"')
    return time.perf_counter() - started


async def restore(directory: Path, count: int) -> dict[str, Any]:
    """Start a node whose partition store is empty."""
    node = node_on(directory, "new-store")
    for name in ("metadata", "log", "store"):
        assert name in node.stores
    before_mib = peak_mib()
    started = time.perf_counter()
    async with node:
        seconds = time.perf_counter() - started
        peak = peak_mib()
        return {"seconds": seconds, "before_mib": before_mib, "peak_mib": peak} | await state_of(
            node
        )


async def state_of(node: InProcessNode) -> dict[str, Any]:
    """Digest and number of rows."""
    detail = node.engine.manager.partition(0)
    assert detail is not None
    own = node.engine.manager.processors[0].own
    store = node.stores["store"]
    rows = sum(1 for start, end in partition_spans(own) for _ in store.scan(start, end))
    return {"digest": detail.digest, "rows": rows}


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Median, p99 and maximum in ms."""
    ordered = sorted(seconds)
    places = {"p50": len(ordered) // 2, "p99": len(ordered) * 99 // 100, "max": len(ordered) - 1}
    return {name: round(ordered[place] * 1000, 2) for name, place in places.items()}


def table(figures: list[dict[str, Any]]) -> str:
    """The figures for people."""
    lines = [
        "| keys | MiB | taken in, s | peak over before, MiB | a call meanwhile, ms (quiet) "
        "| restored and replayed in, s | peak over before, MiB | same |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in figures:
        taken, restored = row["take"], row["restore"]
        busy, quiet = taken["busy_ms"], taken["quiet_ms"]
        lines.append(
            f"| {row['keys']:,} | {taken['bytes'] / 2**20:.1f} | {taken['seconds']:.2f} "
            f"| {taken['peak_mib'] - taken['before_mib']:.1f} of {taken['peak_mib']:.0f} "
            f"| p50 {busy['p50']} ({quiet['p50']}), p99 {busy['p99']} ({quiet['p99']}), "
            f"max {busy['max']} ({quiet['max']}) "
            f"| {restored['seconds']:.2f} "
            f"| {restored['peak_mib'] - restored['before_mib']:.1f} of {restored['peak_mib']:.0f} "
            f"| {'yes' if row['same'] else 'NO'} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
