"""The local loglet when its disk fails or the machine stops, at every instant."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from perdure.core.clock import Clock
from perdure.core.errors import StorageError
from perdure.core.ids import LogId
from perdure.core.random import SeededRandom
from perdure.core.storage.memory import MemoryStore
from perdure.log.errors import LogClosedError, LogletSealedError
from perdure.log.local.loglet import LocalLoglet
from perdure.log.local.writer import SyncMode
from perdure.log.log_store import StoredState
from perdure.log.types import TailState

from .support import (
    Committed,
    HeldSyncs,
    LaterSyncs,
    LogOnStore,
    SetClock,
    group,
    numbers,
    read_all,
    record,
    turns,
)

MODES: list[SyncMode] = ["always", "never"]
MAX_OFFSET = (1 << 63) - 1


async def _fill(loglet: LocalLoglet, *counts: int) -> Committed:
    committed = Committed(loglet)
    for count in counts:
        first = loglet.enqueue(group(loglet.committed_tail, count))
        await loglet.wait_for_tail(first + count - 1)
    return committed


async def _closed(operation: Awaitable[object]) -> LogClosedError:
    with pytest.raises(LogClosedError) as raised:
        async with asyncio.timeout(60):
            await operation
    return raised.value


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0)


@pytest.mark.parametrize("fault", ["fail_next_write", "fail_next_sync"])
@pytest.mark.parametrize("mode", MODES)
def test_failing_disk_stops_acknowledging_and_wakes_everybody(fault: str, mode: SyncMode) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        log = LogOnStore(store, mode=mode)
        loglet, other = log.loglet(1), log.loglet(2)
        committed = await _fill(loglet, 1)
        await _fill(other, 1)
        waits = [
            asyncio.create_task(_closed(item))
            for item in (loglet.wait_for_tail(2), loglet.wait_for_tail(9), other.wait_for_tail(2))
        ]
        await turns()
        before = log.turns
        getattr(store, fault)()
        loglet.enqueue([record(2)])
        waits += [
            asyncio.create_task(_closed(item))
            for item in (loglet.seal(), loglet.trim(1), other.seal(), other.trim(1))
        ]
        for error in await asyncio.gather(*waits):
            assert "a fault was asked for" in str(error)
        await turns()

        assert committed.numbers == [1]
        assert len(log.failures) == 1
        assert log.turns == before, "something was handed on after the failure"
        for item in (loglet, other):
            # Not LogletSealedError: the seal may not be there after a restart.
            with pytest.raises(LogClosedError):
                item.enqueue([record(3)])
            for operation in (item.seal(), item.trim(1), item.wait_for_tail(2)):
                await _closed(operation)
            assert await item.find_tail() == TailState(2, False, log.clock.time_ns())
            assert await item.wait_for_tail(1) == await item.find_tail()
            assert (await item.trim(0), item.trim_point) == (0, 0)
            assert numbers(await read_all(item)) == [1]
        log.writer.close()

        survivor = LogOnStore(store.crash())
        again = survivor.loglet(1)
        assert numbers(await read_all(again)) == [1]
        assert again.enqueue([record(2)]) == 2
        survivor.writer.close()

    asyncio.run(scenario())


def test_failure_that_somebody_else_met_wakes_whoever_waits() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        log = LogOnStore(store)
        loglet = log.loglet(2)
        await _fill(loglet, 1)
        waiting = asyncio.create_task(_closed(loglet.wait_for_tail(2)))
        await turns()
        store.fail_next_write()
        await _closed(log.provider.delete(LogId(0), (), 1))

        assert "a fault was asked for" in str(await waiting)
        assert len(log.failures) == 1
        log.writer.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("mode", MODES)
def test_closing_wakes_whoever_waits(mode: SyncMode) -> None:
    async def scenario() -> None:
        log = LogOnStore(MemoryStore(), mode=mode)
        loglet = log.loglet()
        committed = await _fill(loglet, 1)
        waits = [asyncio.create_task(_closed(loglet.wait_for_tail(5)))]
        await turns()
        loglet.enqueue([record(2)])
        waits += [asyncio.create_task(_closed(item)) for item in (loglet.trim(1), loglet.seal())]
        await asyncio.sleep(0)
        log.writer.close()
        log.writer.close()
        outcomes = await asyncio.gather(*waits, return_exceptions=True)

        assert "shutting down" in str(outcomes[0])
        assert log.failures == []
        # What the turn before had committed may be told; nothing is from now on.
        told = committed.numbers
        await turns()
        assert committed.numbers == told
        log.writer.close()

    asyncio.run(scenario())


def test_sealed_loglet_stays_sealed_while_the_disk_is_gone() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        log = LogOnStore(store)
        loglet, other = log.loglet(1), log.loglet(2)
        await _fill(loglet, 1)
        await loglet.seal()
        store.fail_next_write()
        other.enqueue([record(1)])
        await _until(lambda: log.failures)
        await loglet.seal()

        assert (await loglet.wait_for_tail(9)).sealed
        assert (await loglet.find_tail()).offset == 2
        await _closed(loglet.trim(1))
        log.writer.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("fault", [None, "fail_next_sync"])
def test_trim_that_is_on_its_way_ends_when_the_loglet_is_deleted(fault: str | None) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        syncs = HeldSyncs()
        log = LogOnStore(store, mode="never", sync_runner=syncs)
        loglet = log.loglet()
        loglet.enqueue(group(1, 2))
        sealing = asyncio.create_task(loglet.seal())
        for _ in range(2):
            await turns()
            if syncs.waiting:
                syncs.release()
        await sealing
        trimming = asyncio.create_task(loglet.trim(2))
        await turns()
        await log.provider.delete(LogId(0), (), 2)
        if fault:
            getattr(store, fault)()
        syncs.release()

        assert await trimming == 2
        log.writer.close()
        survivor = LogOnStore(store.reopen())
        assert survivor.log_store.state(loglet.loglet) == StoredState()
        survivor.writer.close()

    asyncio.run(scenario())


def test_disk_that_fails_to_delete_withholds_nothing_durable() -> None:
    async def scenario() -> None:
        unhandled: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, context: unhandled.append(context)
        )
        store = MemoryStore()
        log = LogOnStore(store)
        loglet, other = log.loglet(1), log.loglet(2)
        await _fill(loglet, 2, 2)
        told = Committed(other)
        trimming = asyncio.create_task(loglet.trim(2))
        await asyncio.sleep(0)
        other.enqueue([record(1)])
        store.fail_after(2)  # The write and its sync go well, the deletion does not.

        assert await trimming == 2
        assert told.numbers == [1]
        assert [type(error) for error in log.failures] == [StorageError]
        assert "a fault was asked for" in str(log.failures[0])
        assert unhandled == []
        await _closed(loglet.trim(4))
        log.writer.close()

        survivor = LogOnStore(store.crash())
        again = survivor.loglet(1)
        assert (again.trim_point, numbers(await read_all(again))) == (2, [3, 4])
        assert await again.trim(4) == 4
        survivor.writer.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("durable", [False, True])
def test_seal_is_there_after_a_crash_with_its_last_records_or_not_at_all(durable: bool) -> None:
    async def scenario(keep: int) -> TailState:
        store = MemoryStore()
        syncs = HeldSyncs()
        log = LogOnStore(store, mode="never", sync_runner=syncs)
        loglet = log.loglet()
        committed = Committed(loglet)
        loglet.enqueue(group(1, 2))
        await turns()
        # The first batch is being synced while more comes and the loglet is sealed.
        loglet.enqueue(group(3, 3))
        sealing = asyncio.create_task(loglet.seal())
        waiting = asyncio.create_task(loglet.wait_for_tail(MAX_OFFSET))
        await turns()
        with pytest.raises(LogletSealedError):
            loglet.enqueue([record(9)])
        syncs.release()
        await turns()
        assert not sealing.done()
        assert not waiting.done()
        assert await loglet.find_tail() == TailState(3, False, log.clock.time_ns())
        if durable:
            syncs.release()
            await sealing
            assert await waiting == await loglet.find_tail()
            assert (await loglet.find_tail()).sealed
            assert committed.numbers == [1, 2, 3, 4, 5]
        log.writer.close()
        await asyncio.gather(sealing, waiting, return_exceptions=True)

        survivor = LogOnStore(store.crash(keep))
        again = survivor.loglet()
        tail = await again.find_tail()
        assert numbers(await read_all(again)) == list(range(1, tail.offset))
        if not tail.sealed:
            assert again.enqueue([record(tail.offset)]) == tail.offset
        survivor.writer.close()
        return tail

    tails = [asyncio.run(scenario(keep)) for keep in (0, 1)]
    outcomes = [(tail.offset, tail.sealed) for tail in tails]
    assert outcomes == ([(6, True), (6, True)] if durable else [(3, False), (6, True)])


class _Story:
    """Appends, trims and a seal, as a client lives through them, and what it was told."""

    def __init__(self, random: SeededRandom, clock: Clock) -> None:
        self.groups: list[tuple[int, int]] = []
        self.acknowledged = 0
        self.trim_point = 0
        self.trim_wanted = 0
        self.sealed_tail: int | None = None
        self.last_time_ns = 0
        self._random = random
        self._clock = clock

    async def live(self, loglet: LocalLoglet) -> None:
        """Until the end or until the disk fails."""
        committed = Committed(loglet)
        try:
            for _ in range(3 + self._random.bits(2)):
                for _ in range(1 + self._random.bits(1)):
                    count = 1 + self._random.bits(2)
                    first = loglet.enqueue(group(self._next(), count))
                    assert first == self._next()
                    self.groups.append((first, first + count - 1))
                if self._random.bits(1):
                    await loglet.wait_for_tail(self._next() - 1)
                if self._random.bits(1):
                    self.trim_wanted = max(self.trim_wanted, self._next() - 1)
                    self.trim_point = await loglet.trim(self._next() - 1 - self._random.bits(3))
            if self._random.bits(1):
                await loglet.seal()
                self.sealed_tail = (await loglet.find_tail()).offset
        except LogClosedError:
            pass
        # Told in the same turn in which it became known, so this is what the client knows.
        if committed.batches:
            self.acknowledged = committed.batches[-1].last_offset
            self.last_time_ns = committed.batches[-1].record_time_ns

    def _next(self) -> int:
        return self.groups[-1][1] + 1 if self.groups else 1

    async def check(self, loglet: LocalLoglet) -> None:
        """What a crash has left agrees with everything that was told."""
        tail = await loglet.find_tail()
        assert self.acknowledged < tail.offset <= self._next()
        assert tail.offset == 1 or tail.offset - 1 in {last for _, last in self.groups}, (
            "a group was torn"
        )
        assert tail.record_time_ns >= self.last_time_ns
        assert self.trim_point <= loglet.trim_point <= self.trim_wanted
        found = numbers(await read_all(loglet))
        assert found == list(range(loglet.trim_point + 1, tail.offset))
        if self.sealed_tail is not None:
            assert (tail.offset, tail.sealed) == (self.sealed_tail, True)
        if tail.sealed:
            with pytest.raises(LogletSealedError):
                loglet.enqueue([record(1)])
        else:
            assert loglet.enqueue([record(tail.offset)]) == tail.offset
            await loglet.wait_for_tail(tail.offset)
            assert numbers(await read_all(loglet))[-1] == tail.offset


@pytest.mark.parametrize("mode", MODES)
def test_crash_at_every_instant_leaves_what_was_told(mode: SyncMode) -> None:
    async def scenario(seed: int, operations: int, keep: int) -> tuple[bool, int]:
        store = MemoryStore()
        clock = SetClock()
        log = LogOnStore(store, mode=mode, clock=clock, sync_runner=LaterSyncs(3))
        loglet = log.loglet()
        story = _Story(SeededRandom(seed), clock)
        store.fail_after(operations)
        await story.live(loglet)
        failed, unsynced = bool(log.failures), store.unsynced_writes
        log.writer.close()
        clock.now_ns -= 1_000_000

        survivor_store = store.crash(keep)
        states: list[StoredState] = []
        for _ in range(3):
            survivor = LogOnStore(survivor_store, clock=clock)
            states.append(survivor.log_store.state(loglet.loglet))
            survivor.writer.close()
            # What is found once was made durable before it was shown: crashes change it no more.
            survivor_store = survivor_store.crash()
        assert states == [states[0]] * 3
        survivor = LogOnStore(survivor_store, clock=clock)
        await story.check(survivor.loglet())
        survivor.writer.close()
        return failed, unsynced

    crashes = 0
    for seed in range(25):
        operations, failed = 0, True
        while failed:
            failed, unsynced = asyncio.run(scenario(seed, operations, 0))
            for keep in range(1, unsynced + 1):
                asyncio.run(scenario(seed, operations, keep))
            crashes += 1 + unsynced
            operations += 1
    assert crashes > 100


def test_torn_tail_is_a_prefix_with_every_commit() -> None:
    async def scenario(seed: int) -> None:
        random = SeededRandom(seed)
        store = MemoryStore()
        syncs = HeldSyncs()
        log = LogOnStore(store, mode="never" if random.bits(1) else "always", sync_runner=syncs)
        loglet = log.loglet()
        committed = Committed(loglet)
        ends = [0]
        for _ in range(random.bits(4)):
            for _ in range(random.bits(2)):
                count = 1 + random.bits(1)
                first = loglet.enqueue(group(ends[-1] + 1, count))
                ends.append(first + count - 1)
            if random.bits(1):
                await asyncio.sleep(0)
            if random.bits(1) and syncs.waiting:
                syncs.release()
        if random.bits(1):
            store.fail_next_sync()
        await turns()
        if random.bits(1) and syncs.waiting:
            syncs.release()
        told = committed.numbers
        log.writer.close()

        survivor = LogOnStore(store.crash(random))
        found = numbers(await read_all(survivor.loglet()))
        assert found[: len(told)] == told
        assert found == list(range(1, len(found) + 1))
        assert len(found) in ends, "a group was torn"
        survivor.writer.close()

    for seed in range(300):
        asyncio.run(scenario(seed))


def test_trim_point_is_durable_before_anything_is_gone() -> None:
    async def scenario(operations: int, keep: int) -> tuple[int, int, int, bool]:
        store = MemoryStore()
        log = LogOnStore(store)
        loglet = log.loglet()
        await _fill(loglet, 2, 2, 2)
        store.fail_after(operations)
        returned = 0
        with suppress(LogClosedError):
            returned = await loglet.trim(2)
            returned = await loglet.trim(4)
        unsynced = store.unsynced_writes
        failed = bool(log.failures)
        log.writer.close()

        survivor = LogOnStore(store.crash(keep))
        again = survivor.loglet()
        assert again.trim_point >= returned
        assert again.trim_point in (0, 2, 4)
        assert numbers(await read_all(again)) == list(range(again.trim_point + 1, 7))
        survivor.writer.close()
        return returned, again.trim_point, unsynced, failed

    seen: set[tuple[int, int]] = set()
    operations, failed = 0, True
    while failed:
        returned, point, unsynced, failed = asyncio.run(scenario(operations, 0))
        seen.add((returned, point))
        for keep in range(1, unsynced + 1):
            returned, point, _, _ = asyncio.run(scenario(operations, keep))
            seen.add((returned, point))
        operations += 1
    # Asked for and lost, asked for and there though nobody was told, told and there.
    assert seen >= {(0, 0), (0, 2), (2, 2), (2, 4), (4, 4)}
