"""The writer of a node's logs: one write and one sync for all of a turn, inline or behind."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.core.errors import StorageError
from perdure.core.storage.kv import KvStore
from perdure.core.storage.memory import MemoryStore
from perdure.core.storage.rocks import RocksStore
from perdure.log.errors import LogClosedError
from perdure.log.local.sync_runner import ThreadSyncRunner
from perdure.log.local.writer import SyncMode, SyncPolicy
from perdure.log.types import Batch

from .support import Committed, HeldSyncs, LogOnStore, group, record, turns

MODES: list[SyncMode] = ["always", "never"]


@pytest.fixture(params=["memory", "rocks"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KvStore]:
    made = MemoryStore() if request.param == "memory" else RocksStore.open(tmp_path / "log")
    yield made
    made.close()


def test_all_logs_of_one_turn_share_one_sync(store: KvStore) -> None:
    async def scenario() -> None:
        log = LogOnStore(store)
        first, second = log.loglet(1), log.loglet(log=1)
        committed = [Committed(first), Committed(second)]
        first.enqueue(group(1, 3))
        first.enqueue(group(4, 2))
        second.enqueue([record(9)])
        sealing = asyncio.create_task(second.seal())
        await turns()

        assert [item.numbers for item in committed] == [[1, 2, 3, 4, 5], [9]]
        assert (log.writer.batches, log.measured.records) == (2, 6)
        # The seal came a turn later than the records; asking for it was all it took.
        assert log.writer.syncs == log.measured.syncs == log.turns <= 2
        await sealing
        log.writer.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("mode", MODES)
def test_effects_are_handed_on_once_after_the_commits_of_a_turn(mode: SyncMode) -> None:
    async def scenario() -> None:
        log = LogOnStore(MemoryStore(), mode=mode)
        loglets = [log.loglet(index) for index in (1, 2, 3)]
        seen: list[int] = []
        for loglet in loglets:
            loglet.listen(lambda batch: seen.append(log.turns))
            loglet.enqueue([record(1)])
        for loglet in loglets:
            await loglet.wait_for_tail(1)

        assert seen == [0, 0, 0]
        assert log.turns == 1
        log.writer.close()

    asyncio.run(scenario())


def test_what_comes_while_the_disk_is_busy_makes_the_next_batch() -> None:
    async def scenario() -> None:
        syncs = HeldSyncs()
        log = LogOnStore(MemoryStore(), mode="never", sync_runner=syncs)
        loglet = log.loglet()
        committed = Committed(loglet)
        for number in range(1, 6):
            loglet.enqueue([record(number)])
            await turns()
        assert committed.batches == []
        syncs.release()
        assert [len(batch.records) for batch in committed.batches] == [1]
        syncs.release()

        assert [len(batch.records) for batch in committed.batches] == [1, 4]
        assert (log.writer.syncs, log.writer.batches) == (2, 2)
        log.writer.close()

    asyncio.run(scenario())


def test_listener_may_enqueue_while_syncs_run_behind() -> None:
    async def scenario() -> None:
        syncs = HeldSyncs()
        log = LogOnStore(MemoryStore(), mode="never", sync_runner=syncs)
        loglet, other = log.loglet(1), log.loglet(2)
        told: list[int] = []

        def answer(number: int) -> None:
            told.append(number)
            if number < 3:
                other.enqueue([record(number)])
                loglet.enqueue([record(number + 1)])

        loglet.listen(lambda batch: answer(batch.last_offset))
        loglet.enqueue([record(1)])
        for _ in range(3):
            await turns()
            syncs.release()
        await turns()

        assert told == [1, 2, 3]
        assert (loglet.committed_tail, other.committed_tail) == (4, 3)
        assert syncs.waiting is None
        log.writer.close()

    asyncio.run(scenario())


def test_nothing_to_write_costs_no_sync() -> None:
    async def scenario() -> None:
        syncs = HeldSyncs()
        log = LogOnStore(MemoryStore(), mode="never", sync_runner=syncs)
        loglet = log.loglet()
        loglet.enqueue([record(1)])
        await turns()
        # Woken by the batch before, the ones who seal and trim must not ask again.
        tasks: list[asyncio.Task[object]] = []
        tasks += [asyncio.create_task(loglet.seal()) for _ in range(3)]
        await turns()
        syncs.release()
        await turns()
        tasks += [asyncio.create_task(loglet.seal())]  # The seal is on its way already.
        await turns()
        syncs.release()
        assert syncs.waiting is None
        tasks += [asyncio.create_task(loglet.trim(1)) for _ in range(3)]
        await turns()
        tasks += [asyncio.create_task(loglet.trim(1))]
        await turns()
        syncs.release()
        await asyncio.gather(*tasks)
        await turns()

        assert syncs.waiting is None
        assert log.writer.syncs == 3
        log.writer.close()

    asyncio.run(scenario())


def test_commits_keep_their_order_across_syncs(store: KvStore) -> None:
    async def scenario() -> None:
        log = LogOnStore(store, mode="never")
        loglet = log.loglet()
        committed = Committed(loglet)
        for number in range(1, 201):
            assert loglet.enqueue([record(number)]) == number
            if number % 7 == 0:
                await asyncio.sleep(0)
        await loglet.wait_for_tail(200)

        assert committed.numbers == list(range(1, 201))
        assert log.writer.syncs <= log.writer.batches
        log.writer.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("mode", MODES)
def test_bug_above_the_log_stops_it(mode: SyncMode) -> None:
    async def scenario() -> None:
        noticed: list[str] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, context: noticed.append(str(context.get("exception")))
        )
        syncs = HeldSyncs()
        log = LogOnStore(MemoryStore(), mode=mode, sync_runner=syncs)
        loglet, other = log.loglet(1), log.loglet(2)

        def fail(batch: Batch) -> None:
            assert batch.records[99] is None

        loglet.listen(fail)
        quiet = Committed(other)
        waiting = asyncio.create_task(other.wait_for_tail(5))
        loglet.enqueue([record(1)])
        other.enqueue([record(1)])
        await turns()
        if syncs.waiting:
            with pytest.raises(IndexError):
                syncs.release()
        await turns()

        assert noticed == ([] if mode == "never" else ["list index out of range"])
        assert "IndexError" in str(log.failures[0])
        with pytest.raises(LogClosedError):
            loglet.enqueue([record(2)])
        assert quiet.batches == [], "told although the state above may be half changed"
        with pytest.raises(LogClosedError, match="IndexError"):
            await waiting
        log.writer.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("error", [StorageError("no disk"), ValueError("a bug")])
def test_sync_in_the_thread_reports_whatever_went_wrong(error: Exception) -> None:
    async def scenario() -> None:
        before = threading.enumerate()
        runner = ThreadSyncRunner(asyncio.get_running_loop())
        done: asyncio.Future[int | StorageError] = asyncio.get_running_loop().create_future()
        threads: list[str] = []

        def sync() -> int:
            threads.append(threading.current_thread().name)
            raise error

        runner.run(sync, done.set_result)
        (thread,) = [item for item in threading.enumerate() if item not in before]
        result = await done
        runner.close()
        runner.close()
        thread.join(timeout=60)

        assert isinstance(result, StorageError)
        assert str(error) in str(result)
        assert threads == ["log-sync"]
        assert not thread.is_alive()

    asyncio.run(scenario())


def test_policy_syncs_inline_while_the_disk_is_quick() -> None:
    policy = SyncPolicy("auto")
    limit = SyncPolicy.INLINE_NS_MAX
    assert policy.inline()
    for _ in range(100):
        policy.measured(limit - 1)
    assert policy.inline()

    # One slow sync says little about the next, several say that the disk is slow.
    policy = SyncPolicy("auto")
    policy.measured(4 * limit)
    assert policy.inline()
    for _ in range(3):
        policy.measured(4 * limit)
    assert not policy.inline()

    quick = 0
    while not policy.inline():
        policy.measured(1)
        quick += 1
    assert 3 < quick < 10


def test_policy_may_be_fixed() -> None:
    always, never = SyncPolicy("always"), SyncPolicy("never")
    always.measured(10 * SyncPolicy.INLINE_NS_MAX)

    assert always.inline()
    assert not never.inline()


def test_what_is_found_on_opening_is_synced_first() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        syncs = HeldSyncs()
        log = LogOnStore(store, mode="never", sync_runner=syncs)
        log.loglet().enqueue([record(1)])
        await turns()
        log.writer.close()
        assert store.unsynced_writes == 1

        # The process is started again on the same machine: the write is there, unsynced.
        store = store.reopen()
        again = LogOnStore(store)
        assert store.unsynced_writes == 0
        assert again.loglet().committed_tail == 2
        again.writer.close()
        lost = LogOnStore(store.crash())
        assert lost.loglet().committed_tail == 2
        lost.writer.close()

    asyncio.run(scenario())
