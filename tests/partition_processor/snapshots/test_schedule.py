"""A running node: snapshots are taken on schedule, and logs are trimmed behind them."""

import asyncio
import threading
from collections.abc import Iterator
from itertools import pairwise

import pytest

from perdure.core.storage.memory import MemoryStore
from perdure.log import Record, VirtualLog
from perdure.partition_processor.snapshots.errors import (
    SnapshotRefusedError,
    SnapshotRepositoryError,
    SnapshotsOffError,
)
from perdure.partition_processor.snapshots.service import Snapshots
from perdure.partition_processor.snapshots.step_runner import StepRunner
from perdure.partition_processor.snapshots.writer import SnapshotWriter
from perdure.testing import InProcessNode
from perdure.testing.simulation.files import SimulationFiles

from ..support import Partition, greet
from .lab import PLACE, archive_on, writer_of
from .machine import ONE, TAKES, TRIMS, Machine, busy, first, run, snapshot, trimmed, until_durable

# Trimming --------------------------------------------------------------------------------------


def test_a_log_is_trimmed_no_further_than_its_newest_snapshot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trims: list[tuple[int, int]] = []
    trim = VirtualLog.trim

    async def scenario(machine: Machine) -> None:
        async with machine.node(ONE, TRIMS, *TAKES) as node:
            snapshots = node.engine.snapshots

            async def noting_trim(self: VirtualLog, last_lsn: int) -> int:
                trims.append((last_lsn, snapshots.archived_lsn(0) or 0))
                return await trim(self, last_lsn)

            monkeypatch.setattr(VirtualLog, "trim", noting_trim)
            node.engine._trimmer.RECORDS_MIN = 1  # type: ignore[misc]
            await busy(node, 20)
            await until_durable(node)
            log = first(node).log
            assert log is not None
            assert log.trim_point_lsn == 0
            # With nothing applied since, the snapshot alone sets the trimmer going.
            manifest = await snapshot(node)
            await trimmed(node, manifest.lsn)
            await busy(node, 20)
            await until_durable(node)
            assert log.trim_point_lsn == manifest.lsn

    run(scenario)
    assert trims
    assert all(lsn <= archived for lsn, archived in trims)


def test_a_snapshot_of_what_is_not_durable_trims_nothing_yet() -> None:
    async def scenario(machine: Machine) -> None:
        async with machine.node(ONE, "log.trim_interval=1h", *TAKES) as node:
            await busy(node, 20)
            await snapshot(node)
            await node.engine._trimmer._trim()
            log = first(node).log
            assert log is not None
            assert log.trim_point_lsn == first(node).durable_lsn == 0

    run(scenario)


def test_many_starts_shorten_a_log_no_further_than_its_snapshot() -> None:
    async def scenario(machine: Machine) -> None:
        async with machine.node(ONE, *TAKES) as node:
            await busy(node, 5)
            manifest = await snapshot(node)
            await busy(node, 5)
            log = first(node).log
            assert log is not None
            for number in range(520):
                # An epoch below the leader's has no effect when it is applied.
                await log.append([Record(999, b"", (), 0, None, number)])
                await log.reconfigure()
        async with machine.node(ONE, *TAKES) as node:
            log = first(node).log
            assert log is not None
            assert log.trim_point_lsn == manifest.lsn
        machine.wipe()
        async with machine.node(ONE, *TAKES) as node:
            assert first(node).leading

    run(scenario)


# Schedule --------------------------------------------------------------------------------------


async def checked(node: InProcessNode) -> None:
    """Look whether snapshots are due, and wait for those that are."""
    snapshots = node.engine.snapshots
    assert snapshots._timer is not None
    snapshots._timer.cancel()
    snapshots._check()
    while snapshots._round_running:
        await asyncio.sleep(0.001)


def test_snapshots_are_taken_after_so_many_records() -> None:
    async def scenario(machine: Machine) -> None:
        options = (*TAKES, "snapshots.interval_records=20", "snapshots.kept=3")
        async with machine.node(ONE, *options) as node:
            taken: list[int] = []
            for _ in range(12):
                await busy(node, 5)
                await checked(node)
                last = node.engine.snapshots.last(0)
                taken += [last.lsn] if last is not None and last.lsn not in taken else []
            assert len(taken) >= 4
            assert all(b - a >= 20 for a, b in pairwise(taken))
            found, problems = await node.engine.snapshots.list_complete([0])
            assert [manifest.lsn for manifest in found] == taken[:-4:-1]
            assert problems == []

    run(scenario)


def test_snapshots_are_taken_after_so_long_if_anything_was_applied() -> None:
    async def scenario(machine: Machine) -> None:
        options = (
            f"snapshots.directory={PLACE}",
            "snapshots.interval=10m",
            "snapshots.interval_records=0",
        )
        minute_ns = 60 * 10**9
        async with machine.node(ONE, *options) as node:
            snapshots = node.engine.snapshots
            await busy(node, 5)
            machine.clock.advance(9 * minute_ns)
            await checked(node)
            assert snapshots.last(0) is None
            machine.clock.advance(minute_ns)
            await checked(node)
            first_one = snapshots.last(0)
            assert first_one is not None
            assert snapshots.figures()[0].age_seconds == 0
            machine.clock.advance(11 * minute_ns)
            await checked(node)
            assert snapshots.last(0) == first_one
            assert snapshots.figures()[0].age_seconds == 660
            await busy(node, 1)
            await checked(node)
            assert snapshots.last(0) != first_one
            assert await snapshots.create(first(node)) == (snapshots.last(0), False)

    run(scenario)


def test_a_snapshot_that_failed_is_tried_again_after_a_while() -> None:
    async def scenario(machine: Machine) -> None:
        options = (*TAKES, "snapshots.interval_records=1")
        async with machine.node(ONE, *options) as node:
            snapshots = node.engine.snapshots
            await busy(node, 2)
            machine.files.fail_at(2, poison=False)
            await checked(node)
            await checked(node)
            assert (snapshots.last(0), snapshots.failures) == (None, 1)
            machine.clock.advance(int(Snapshots.RETRY_SECONDS * 10**9))
            await checked(node)
            assert snapshots.last(0) is not None
            assert not node.failures

    run(scenario)


def test_nothing_is_taken_without_a_directory() -> None:
    async def scenario(machine: Machine) -> None:
        async with machine.node(ONE, "snapshots.interval_records=1") as node:
            await busy(node, 5)
            assert node.engine.snapshots._timer is None
            assert node.engine.snapshots.archived_lsn(0) is None
            with pytest.raises(SnapshotsOffError, match=r"set snapshots\.directory"):
                await node.engine.snapshots.create(first(node))
        assert machine.files.paths() == []

    run(scenario)


def test_a_node_that_stops_gives_its_snapshot_up(monkeypatch: pytest.MonkeyPatch) -> None:
    next_rows = SnapshotWriter._next_rows

    def endless(self: SnapshotWriter) -> list[tuple[bytes, bytes]]:
        return next_rows(self) or [(b"s", b"")]

    async def scenario(machine: Machine) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(SnapshotWriter, "_next_rows", endless)
            async with machine.node(ONE, *TAKES) as node:
                await busy(node, 5)
                task = asyncio.ensure_future(node.engine.snapshots.create(first(node)))
                while (writer := node.engine.snapshots._writer) is None:
                    await asyncio.sleep(0)
                node.engine.snapshots.stop()
                # At once: the store is closed next, and must not be read by then.
                assert writer._scans is None
            with pytest.raises(SnapshotRefusedError):
                await task
        async with machine.node(ONE, *TAKES) as node:
            assert node.engine.snapshots.last(0) is None
            manifest = await snapshot(node)
            assert await node.engine.snapshots.list_complete([0]) == ([manifest], [])
        # What was left unfinished went with the next one.
        assert all(manifest.name in path for path in machine.files.paths() if "rows" in path)

    run(scenario)


def test_a_snapshot_that_is_given_up_waits_for_the_rows_that_are_being_read() -> None:
    reading, go_on = threading.Event(), threading.Event()

    class SlowStore(MemoryStore):
        def scan(
            self, start: bytes, end: bytes, *, reverse: bool = False
        ) -> Iterator[tuple[bytes, bytes]]:
            for row in super().scan(start, end, reverse=reverse):
                reading.set()
                go_on.wait()
                yield row

    partition = Partition(SlowStore())
    partition.apply(greet(1))
    writer = writer_of(archive_on(SimulationFiles()), partition)
    thread = threading.Thread(target=writer.step)
    thread.start()
    reading.wait()
    ending = threading.Thread(target=writer.abandon)
    ending.start()
    ending.join(0.05)
    assert ending.is_alive()
    go_on.set()
    ending.join()
    thread.join()

    assert writer._scans is None


def test_a_directory_that_hangs_keeps_nobody_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    class HangingFiles(SimulationFiles):
        def read(self, path: str, offset: int, size: int) -> bytes | None:
            go_on.wait()
            return super().read(path, offset, size)

    async def scenario(machine: Machine) -> None:
        machine.files = HangingFiles()
        monkeypatch.setattr(StepRunner, "STEP_SECONDS_MAX", 0.02)
        async with machine.node(ONE, *TAKES) as node:
            await busy(node, 1)
            with pytest.raises(SnapshotRepositoryError, match=r"no answer within 0\.02 s"):
                await snapshot(node)
            assert node.engine.snapshots.archived_lsn(0) == 0
            go_on.set()
            monkeypatch.undo()
            assert (await snapshot(node)).rows > 0

    try:
        run(scenario)
    finally:
        go_on.set()
