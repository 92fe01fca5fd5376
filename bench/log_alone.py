"""The log by itself beside a bare RocksDB: ``python -m bench.log_alone``.

Both write the same bytes to the same disk and sync after each batch, in turn within one run. The
log's figure is the whole public path: one `append` per batch, awaited before the next one, through
sequencer, batch codec, writer, write, sync and back. The bare figure is one RocksDB write of the
same records as one batch, and a sync of its log.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop
from rocksdict import Options, Rdict, WriteBatch

from perdure.core.hashing import key_hash
from perdure.core.ids import LogId
from perdure.log import Committed, NotChangedSince, Record, VirtualLog, open_logs

RECORD_BYTES = 512
BATCHES = (1, 32, 256)
AIMS = {32: 0.5, 256: 0.7}
CONDITION_COST_AIM = 0.10


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the status says whether it was measured, not how fast it was."""
    parser = argparse.ArgumentParser(prog="python -m bench.log_alone", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is taken, in turn")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="perdure-bench-") as directory:
        figures = uvloop.run(measure(Path(directory), options.seconds, options.rounds))
    if options.output == "json":
        print(json.dumps(figures, indent=1))
    else:
        print(table(figures))
    return 0


async def measure(directory: Path, seconds: float, rounds: int) -> list[dict[str, float]]:
    """Records per second of each way at each batch size: medians over the rounds."""
    bare = open_bare(directory / "bare")
    figures: list[dict[str, float]] = []
    async with open_logs(directory / "logs", sync_inline="always") as logs:
        log = await logs.open(LogId(0), create=True)
        await log.lead()
        for size in BATCHES:
            rates: dict[str, list[float]] = {"bare": [], "plain": [], "conditional": []}
            for _ in range(rounds):
                rates["bare"].append(write_bare(bare, size, seconds))
                rates["plain"].append(await append(log, size, seconds, conditional=False))
                rates["conditional"].append(await append(log, size, seconds, conditional=True))
                await log.trim((await log.find_tail()).lsn)
            # Each round's ratio is of figures taken side by side; their median is robust.
            figures.append(
                {
                    "batch": size,
                    "bare": statistics.median(rates["bare"]),
                    "plain": statistics.median(rates["plain"]),
                    "conditional": statistics.median(rates["conditional"]),
                    "plain_to_bare": median_ratio(rates["plain"], rates["bare"]),
                    "condition_cost": 1 - median_ratio(rates["conditional"], rates["plain"]),
                }
            )
    bare.close()
    return figures


def median_ratio(some: list[float], others: list[float]) -> float:
    """The median of the pairs' ratios."""
    return statistics.median(one / other for one, other in zip(some, others, strict=True))


def open_bare(path: Path) -> Rdict:
    """A RocksDB with the options that bear on a synced write, nothing else."""
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(32 << 20)
    return Rdict(str(path), options)


def write_bare(store: Rdict, size: int, seconds: float) -> float:
    """Records per second of plain synced batches."""
    body = bytes(RECORD_BYTES)
    number = written = 0
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        batch = WriteBatch(True)
        for _ in range(size):
            number += 1
            batch.put(number.to_bytes(16, "big"), body)
        store.write(batch)
        store.flush_wal(True)
        written += size
    return written / elapsed


async def append(log: VirtualLog, size: int, seconds: float, *, conditional: bool) -> float:
    """Records per second of appends that each wait for the one before."""
    body = bytes(RECORD_BYTES)
    key = key_hash(b"bench", b"key")
    last_lsn = (await log.find_tail()).lsn - 1
    written = 0
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        # As many records with a key either way, so that only the condition is compared.
        records = [Record(1, body, (key,), 0, None, 0) for _ in range(size)]
        conditions = (NotChangedSince(key, last_lsn),) if conditional else ()
        answer = await log.append(records, conditions=conditions)
        assert isinstance(answer, Committed), answer
        last_lsn = answer.last_lsn
        written += size
    return written / elapsed


def table(figures: list[dict[str, float]]) -> str:
    """The figures beside their aims."""
    lines = [
        "| records per batch | bare, records/s | log, records/s | ratio | aim | a condition costs "
        "| aim |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in figures:
        size = int(row["batch"])
        aim = f"{AIMS[size]:.1f}x" if size in AIMS else "-"
        lines.append(
            f"| {size} | {row['bare']:,.0f} | {row['plain']:,.0f} | {row['plain_to_bare']:.2f}x "
            f"| {aim} | {row['condition_cost']:.1%} | ≤ {CONDITION_COST_AIM:.0%} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
