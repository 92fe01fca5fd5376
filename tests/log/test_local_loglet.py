"""The local loglet: order, batching, durability before visibility, and crashes at every instant."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from perdure.core.errors import StorageCorruptError, StorageError
from perdure.core.random import SeededRandom
from perdure.core.storage.memory import MemoryStore
from perdure.core.storage.rocks import RocksStore
from perdure.log.batch_codec import batch_key
from perdure.log.errors import LogClosedError, RecordTooLargeError
from perdure.log.types import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, RECORD_BYTES_MAX, Record

from .support import LogOnStore, numbers, record, turns


@pytest.fixture(params=["memory", "rocks"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MemoryStore | RocksStore]:
    kind: Literal["memory", "rocks"] = request.param
    made = MemoryStore() if kind == "memory" else RocksStore.open(tmp_path / "log")
    yield made
    made.close()


def test_records_of_one_turn_are_one_batch_and_one_sync(store: MemoryStore | RocksStore) -> None:
    async def scenario() -> None:
        log = LogOnStore(store)
        first, second = log.loglet(1), log.loglet(2)
        offsets = [first.enqueue(record(number)) for number in range(5)]
        second.enqueue(record(9))
        assert first.find_tail().offset == 1
        await turns()

        assert offsets == [1, 2, 3, 4, 5]
        assert [len(batch.records) for batch in log.committed[1]] == [5]
        assert numbers(log.committed[2]) == [9]
        assert (log.writer.syncs, log.writer.batches, log.measured.records) == (1, 2, 6)
        assert log.turns == 1
        assert first.find_tail().offset == 6
        log.writer.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("mode", ["always", "never"])
def test_commits_come_in_order_whatever_the_sync_mode(
    store: MemoryStore | RocksStore, mode: Literal["always", "never"]
) -> None:
    async def scenario() -> None:
        log = LogOnStore(store, mode=mode)
        loglet = log.loglet()
        for number in range(1, 201):
            assert loglet.enqueue(record(number)) == number
            if number % 7 == 0:
                await asyncio.sleep(0)
        while loglet.find_tail().offset < 201:
            await asyncio.sleep(0)

        assert numbers(log.committed[1]) == list(range(1, 201))
        assert log.writer.syncs <= log.writer.batches
        log.writer.close()

    asyncio.run(scenario())


def test_reading_starts_with_the_batch_that_holds_the_offset(
    store: MemoryStore | RocksStore,
) -> None:
    async def scenario() -> None:
        log = LogOnStore(store)
        loglet = log.loglet()
        for start in (1, 4, 7):
            for number in range(start, start + 3):
                loglet.enqueue(record(number))
            await turns()

        assert [batch.first_offset for batch in loglet.read(5)] == [4, 7]
        assert [batch.first_offset for batch in loglet.read(1, bytes_max=1)] == [1]
        assert loglet.read(10) == []
        log.writer.close()

    asyncio.run(scenario())


def test_a_reopened_loglet_goes_on_where_it_was(store: MemoryStore | RocksStore) -> None:
    async def scenario() -> None:
        log = LogOnStore(store)
        log.clock.advance(1_000)
        loglet = log.loglet()
        for number in (1, 2, 3):
            loglet.enqueue(record(number))
        await turns()
        last_time_ns = log.committed[1][-1].record_time_ns
        log.writer.close()

        again = LogOnStore(store)  # Its clock is behind the first one's.
        loglet = again.loglet()
        assert loglet.find_tail().offset == 4
        assert loglet.enqueue(record(4)) == 4
        await turns()
        assert again.committed[1][-1].record_time_ns == last_time_ns
        assert numbers(loglet.read(1)) == [1, 2, 3, 4]
        again.writer.close()

    asyncio.run(scenario())


def test_batches_keep_to_their_limits() -> None:
    async def scenario() -> None:
        log = LogOnStore(MemoryStore())
        loglet = log.loglet()
        for number in range(BATCH_RECORDS_MAX + 1):
            loglet.enqueue(record(number))
        await turns()
        assert [len(batch.records) for batch in log.committed[1]] == [BATCH_RECORDS_MAX, 1]

        for number in range(3):
            loglet.enqueue(record(number, size=BATCH_BYTES_MAX // 2))
        loglet.enqueue(record(3, size=BATCH_BYTES_MAX * 2))
        await turns()
        assert [len(batch.records) for batch in log.committed[1][2:]] == [2, 1, 1]
        assert log.writer.syncs == 2
        log.writer.close()

    asyncio.run(scenario())


def test_a_record_over_the_limit_is_refused_and_takes_no_offset() -> None:
    async def scenario() -> None:
        log = LogOnStore(MemoryStore())
        loglet = log.loglet()
        with pytest.raises(RecordTooLargeError, match=str(RECORD_BYTES_MAX)):
            loglet.enqueue(Record(1, bytes(RECORD_BYTES_MAX + 1), (), 1, None, 1))

        assert loglet.enqueue(record(1)) == 1
        await turns()
        log.writer.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("fault", ["fail_next_write", "fail_next_sync"])
@pytest.mark.parametrize("mode", ["always", "never"])
def test_a_failing_disk_stops_acknowledging(fault: str, mode: Literal["always", "never"]) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        log = LogOnStore(store, mode=mode)
        loglet = log.loglet()
        loglet.enqueue(record(1))
        while loglet.find_tail().offset < 2:
            await asyncio.sleep(0)
        getattr(store, fault)()
        loglet.enqueue(record(2))
        while not log.failures:
            await asyncio.sleep(0)

        assert numbers(log.committed[1]) == [1]
        assert loglet.find_tail().offset == 2
        with pytest.raises(LogClosedError):
            loglet.enqueue(record(3))
        assert len(log.failures) == 1
        assert isinstance(log.failures[0], StorageError)
        log.writer.close()

        reopened = LogOnStore(store.crash())
        assert numbers(reopened.loglet().read(1)) == [1]
        reopened.writer.close()

    asyncio.run(scenario())


def test_whatever_a_crash_leaves_is_a_prefix_with_every_commit() -> None:
    async def scenario(seed: int) -> None:
        random = SeededRandom(seed)
        store = MemoryStore()
        log = LogOnStore(store)
        loglet = log.loglet()
        number = 0
        for _ in range(random.bits(4)):
            for _ in range(random.bits(2)):
                number += 1
                loglet.enqueue(record(number))
            if random.bits(1):
                await asyncio.sleep(0)
        if random.bits(1):
            store.fail_next_sync()
        await turns()
        committed = numbers(log.committed[1])
        log.writer.close()

        survivor = LogOnStore(store.crash(random))
        found = numbers(survivor.loglet().read(1))
        assert found[: len(committed)] == committed
        assert found == list(range(1, len(found) + 1))
        survivor.writer.close()

    for seed in range(300):
        asyncio.run(scenario(seed))


def test_damage_is_reported_with_its_place_and_never_returned() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        log = LogOnStore(store)
        loglet = log.loglet()
        for number in (1, 2, 3):
            loglet.enqueue(record(number))
            await turns()
        key = b"d" + batch_key(1, 2)
        value = store.get(key)
        assert value is not None
        store.write([(key, value[:-1] + bytes((value[-1] ^ 1,)))])

        with pytest.raises(StorageCorruptError, match="loglet 1, batch that ends at offset 2"):
            loglet.read(1)

        store.write([(key, None)])
        with pytest.raises(StorageCorruptError, match="offsets before 3 are missing"):
            loglet.read(1)
        log.writer.close()

    asyncio.run(scenario())


def test_a_bug_above_the_log_stops_it() -> None:
    async def scenario() -> None:
        noticed: list[str] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, context: noticed.append(str(context.get("exception")))
        )
        log = LogOnStore(MemoryStore())
        loglet = log.loglet(listener=lambda batch: numbers([batch])[99])
        loglet.enqueue(record(1))
        await turns()

        assert noticed == ["list index out of range"]
        assert "IndexError" in str(log.failures[0])
        with pytest.raises(LogClosedError):
            loglet.enqueue(record(2))
        log.writer.close()

    asyncio.run(scenario())
