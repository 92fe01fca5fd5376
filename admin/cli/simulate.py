"""``perdure sim``: run simulated worlds by their seeds and see whether every promise holds."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ...core.clock import SystemClock

if TYPE_CHECKING:
    from ...testing.histories.run import HistoryReport
    from ...testing.simulation.nodes import NodesReport
    from ...testing.simulation.run import SeedReport

    Report = SeedReport | HistoryReport | NodesReport

HELP: Final = """Run a node, workers and clients on a virtual clock with faults, and check promises.

Each seed is one world; the same seed always does the same. Exit code 1 when a promise was broken.

  perdure sim --seeds 1000 --jobs 2

  perdure sim --seeds 100 --first 5000 --twice

  perdure sim --seed 4711

With --snapshots the worlds take snapshots, and lose the partition store for good now and then.

  perdure sim --snapshots --seeds 1000

With --nodes there are three to five nodes of a cluster, as they are, whose machines, processes,
disks, links and clocks fail.

  perdure sim --nodes --seeds 500 --jobs 2

With --histories the worlds are smaller and many times faster: handlers, retries, cancellations,
crashes and locks in any order, without network and disk.

  perdure sim --histories --seeds 100000 --jobs 2
"""

TRACE_LINES: Final = 60
_PROGRESS_SECONDS: Final = 2.0


def sim(
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="N", min=1, help="How many seeds to run.")
    ] = 100,
    first: Annotated[
        int, typer.Option("--first", metavar="N", min=0, help="The first of them.")
    ] = 0,
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="N", min=0, help="Run this one and print its trace."),
    ] = None,
    twice: Annotated[
        bool, typer.Option("--twice", help="Run each seed twice and compare the bytes.")
    ] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", metavar="N", min=1, max=64, help="Processes to run seeds in.")
    ] = 1,
    histories: Annotated[
        bool, typer.Option("--histories", help="Run generated histories, not whole worlds.")
    ] = False,
    snapshots: Annotated[
        bool, typer.Option("--snapshots", help="Run worlds that lose stores and have snapshots.")
    ] = False,
    nodes: Annotated[
        bool, typer.Option("--nodes", help="Run clusters of three to five nodes.")
    ] = False,
) -> None:
    """Run the command."""
    chosen = [
        kind
        for kind, wanted in (
            ("--histories", histories),
            ("--snapshots", snapshots),
            ("--nodes", nodes),
        )
        if wanted
    ]
    if len(chosen) > 1:
        raise typer.BadParameter(f"{' and '.join(chosen)} are different worlds: give one of them")
    run = _runner(histories=histories, snapshots=snapshots, nodes=nodes)
    kind = "".join(f" {item}" for item in chosen)
    again = f"perdure sim{kind} --seed"
    if seed is not None:
        raise typer.Exit(_run_one(run, seed, twice=twice, again=again))
    worlds = partial(run, twice=twice, keep_lines=TRACE_LINES)
    reports = _reports(worlds, range(first, first + seeds), jobs=jobs)
    raise typer.Exit(_run_many(reports, range(first, first + seeds), again=again))


def _runner(*, histories: bool, snapshots: bool, nodes: bool) -> "Callable[..., Report]":
    if nodes:
        from ...testing.simulation.nodes import run_nodes_seed_twice

        return run_nodes_seed_twice
    if histories:
        from ...testing.histories.run import run_history_twice

        return run_history_twice
    from ...testing.simulation.run import run_seed_twice
    from ...testing.simulation.world import WorldOptions

    return partial(run_seed_twice, options=WorldOptions(snapshots=snapshots))


def _run_one(run: "Callable[..., Report]", seed: int, *, twice: bool, again: str) -> int:
    report = run(seed, twice=twice)
    for line in report.lines:
        print(line)
    print(
        f"seed {seed}: {report.operations} operations, {report.lives} lives of the node, "
        f"{report.virtual_ns / 1e9:.3f} virtual seconds, bytes {report.digest}"
    )
    if report.violated:
        _print_failure(report, lines=0, again=again)
        return 1
    print("every promise held")
    return 0


def _run_many(reports: "Iterator[Report]", seeds: range, *, again: str) -> int:
    clock = SystemClock()
    started_ns = told_ns = clock.monotonic_ns()
    done = operations = 0
    failed: list[int] = []
    for report in reports:
        done += 1
        operations += report.operations
        if report.violated:
            failed.append(report.seed)
            _print_failure(report, lines=TRACE_LINES, again=again)
        now_ns = clock.monotonic_ns()
        if now_ns - told_ns > _PROGRESS_SECONDS * 1e9:
            told_ns = now_ns
            rate = done / ((now_ns - started_ns) / 1e9)
            print(f"{done}/{len(seeds)} seeds, {rate:.1f} seeds/s", file=sys.stderr)
    seconds = max((clock.monotonic_ns() - started_ns) / 1e9, 1e-9)
    print(
        f"seeds {seeds.start} to {seeds.stop - 1}: {done} run, {len(failed)} failed, "
        f"{operations} operations, {done / seconds:.1f} seeds/s"
    )
    if failed:
        print(f"failed: {', '.join(map(str, failed))}")
    return 1 if failed else 0


def _reports(run: "Callable[[int], Report]", seeds: range, *, jobs: int) -> "Iterator[Report]":
    """The reports of all seeds, in their order."""
    if jobs == 1:
        yield from map(run, seeds)
        return
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(run, seeds, chunksize=8)


def _print_failure(report: "Report", *, lines: int, again: str) -> None:
    print(f"\nseed {report.seed} FAILED: {report.violated}")
    if lines:
        print("\n".join(report.lines[-lines:]))
    print(report.detail.rstrip())
    print(f"run it again with: {again} {report.seed}\n")
