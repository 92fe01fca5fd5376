"""Who begins to lead a partition finds the newest snapshot that others have taken."""

from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from perdure.partition_processor.snapshots.archive import Archive
from perdure.partition_processor.snapshots.errors import (
    SnapshotCorruptError,
    SnapshotRepositoryError,
)
from perdure.partition_processor.snapshots.manifest import Manifest
from perdure.partition_processor.snapshots.newest import NewestSnapshots
from perdure.testing import InProcessNode

from .machine import ONE, TAKES, Machine, busy, first, run, snapshot
from .test_roles import RARELY, become
from .test_schedule import checked

OFTEN = "snapshots.interval_records=20"


def forgotten(node: InProcessNode) -> None:
    """As if another node had taken what this one has taken."""
    node.engine.snapshots._newest = NewestSnapshots()


async def led_anew(node: InProcessNode) -> None:
    """Follow for a while, and lead again."""
    await become(node, "follower")
    await become(node, "leader")


def test_what_another_node_has_taken_is_not_taken_again() -> None:
    async def scenario(machine: Machine) -> None:
        async with machine.node(ONE, RARELY, OFTEN, *TAKES) as node:
            await busy(node, 20)
            manifest = await snapshot(node)
            forgotten(node)
            await led_anew(node)
            assert first(node).written_lsn > manifest.lsn
            await checked(node)
            assert node.engine.snapshots.last(0) == manifest
            assert node.engine.archived_lsn(0) == manifest.lsn

    run(scenario)


def test_each_lead_looks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    latest = Archive.latest

    def counting(self: Archive, partition: int) -> Manifest | None:
        looks.append(partition)
        return latest(self, partition)

    async def scenario(machine: Machine) -> None:
        async with machine.node(ONE, RARELY, *TAKES) as node:
            await checked(node)
            monkeypatch.setattr(Archive, "latest", counting)
            await checked(node)
            assert looks == []
            await become(node, "follower")
            await checked(node)
            assert looks == []
            await become(node, "leader")
            await checked(node)
            await checked(node)
            assert looks == [0]

    run(scenario)


@pytest.mark.parametrize("out_of_reach", [True, False])
def test_what_cannot_be_read_is_looked_for_later_if_that_may_help(
    out_of_reach: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def failing(_self: Archive, partition: int) -> Manifest | None:
        looks.append(partition)
        if out_of_reach:
            raise SnapshotRepositoryError("the mount hangs")
        raise SnapshotCorruptError("latest is damaged")

    async def scenario(machine: Machine) -> None:
        async with machine.node(ONE, RARELY, *TAKES) as node:
            await busy(node, 20)
            manifest = await snapshot(node)
            forgotten(node)
            await led_anew(node)
            with monkeypatch.context() as patch:
                patch.setattr(Archive, "latest", failing)
                await checked(node)
                await checked(node)
                assert looks == [0]
                assert node.engine.archived_lsn(0) == 0
            machine.clock.advance(int(node.engine.snapshots.RETRY_SECONDS * 1e9))
            await checked(node)
            assert node.engine.archived_lsn(0) == (manifest.lsn if out_of_reach else 0)

    run(scenario)


def partition(**fields: Any) -> Any:
    """A partition that is led here."""
    values = {"partition": 0, "leading": True, "role": "leader", "epoch": 3, "written_lsn": 10}
    return cast(Any, SimpleNamespace(**values | fields))


def test_neither_an_older_snapshot_nor_one_of_another_history_counts() -> None:
    async def scenario(machine: Machine) -> None:
        async with machine.node(ONE, RARELY, *TAKES) as node:
            await busy(node, 2)
            taken = await snapshot(node)
        newest = NewestSnapshots()
        for lsn, known in ((11, None), (7, 7), (10, 10), (9, 10), (11, 10)):
            newest.found(partition(), 3, msgspec.structs.replace(taken, lsn=lsn))
            last = newest.get(0)
            assert (None if last is None else last.lsn) == known
        assert not newest.is_to_be_looked_for(partition())
        assert newest.is_to_be_looked_for(partition(epoch=4))
        assert not newest.is_to_be_looked_for(partition(epoch=4, leading=False))

    run(scenario)


def test_figures_are_those_of_partitions_that_are_led_here() -> None:
    async def scenario(machine: Machine) -> None:
        async with machine.node(ONE, RARELY, *TAKES) as node:
            manifest = await snapshot(node)
            figures = node.engine.snapshots.figures
            assert [item.lsn for item in figures()] == [manifest.lsn]
            await become(node, "follower")
            assert figures() == []

    run(scenario)
