"""Trimming behind the partition store: as far as it is durable, never further."""

import asyncio

import pytest

from perdure.core.ids import LogId
from perdure.core.storage.memory import MemoryStore
from perdure.ingress.requests import Completed
from perdure.log import VirtualLog
from perdure.partition_processor.log_trimmer import LogTrimmer
from perdure.sdk import Context, Service, app
from perdure.testing import InProcessNode

greeter = Service("Greeter")

OPTIONS = ["partitions.count=1", "log.sync_inline=always", "log.trim_interval=10ms"]


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    return f"Hello {name}"


async def busy(node: InProcessNode, calls: int) -> None:
    await node.add_worker(app([greeter]))
    for _ in range(calls):
        assert isinstance(await node.call("Greeter", "greet", b'"Ann"'), Completed)


async def trimmed(node: InProcessNode, lsn: int) -> VirtualLog:
    log = await node.engine.logs.open(LogId(0))
    while log.trim_point_lsn < lsn:
        assert not node.failures
        await asyncio.sleep(0.005)
    return log


def test_a_busy_log_is_trimmed_behind_the_durable_store() -> None:
    async def scenario() -> None:
        stores = {name: MemoryStore() for name in ("log", "store", "metadata")}
        options = [*OPTIONS, "log.keep_records=0"]
        async with InProcessNode(options=options, stores=dict(stores)) as node:
            await busy(node, 300)
            log = await trimmed(node, LogTrimmer.RECORDS_MIN)
            processor = node.engine.manager.processors[0]
            assert log.trim_point_lsn <= processor.durable_lsn <= processor.written_lsn
            rows = [key for key, _ in stores["log"].scan(b"d", b"e")]
            # Each record of these calls came alone, so it is a batch of its own.
            assert len(rows) == log.committed_tail_lsn - 1 - log.trim_point_lsn

        # What was trimmed is in the store, and a new node goes on from there.
        survivors = {name: store.crash() for name, store in stores.items()}
        async with InProcessNode(options=options, stores=dict(survivors)) as node:
            status = node.engine.manager.partitions()[0]
            assert status.invocations["completed"] == 300
            await busy(node, 1)

    asyncio.run(scenario())


def test_some_records_stay_to_be_looked_at() -> None:
    async def scenario() -> None:
        async with InProcessNode(options=[*OPTIONS, "log.keep_records=100"]) as node:
            await busy(node, 300)
            log = await trimmed(node, LogTrimmer.RECORDS_MIN)
            assert log.committed_tail_lsn - 1 - log.trim_point_lsn >= 100

    asyncio.run(scenario())


def test_the_store_is_synced_between_reading_how_far_it_is_and_trimming(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events: list[tuple[str, int]] = []
    applied = [0]
    trim = VirtualLog.trim

    async def noting_trim(self: VirtualLog, last_lsn: int) -> int:
        events.append(("trim", last_lsn))
        return await trim(self, last_lsn)

    class NotingStore(MemoryStore):
        def sync(self) -> None:
            events.append(("sync", applied[0]))
            super().sync()

    async def scenario() -> None:
        stores = {"store": NotingStore(), "log": MemoryStore(), "metadata": MemoryStore()}
        options = [*OPTIONS, "log.keep_records=0"]
        async with InProcessNode(options=options, stores=dict(stores)) as node:
            processor = node.engine.manager.processors[0]
            await node.add_worker(app([greeter]))
            for _ in range(400):
                await node.call("Greeter", "greet", b'"Ann"')
                applied[0] = processor.written_lsn
            await trimmed(node, LogTrimmer.RECORDS_MIN)

    monkeypatch.setattr(VirtualLog, "trim", noting_trim)
    asyncio.run(scenario())

    synced = 0
    trims = 0
    for kind, lsn in events:
        if kind == "sync":
            # At least this much was written when the sync began; two records may be newer.
            synced = lsn + 2
        else:
            trims += 1
            assert lsn <= synced
    assert trims > 0


def test_a_store_that_cannot_be_synced_stops_the_node() -> None:
    async def scenario() -> None:
        stores = {name: MemoryStore() for name in ("log", "store", "metadata")}
        async with InProcessNode(options=OPTIONS, stores=dict(stores)) as node:
            stores["store"].fail_next_sync()
            while not node.failures:
                await asyncio.sleep(0.005)
            assert "sync" in str(node.failures[0])
            log = await node.engine.logs.open(LogId(0))
            assert log.trim_point_lsn == 0

    asyncio.run(scenario())
