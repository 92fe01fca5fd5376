"""What piles up or rots over a node's many lives must not keep it from starting."""

import asyncio

import pytest

from perdure.core.ids import LogId
from perdure.core.storage.memory import MemoryStore
from perdure.partition_processor.log_trimmer import LogTrimmer
from perdure.sdk import Context, Service, app
from perdure.testing import InProcessNode

OPTIONS = ["partitions.count=1", "log.sync_inline=always"]
greeter = Service("Greeter")


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    return f"Hello {name}"


def fresh_stores() -> dict[str, MemoryStore]:
    return {name: MemoryStore() for name in ("log", "store", "metadata")}


def after_power_loss(stores: dict[str, MemoryStore]) -> dict[str, MemoryStore]:
    return {name: store.crash() for name, store in stores.items()}


def damage(log: MemoryStore, number: int) -> None:
    """Flip a bit in the record of this number; each has a batch of its own."""
    key, value = list(log.scan(b"d", b"e"))[number]
    log.write([(key, value[:-1] + bytes((value[-1] ^ 1,)))])
    log.sync()


def test_chains_stay_short_over_starts_that_do_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LogTrimmer, "SEGMENTS_KEPT", 8)

    async def scenario() -> None:
        stores = fresh_stores()
        longest = 0
        for _ in range(60):
            async with InProcessNode(options=OPTIONS, stores=dict(stores)) as node:
                log = await node.engine.logs.open(LogId(0))
                longest = max(longest, len(log.chain.segments))
            stores = after_power_loss(stores)
        assert 8 < longest <= 17

    asyncio.run(scenario())


def test_a_running_node_lets_old_segments_go_however_few_records_they_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(LogTrimmer, "SEGMENTS_KEPT", 8)

    async def scenario() -> None:
        options = [*OPTIONS, "log.trim_interval=10ms"]
        async with InProcessNode(options=options) as node:
            await node.add_worker(app([greeter]))
            log = await node.engine.logs.open(LogId(0))
            for _ in range(30):
                await node.call("Greeter", "greet", b'"Ann"')
                await log.reconfigure()
            while len(log.chain.segments) > 9:
                assert not node.failures
                await asyncio.sleep(0.005)
            await node.call("Greeter", "greet", b'"Ann"')

    asyncio.run(scenario())


@pytest.mark.parametrize("where", ["end of an old segment", "where trimming would end"])
def test_damage_in_what_was_applied_long_ago_stops_nobody(where: str) -> None:
    async def scenario() -> None:
        stores = fresh_stores()
        calls = 50 if where == "end of an old segment" else 400
        async with InProcessNode(options=OPTIONS, stores=dict(stores)) as node:
            await node.add_worker(app([greeter]))
            for _ in range(calls):
                await node.call("Greeter", "greet", b'"Ann"')
        stores = after_power_loss(stores)
        # Another segment follows, and the store is made durable with it.
        async with InProcessNode(options=OPTIONS, stores=dict(stores)):
            stores["store"].sync()
        stores = after_power_loss(stores)
        # Records 301 to 311: a few of the latest 500 are those of the starts.
        for number in [100] if where == "end of an old segment" else range(300, 311):
            damage(stores["log"], number)
        trimming = ["log.trim_interval=10ms", "log.keep_records=500"]
        for _ in range(2):
            options = [*OPTIONS, *trimming]
            async with InProcessNode(options=options, stores=dict(stores)) as node:
                await node.add_worker(app([greeter]))
                await node.call("Greeter", "greet", b'"Ann"')
                for _ in range(10):
                    await asyncio.sleep(0.01)
                assert node.failures == []
            stores = after_power_loss(stores)

    asyncio.run(scenario())
