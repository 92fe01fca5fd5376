"""Live reconfiguration under load: ``python -m bench.reconfigure --seconds 60``.

Many appenders write to one log whose provider is changed every 100 ms, disk to memory and back. A
reader follows and trims what it has read. Afterwards the acknowledged records must be the ones that
were read, each at its LSN, and each appender's in its order. Exits with 1 if not, or if an append
waited too long.
"""

import argparse
import asyncio
import gc
import hashlib
import sys
import tempfile
import time
from asyncio import Future
from collections.abc import Sequence
from pathlib import Path

import uvloop

from perdure.core.clock import SystemClock
from perdure.core.ids import LogId
from perdure.core.storage.rocks import RocksStore
from perdure.log import (
    Answer,
    Committed,
    LogEntry,
    LogletProvider,
    LogReader,
    Logs,
    ProducerFilter,
    Record,
    VirtualLog,
)
from perdure.log.appender import Appender
from perdure.log.local.provider import LocalProvider
from perdure.log.local.writer import LogWriter, SyncPolicy
from perdure.log.log_store import KvLogStore
from perdure.log.memory.provider import MemoryProvider
from perdure.metadata.local import LocalMetadataStore

APPENDERS = 64
BODY_BYTES = 128
TRIM_SECONDS = 1.0
WAIT_SECONDS_MAX = 0.25


class NoMetrics:
    """Nobody looks."""

    def log_appended(self, records: int, duration_seconds: float) -> None:
        """Do nothing."""

    def log_synced(self, duration_seconds: float) -> None:
        """Do nothing."""


class Ledger:
    """What was acknowledged and what was read; what is in both is taken out."""

    def __init__(self) -> None:
        self.acknowledged: dict[int, bytes] = {}
        self.read: dict[int, bytes] = {}
        self.matched = 0
        self.wrong: list[str] = []
        self.waits: list[float] = []
        self.next_number = [0] * APPENDERS
        self.producers = ProducerFilter()

    def acked(self, lsn: int, body: bytes) -> None:
        """The record was acknowledged at this LSN."""
        self._match(self.read, self.acknowledged, lsn, body)

    def saw(self, entry: LogEntry) -> None:
        """The reader came to this record."""
        if not self.producers.accept(entry.record):
            self.wrong.append(f"LSN {entry.lsn} was let through twice or out of order")
        appender, number = parse(entry.record.body)
        if number != self.next_number[appender]:
            self.wrong.append(f"appender {appender}: {number} at LSN {entry.lsn} is out of order")
        self.next_number[appender] = number + 1
        self._match(self.acknowledged, self.read, entry.lsn, entry.record.body)

    def _match(
        self, there: dict[int, bytes], here: dict[int, bytes], lsn: int, body: bytes
    ) -> None:
        other = there.pop(lsn, None)
        if other is None:
            if here.setdefault(lsn, body) is not body:
                self.wrong.append(f"LSN {lsn} came twice")
        elif other != body:
            self.wrong.append(f"LSN {lsn} was acknowledged for another record than it holds")
        else:
            self.matched += 1


def build(appender: int, number: int) -> Record:
    """A record that can be told from others."""
    return Record(1, b"%d %d %s" % (appender, number, FILLING), (), 0, None, 0)


def parse(body: bytes) -> tuple[int, int]:
    """Appender and number of a record."""
    appender, number, _ = body.split(b" ", 2)
    return int(appender), int(number)


FILLING = b"." * (BODY_BYTES - 12)


async def produce(log: VirtualLog, ledger: Ledger, number: int, window: int, until: float) -> int:
    """Keep `window` appends in flight; how many there were."""
    loop = asyncio.get_running_loop()
    producer = hashlib.blake2b(b"%d" % number, digest_size=16).digest()
    room = asyncio.Semaphore(window)
    count = 0
    async with Appender(log, producer, loop=loop) as appender:
        while time.perf_counter() < until:
            await room.acquire()
            record = build(number, count)
            started = time.perf_counter()

            def answered(
                answer: "Future[Answer]", started: float = started, body: bytes = record.body
            ) -> None:
                ledger.waits.append(time.perf_counter() - started)
                room.release()
                committed = answer.result()
                if type(committed) is Committed:
                    ledger.acked(committed.first_lsn, body)
                else:
                    ledger.wrong.append(f"an append was answered {committed}")

            (await appender.submit([record])).add_done_callback(answered)
            count += 1
    return count


async def follow(log: VirtualLog, ledger: Ledger, reader: LogReader) -> None:
    """Read everything, and trim what was read every now and then."""
    trimmed = time.perf_counter()
    async for item in reader:
        if type(item) is not LogEntry:
            ledger.wrong.append(f"the reader met {item}")
            continue
        ledger.saw(item)
        if time.perf_counter() - trimmed > TRIM_SECONDS:
            await log.trim(item.lsn)
            trimmed = time.perf_counter()


async def reconfigure(log: VirtualLog, every: float, until: float) -> list[float]:
    """Change the provider again and again; how long each change took."""
    took: list[float] = []
    due = time.perf_counter()
    while (due := due + every) < until:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        started = time.perf_counter()
        await log.reconfigure("memory" if log.chain.tail.kind == "local" else "local")
        took.append(time.perf_counter() - started)
    return took


async def run(folder: Path, seconds: float, every: float, window: int) -> bool:
    """The whole measurement; whether everything held."""
    loop = asyncio.get_running_loop()
    clock = SystemClock()
    log_kv = RocksStore.open(folder / "log", profile="log")
    metadata_kv = RocksStore.open(folder / "metadata")
    writer = LogWriter(
        kv_store=log_kv,
        loop=loop,
        clock=clock,
        policy=SyncPolicy("auto"),
        metrics=NoMetrics(),
        on_turn=lambda: None,
        on_failure=lambda error: sys.exit(f"the disk failed: {error}"),
    )
    providers: list[LogletProvider] = [
        LocalProvider(store=KvLogStore(log_kv), writer=writer, clock=clock, node="bench"),
        MemoryProvider(loop=loop, clock=clock, node="bench"),
    ]
    logs = Logs(
        metadata=LocalMetadataStore(metadata_kv),
        providers=providers,
        loop=loop,
        default_kind="local",
    )
    log = await logs.open(LogId(0), create=True)
    await log.lead()
    ledger = Ledger()
    reader = LogReader(log)
    following = asyncio.create_task(follow(log, ledger, reader))
    until = time.perf_counter() + seconds
    load = [produce(log, ledger, number, window, until) for number in range(APPENDERS)]
    changing = asyncio.create_task(reconfigure(log, every, until))
    counts = await asyncio.gather(*load)
    took = await changing
    tail = await log.find_tail()
    while reader.next_lsn < tail.lsn and not following.done():
        await asyncio.sleep(0.01)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    writer.close()
    log_kv.close()
    metadata_kv.close()
    return report(ledger, sum(counts), took, seconds)


def report(ledger: Ledger, submitted: int, took: list[float], seconds: float) -> bool:
    """Print the figures and the verdicts; whether all of them are good."""
    waits = sorted(ledger.waits)
    longest, p99, p50 = waits[-1], waits[len(waits) * 99 // 100], waits[len(waits) // 2]
    changes = sorted(took)
    print(f"records acknowledged       {len(waits):>12,}  ({len(waits) / seconds:,.0f}/s)")
    print(f"reconfigurations           {len(took):>12,}")
    print(f"longest reconfiguration    {changes[-1] * 1e3:>12.1f} ms")
    print(f"median append              {p50 * 1e3:>12.2f} ms")
    print(f"99th percentile append     {p99 * 1e3:>12.2f} ms")
    print(f"longest append             {longest * 1e3:>12.1f} ms")
    verdicts = {
        "every append was acknowledged": len(waits) == submitted and not ledger.wrong,
        "acknowledged = read": not ledger.acknowledged
        and not ledger.read
        and ledger.matched == submitted,
        "order of each appender kept": sum(ledger.next_number) == submitted and not ledger.wrong,
        f"no append waited over {WAIT_SECONDS_MAX * 1e3:.0f} ms": longest <= WAIT_SECONDS_MAX,
    }
    for verdict, holds in verdicts.items():
        print(f"{'yes' if holds else 'NO ':3}  {verdict}")
    for wrong in ledger.wrong[:20]:
        print(wrong)
    return all(verdicts.values())


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; 0 if everything held, 1 if not."""
    parser = argparse.ArgumentParser(prog="python -m bench.reconfigure", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=0.1, help="seconds between two changes")
    parser.add_argument("--window", type=int, default=4, help="appends in flight per appender")
    options = parser.parse_args(arguments)
    # As a node does: few switches between threads, few full collections.
    sys.setswitchinterval(0.0005)
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    with tempfile.TemporaryDirectory(prefix="perdure-reconfigure-") as folder:
        measurement = run(Path(folder), options.seconds, options.every, options.window)
        return 0 if uvloop.run(measurement) else 1


if __name__ == "__main__":
    sys.exit(main())
