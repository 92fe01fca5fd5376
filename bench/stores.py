"""Replicated stores over each transport: ``python -m bench.stores``.

Three processes: a sequencer, and two log-servers that each write and sync on RocksDB of their own.
A batch counts when both have it. So many appenders, each waiting for its last record, go through
framed TCP and through gRPC in turn; CPU is of all three processes together.
"""

import argparse
import asyncio
import json
import multiprocessing
import statistics
import tempfile
import time
from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any, Final

import uvloop

from perdure.core.clock import SystemClock
from perdure.core.ids import LogId
from perdure.core.net.choice import TransportName, make_transport
from perdure.core.net.peers import VERSION, Introduction, Peers, introduced
from perdure.core.random import SystemRandom
from perdure.core.storage.rocks import RocksStore
from perdure.log.chain import Segment
from perdure.log.local.writer import LogWriter, SyncPolicy
from perdure.log.placement import LogServer as LogServerEntry
from perdure.log.replicated.loglet import ReplicatedLoglet
from perdure.log.replicated.messages import SERVICE
from perdure.log.replicated.provider import KIND, ReplicatedProvider, Replication
from perdure.log.replicated.server import LogServer
from perdure.log.replicated.server_store import ServerStore
from perdure.log.standalone import NoMetrics
from perdure.log.types import Batch, Record

from .command import exit_status
from .errors import BenchError

CLUSTER: Final = "bench"
TRANSPORTS: Final[tuple[TransportName, ...]] = ("tcp", "grpc")
APPENDERS: Final = (1, 64)
RECORD_BYTES: Final = 512
WARM_UP: Final = 0.2
"""Of the seconds of a measurement, before it."""

START_SECONDS: Final = 20.0


class RunningServer:
    """A log-server in a process of its own.

    Attributes:
        address: where it listens.
        storage: how segments name its disk.
    """

    address: str
    storage: str

    def __init__(self, node: str, directory: Path, transport: TransportName) -> None:
        """Start the process."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=serve, args=(node, directory, transport, theirs), daemon=True
        )
        self._process.start()

    def wait_until_started(self) -> None:
        """Raises BenchError."""
        if not self._pipe.poll(START_SECONDS):
            raise BenchError("a log-server did not start")
        self.address, self.storage = self._pipe.recv()

    def cpu_seconds(self) -> float:
        """What the process has used."""
        self._pipe.send("cpu")
        used: float = self._pipe.recv()
        return used

    def stop(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join()


class Appenders:
    """So many callers, each of which appends a record as soon as its last one is committed."""

    def __init__(self, loglet: ReplicatedLoglet, loop: AbstractEventLoop) -> None:
        self._loglet = loglet
        self._loop = loop
        # In the order of their offsets.
        self._waiting: deque[tuple[int, int]] = deque()
        self._latencies: list[int] = []
        self._until_ns = 0
        self._done: Future[None] = loop.create_future()
        loglet.listen(self._committed)

    async def run(self, appenders: int, seconds: float) -> list[int]:
        """How long each record took, in ns."""
        self._latencies = []
        self._done = self._loop.create_future()
        self._until_ns = time.perf_counter_ns() + int(seconds * 1e9)
        for _ in range(appenders):
            self._append()
        await self._done
        return self._latencies

    def _append(self) -> None:
        record = Record(1, bytes(RECORD_BYTES), (), 0, None, 0)
        self._waiting.append((self._loglet.enqueue([record]), time.perf_counter_ns()))

    def _committed(self, batch: Batch) -> None:
        now_ns = time.perf_counter_ns()
        while self._waiting and self._waiting[0][0] <= batch.last_offset:
            self._latencies.append(now_ns - self._waiting.popleft()[1])
            if now_ns < self._until_ns:
                self._append()
        if not self._waiting:
            self._done.set_result(None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the status says whether it was measured, not how fast it was."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.stores",
        description=__doc__,
        epilog="example: python -m bench.stores --seconds 5 --rounds 3 -o json",
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is taken, in turn")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    if options.seconds <= 0 or options.rounds < 1:
        parser.error("seconds must be above 0, rounds begin at 1")
    return exit_status(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="perdure-bench-") as directory:
        rows = uvloop.run(measure(Path(directory), options.seconds, options.rounds))
    print(json.dumps(rows, indent=1) if options.output == "json" else table(rows))
    return 0


async def measure(directory: Path, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """One row per number of appenders: each transport's figures, medians over the rounds."""
    runs: dict[tuple[str, int], list[dict[str, float]]] = {}
    number = 0
    for appenders in APPENDERS:
        for _ in range(rounds):
            for transport in TRANSPORTS:
                number += 1
                with log_servers(directory / str(number), transport) as servers:
                    figures = await append(servers, transport, appenders, seconds)
                runs.setdefault((transport, appenders), []).append(figures)
    rows: list[dict[str, Any]] = []
    for appenders in APPENDERS:
        row: dict[str, Any] = {"appenders": appenders}
        for transport in TRANSPORTS:
            taken = runs[transport, appenders]
            row[transport] = {
                name: statistics.median(figures[name] for figures in taken) for name in taken[0]
            }
        rows.append(row)
    return rows


async def append(
    servers: dict[str, RunningServer],
    transport: TransportName,
    appenders: int,
    seconds: float,
) -> dict[str, float]:
    """Rate, latencies in ms, and CPU per record in µs of all processes."""
    loop = asyncio.get_running_loop()
    peers = Peers(
        transport=make_transport(transport),
        service=SERVICE,
        cluster=CLUSTER,
        node="sequencer",
        generation=1,
        address_of=lambda node: servers[node].address,
        loop=loop,
        random=SystemRandom(),
    )
    entries = [LogServerEntry(node, server.storage) for node, server in servers.items()]
    provider = ReplicatedProvider(
        peers=peers,
        servers=lambda: entries,
        replication=lambda: Replication(nodes=len(entries)),
        loop=loop,
        clock=SystemClock(),
        random=SystemRandom(),
    )
    try:
        loglet = provider.open(Segment(1, 1, KIND, provider.params(LogId(0), 1, 1, 0)))
        assert isinstance(loglet, ReplicatedLoglet)
        work = Appenders(loglet, loop)
        await work.run(appenders, seconds * WARM_UP)
        before = cpu_seconds(servers)
        latencies = await work.run(appenders, seconds)
        used = cpu_seconds(servers) - before
    finally:
        await provider.close()
        await peers.close()
    latencies.sort()
    return {
        "records_per_second": len(latencies) / seconds,
        "p50_ms": latencies[len(latencies) // 2] / 1e6,
        "p99_ms": latencies[len(latencies) * 99 // 100] / 1e6,
        "cpu_us_per_record": used * 1e6 / len(latencies),
    }


def cpu_seconds(servers: dict[str, RunningServer]) -> float:
    """What all three processes have used."""
    return time.process_time() + sum(server.cpu_seconds() for server in servers.values())


@contextmanager
def log_servers(directory: Path, transport: TransportName) -> Iterator[dict[str, RunningServer]]:
    """Two of them by name, each in a process of its own."""
    servers = {node: RunningServer(node, directory / node, transport) for node in ("left", "right")}
    try:
        for server in servers.values():
            server.wait_until_started()
        yield servers
    finally:
        for server in servers.values():
            server.stop()


def serve(node: str, directory: Path, transport: TransportName, pipe: Pipe) -> None:
    """A log-server's process; it ends when None comes through the pipe."""
    directory.mkdir(parents=True)
    uvloop.run(_serve(node, directory, transport, pipe))


async def _serve(node: str, directory: Path, transport: TransportName, pipe: Pipe) -> None:
    loop = asyncio.get_running_loop()
    store = RocksStore.open(directory, profile="log")
    writer = LogWriter(
        kv_store=store,
        loop=loop,
        clock=SystemClock(),
        policy=SyncPolicy("auto"),
        metrics=NoMetrics(),
        on_turn=lambda: None,
        on_failure=lambda error: None,
    )
    rows = ServerStore(store, cluster=CLUSTER, node=node, random=SystemRandom())
    server = LogServer(rows, writer, loop=loop)
    me = Introduction(VERSION, CLUSTER, node, 1)
    listener = await make_transport(transport).listen(
        "127.0.0.1:0", {SERVICE: introduced(me, server.serve)}
    )
    ended = loop.create_future()

    def asked() -> None:
        if pipe.recv() is None:
            loop.remove_reader(pipe.fileno())
            ended.set_result(None)
        else:
            pipe.send(time.process_time())

    pipe.send((listener.address, server.storage))
    loop.add_reader(pipe.fileno(), asked)
    await ended
    await listener.close(0)
    writer.close()
    store.close()


def table(rows: list[dict[str, Any]]) -> str:
    """Both transports side by side."""
    lines = [
        "| records under way | transport | records/s | p50, ms | p99, ms | CPU per record, µs |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        for transport in TRANSPORTS:
            figures = row[transport]
            lines.append(
                f"| {row['appenders']} | {transport} | {figures['records_per_second']:,.0f} "
                f"| {figures['p50_ms']:.2f} | {figures['p99_ms']:.2f} "
                f"| {figures['cpu_us_per_record']:.0f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
