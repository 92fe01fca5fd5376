"""Partitions that follow or take the lead while their logs are trimmed elsewhere."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from perdure.core.ids import InvocationId, LogId
from perdure.log.types import LogTail
from perdure.log.virtual_log import VirtualLog
from perdure.partition_processor import role_changes
from perdure.partition_processor.leadership import LeaderClaim
from perdure.partition_processor.processor import PartitionProcessor
from perdure.partition_processor.records import KILL, Kill, Once, encode_command
from perdure.partition_processor.tables import keys
from perdure.testing import InProcessNode

from .machine import ONE, TAKES, Machine, busy, digest, first, run, snapshot

RARELY = "log.trim_interval=1h"


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that is going to be so."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


async def become(node: InProcessNode, role: str) -> None:
    """Place partition 0, and wait until it is there."""
    node.engine.manager.apply_placement({0: role})  # type: ignore[dict-item]
    await until(lambda: first(node).role == role)


async def emptied(machine: Machine, node: InProcessNode) -> None:
    """Lose the rows of partition 0, as on a node that gets it for the first time."""
    await become(node, "absent")
    machine.stores["store"].delete_range(b"", b"\xff")
    node.engine.manager.read_anew(0)
    assert first(node).next_lsn == 1


async def trim(node: InProcessNode, lsn: int) -> None:
    """What the leader does, wherever it is."""
    log = await node.engine.logs.open(LogId(0))
    assert await log.trim(lsn) == lsn


def after_prepare(
    patch: pytest.MonkeyPatch, node: InProcessNode, then: Callable[[], Awaitable[None]]
) -> list[int]:
    """Have something happen once, between the preparation of a partition and its first read."""
    prepare = node.engine.snapshots.prepare
    prepared: list[int] = []

    async def prepared_once(processor: PartitionProcessor, log: VirtualLog) -> None:
        await prepare(processor, log)
        prepared.append(processor.written_lsn)
        if len(prepared) == 1:
            await then()

    patch.setattr(node.engine.snapshots, "prepare", prepared_once)
    return prepared


@pytest.mark.parametrize("role", ["follower", "leader"])
def test_a_partition_that_comes_to_a_node_is_restored_before_it_reads(role: str) -> None:
    async def scenario(machine: Machine) -> None:
        async with machine.node(ONE, RARELY, *TAKES) as node:
            await busy(node, 6)
            manifest = await snapshot(node)
            await busy(node, 2)
            lsn, before = first(node).written_lsn, digest(node)
            await emptied(machine, node)
            await trim(node, manifest.lsn)
            await become(node, role)
            await until(lambda: first(node).written_lsn >= lsn)
            if role == "follower":
                assert (first(node).written_lsn, digest(node)) == (lsn, before)
                await become(node, "leader")
            counted = await node.call("Counter", "add", b"1", key="k")
            assert counted.value == b"9"

    run(scenario)


@pytest.mark.parametrize("role", ["follower", "leader"])
def test_a_log_that_is_trimmed_before_it_is_read_has_the_partition_restored(
    role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(machine: Machine) -> None:
        async with machine.node(ONE, RARELY, *TAKES) as node:
            await busy(node, 6)
            manifest = await snapshot(node)
            await busy(node, 2)
            lsn, before = first(node).written_lsn, digest(node)
            archive = node.engine.snapshots._archive

            async def trimmed() -> None:
                """The leader elsewhere has its first snapshot only now, and trims at once."""
                node.engine.snapshots._archive = archive
                await trim(node, manifest.lsn)

            await emptied(machine, node)
            node.engine.snapshots._archive = None
            prepared = after_prepare(monkeypatch, node, trimmed)
            await become(node, role)
            await until(lambda: len(prepared) == 2 and first(node).written_lsn >= lsn)
            assert prepared == [0, manifest.lsn]
            if role == "follower":
                assert digest(node) == before
                await become(node, "leader")
            counted = await node.call("Counter", "add", b"1", key="k")
            assert counted.value == b"9"

    run(scenario)


def test_a_log_that_is_trimmed_while_the_lead_is_claimed_has_the_partition_restored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(machine: Machine) -> None:
        async with machine.node(ONE, RARELY, *TAKES) as node:
            await busy(node, 6)
            manifest = await snapshot(node)
            claim = role_changes.claim_leadership
            claims: list[LeaderClaim] = []

            async def claimed(*arguments: Any) -> LeaderClaim:
                claims.append(await claim(*arguments))
                await trim(node, manifest.lsn)
                return claims[-1]

            async def nothing_read(*_: Any, **__: Any) -> None:
                """Reading fails for now, as where the log needs the seal that follows."""

            archive = node.engine.snapshots._archive

            async def found() -> None:
                node.engine.snapshots._archive = archive

            await emptied(machine, node)
            node.engine.snapshots._archive = None

            prepared = after_prepare(monkeypatch, node, found)
            monkeypatch.setattr(role_changes, "claim_leadership", claimed)
            monkeypatch.setattr(role_changes, "catch_up", nothing_read)
            await become(node, "leader")
            assert prepared == [0, manifest.lsn]
            # The epoch that was claimed is used by the next try.
            assert [claim.epoch for claim in claims] == [first(node).epoch]
            counted = await node.call("Counter", "add", b"1", key="k")
            assert counted.value == b"7"

    run(scenario)


def test_a_partition_that_no_snapshot_is_left_of_stops_and_says_so() -> None:
    async def scenario(machine: Machine) -> None:
        async with machine.node(ONE, RARELY, *TAKES) as node:
            await busy(node, 3)
            lsn = first(node).written_lsn
            await emptied(machine, node)
            await trim(node, lsn)
            node.engine.manager.apply_placement({0: "follower"})
            await until(lambda: first(node).role == "stopped")
            assert first(node).error.startswith("PD0924")
            # Placed elsewhere and back it tries again.
            await become(node, "absent")
            node.engine.manager.apply_placement({0: "leader"})
            await until(lambda: first(node).role == "stopped")
            assert not node.failures

    run(scenario)


def test_a_snapshot_that_is_taken_elsewhere_meanwhile_is_not_ahead_of_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(machine: Machine) -> None:
        async with machine.node(ONE, RARELY, *TAKES) as node:
            await busy(node, 3)
            await snapshot(node)
            log = first(node).log
            assert log is not None
            find_tail, looks = log.find_tail, 0

            async def overtaken() -> LogTail:
                """Between this look and the next step, the leader goes on and takes another one."""
                nonlocal looks
                looks += 1
                tail = await find_tail()
                await busy(node, 2)
                await snapshot(node)
                return tail

            replica = node.engine.manager._make_processor(0)
            machine.stores["store"].write([(keys.PROGRESS + replica.own.first, None)])
            replica.read_progress()
            monkeypatch.setattr(log, "find_tail", overtaken)
            await node.engine.snapshots.prepare(replica, log)
            assert looks == 2
            assert (replica.role, replica.error) == ("absent", "")
            assert replica.written_lsn > 0

    run(scenario)


def test_outcomes_of_operations_are_in_a_snapshot() -> None:
    async def scenario(machine: Machine) -> None:
        outcomes: list[object] = []
        kill = encode_command(Kill(InvocationId(bytes(24))))
        async with machine.node(ONE, RARELY, *TAKES) as node:
            await busy(node, 1)
            asked = machine.clock.time_ns().to_bytes(8, "big")
            once = Once(asked + bytes(8), KILL, kill)
            first(node).operate(once, outcomes.append)
            await until(lambda: len(outcomes) == 1)
            row = keys.operation_row(first(node).own.first, once.operation_id)
            known = machine.stores["store"].get(row)
            assert known is not None
            manifest = await snapshot(node)
            await trim(node, manifest.lsn)
        machine.wipe()
        async with machine.node(ONE, RARELY, *TAKES) as node:
            assert first(node).leading
            assert machine.stores["store"].get(row) == known
            first(node).operate(once, outcomes.append)
            await until(lambda: len(outcomes) == 2)
            assert outcomes[0] == outcomes[1]

    run(scenario)
