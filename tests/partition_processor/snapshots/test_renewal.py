"""What is kept on lost disks goes by itself: a snapshot is taken, and the log trimmed behind it."""

import asyncio

import pytest

from perdure.node.engine import NodeEngine
from perdure.partition_processor.processor import PartitionProcessor

from .machine import ONE, TAKES, TRIMS, Machine, busy, first, run

KEEPS = "log.keep_records=10000"


def want(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Up to where the log is kept where it should not be, from now on as a test says."""
    wanted = {"lsn": 0}

    def through(_engine: NodeEngine, _processor: PartitionProcessor) -> int:
        return wanted["lsn"]

    monkeypatch.setattr(NodeEngine, "renewable_through", through)
    return wanted


def test_a_snapshot_is_taken_and_the_log_trimmed_whatever_stays_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = want(monkeypatch)

    async def scenario(machine: Machine) -> None:
        async with machine.node(ONE, TRIMS, KEEPS, *TAKES) as node:
            node.engine.snapshots.CHECK_SECONDS = 0.01  # type: ignore[misc]
            await busy(node, 10)
            assert node.engine.snapshots.last(0) is None
            # Nothing is applied after this, and nothing is due by the schedule.
            wanted["lsn"] = 7
            log = first(node).log
            assert log is not None
            # So few records are worth a trim for this alone.
            while log.trim_point_lsn < 7:
                assert not node.failures
                await asyncio.sleep(0.005)
            assert log.trim_point_lsn == 7
            last = node.engine.snapshots.last(0)
            assert last is not None
            assert last.lsn >= 7
            # It is done with, and no further one is taken.
            await busy(node, 10)
            assert node.engine.snapshots.last(0) == last

    run(scenario)


def test_without_a_place_for_snapshots_nothing_is_trimmed_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = want(monkeypatch)
    wanted["lsn"] = 7
    monkeypatch.setattr(NodeEngine, "archived_lsn", lambda *_: 0)  # As in a cluster.

    async def scenario(machine: Machine) -> None:
        async with machine.node(ONE, TRIMS, KEEPS) as node:
            await busy(node, 10)
            await node.engine._trimmer._trim()
            log = first(node).log
            assert log is not None
            assert log.trim_point_lsn == 0

    run(scenario)
