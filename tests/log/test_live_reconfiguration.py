"""Live reconfiguration under load: the provider changes again and again while many append."""

import asyncio

import pytest

from perdure.core.clock import SystemClock
from perdure.core.random import SeededRandom
from perdure.core.storage.memory import MemoryStore
from perdure.log import (
    Committed,
    LogEntry,
    LogReader,
    ProducerFilter,
    VirtualLog,
)
from perdure.log.appender import Appender

from .support import turns
from .virtual import House, body, rec, run

APPENDERS = 64
EACH = 200


async def produce(log: VirtualLog, number: int, random: SeededRandom) -> dict[int, int]:
    """Append `EACH` records; LSN to record of those that were acknowledged."""
    acknowledged: dict[int, int] = {}
    loop = asyncio.get_running_loop()
    async with Appender(log, number.to_bytes(16), loop=loop) as appender:
        for first in range(0, EACH, 4):
            records = [number * 1000 + first + index for index in range(4)]
            answers = [await appender.submit([rec(record)]) for record in records]
            for record, answer in zip(records, answers, strict=True):
                committed = await answer
                assert type(committed) is Committed
                acknowledged[committed.first_lsn] = record
            await turns(random.bits(3))
    return acknowledged


async def produce_plainly(log: VirtualLog, number: int) -> dict[int, int]:
    """The same with `append` alone, one at a time and without a producer."""
    acknowledged: dict[int, int] = {}
    for index in range(EACH):
        committed = await log.append([rec(number * 1000 + index)])
        assert type(committed) is Committed
        acknowledged[committed.first_lsn] = number * 1000 + index
    return acknowledged


@pytest.mark.parametrize("seed", range(2))
def test_what_was_acknowledged_is_what_is_read_and_in_order(seed: int) -> None:
    async def scenario(house: House) -> None:
        random = SeededRandom(seed)
        log = await house.log()
        view = await house.view()
        done = False

        async def reconfigure() -> int:
            count = 0
            while not done:
                await log.reconfigure(("memory", "local")[count % 2])
                count += 1
                await turns(1 + random.bits(2))
            return count

        async def follow(source: VirtualLog) -> dict[int, int]:
            found: dict[int, int] = {}
            accepted = ProducerFilter()
            async for item in LogReader(source, to_lsn=APPENDERS * EACH):
                assert isinstance(item, LogEntry)
                assert accepted.accept(item.record)
                assert item.lsn == len(found) + 1
                found[item.lsn] = body(item.record)
            return found

        changing = asyncio.ensure_future(reconfigure())
        following = [asyncio.ensure_future(follow(source)) for source in (log, view)]
        acknowledged: dict[int, int] = {}
        load = [produce(log, number, random) for number in range(APPENDERS // 2)]
        plain = [produce_plainly(log, number) for number in range(APPENDERS // 2, APPENDERS)]
        for part in await asyncio.gather(*load, *plain):
            assert not acknowledged.keys() & part.keys()
            acknowledged |= part
        done = True
        assert await changing > 30
        for reading in following:
            found = await reading
            assert found == acknowledged
            for number in range(APPENDERS):
                own = [record % 1000 for record in found.values() if record // 1000 == number]
                assert own == list(range(EACH))

    run(scenario, clock=SystemClock(), store=MemoryStore())
