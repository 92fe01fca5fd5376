"""A copy that is set aside stays so over restarts, until it is filled anew."""

import asyncio

import pytest

from perdure.core.storage.memory import MemoryStore
from perdure.partition_processor.errors import RefillRefusedError
from perdure.partition_processor.tables.aside import Aside, read_aside, write_aside
from perdure.testing import InProcessNode

from .machine import ONE, TAKES, TRIMS, Machine, busy, digest, first, grown, run, snapshot

RARELY = "log.trim_interval=1h"
DIFFERS = Aside(7, "its rows differ")


def set_aside(machine: Machine) -> None:
    """As a record has told; and the rows are wrong, too."""
    store = machine.stores["store"] = machine.stores["store"].reopen()
    write_aside(store, bytes(8), DIFFERS)
    store.write([(b"s" + bytes(8) + b"spoilt", b"x")])


async def leads(node: InProcessNode) -> None:
    async with asyncio.timeout(120):
        while not first(node).leading:
            assert first(node).role != "stopped", first(node).error
            await asyncio.sleep(0.001)


async def filled_anew(machine: Machine, node: InProcessNode, before: str) -> None:
    """Have it filled, and see that it is what it was before it was spoilt."""
    assert (first(node).role, first(node).error) == ("stopped", "PD0929 its rows differ")
    node.engine.manager.refill(0)
    await leads(node)
    assert read_aside(machine.stores["store"], bytes(8)) is None
    assert machine.stores["store"].get(b"s" + bytes(8) + b"spoilt") is None
    status = first(node).status()
    assert not status.aside
    assert status.counts
    await busy(node, 3)
    assert digest(node) != before
    with pytest.raises(RefillRefusedError, match="partition 0 is leader on"):
        node.engine.manager.refill(0)


def test_from_the_whole_log_where_there_is_no_snapshot() -> None:
    async def scenario(machine: Machine) -> None:
        async with machine.node(ONE, RARELY) as node:
            await busy(node, 5)
            before, lsn = digest(node), first(node).written_lsn
        set_aside(machine)
        # Over restarts, too.
        for _ in range(2):
            async with machine.node(ONE, RARELY) as node:
                assert (first(node).role, first(node).epoch) == ("stopped", 0)
                assert first(node).status().aside
                assert first(node).written_lsn == lsn
        async with machine.node(ONE, RARELY) as node:
            await filled_anew(machine, node, before)

    run(scenario)


def test_from_a_snapshot_where_the_log_is_trimmed() -> None:
    async def scenario(machine: Machine) -> None:
        _, before = await grown(machine)
        set_aside(machine)
        async with machine.node(ONE, TRIMS, *TAKES) as node:
            await filled_anew(machine, node, before)

    run(scenario)


def test_nothing_is_cleared_where_nothing_leads_to_the_end_of_the_log() -> None:
    async def scenario(machine: Machine) -> None:
        await grown(machine)
        set_aside(machine)
        rows = machine.rows()
        async with machine.node(ONE, TRIMS) as node:
            node.engine.manager.refill(0)
            async with asyncio.timeout(120):
                while not first(node).error.startswith("PD0924"):
                    await asyncio.sleep(0.001)
            assert first(node).role == "stopped"
        changed = {key for key, value in machine.rows().items() if rows.get(key) != value}
        assert changed == {b"z" + bytes(8)}
        # It was asked for, and is done once it can be.
        async with machine.node(ONE, TRIMS, *TAKES) as node:
            await leads(node)
            assert machine.stores["store"].get(b"s" + bytes(8) + b"spoilt") is None

    run(scenario)


def test_a_set_aside_copy_is_not_restored_unasked() -> None:
    """Its rows are what tells what went wrong."""

    async def scenario(machine: Machine) -> None:
        async with machine.node(ONE, TRIMS, *TAKES) as node:
            await busy(node, 5)
            old = dict(machine.stores["store"].scan(b"", b"\xff"))
            await busy(node, 5)
            manifest = await snapshot(node)
            log = first(node).log
            assert log is not None
            await log.trim(manifest.lsn)
        # It has come less far than what the log still has.
        machine.stores["store"] = MemoryStore(old)
        set_aside(machine)
        async with machine.node(ONE, TRIMS, *TAKES) as node:
            assert first(node).error == "PD0929 its rows differ"
            assert first(node).written_lsn < manifest.lsn

    run(scenario)
