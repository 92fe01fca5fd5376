"""The Loglet contract, first part: offsets, batches, visibility, reading, listening, waiting."""

import asyncio

import pytest

from perdure.core.random import SeededRandom
from perdure.log.errors import LogClosedError, TrimmedError
from perdure.log.loglet import LogletProvider
from perdure.log.types import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, Batch, TailState

from ..log.support import Committed, group, numbers, read_all, record, segment_of, turns
from .loglet_harness import (
    LogletHarness,
    check_content,
    filled,
    futures_alive,
    live,
    outcome,
    spans,
)


class AppendTests:
    """Offsets, batches, visibility, reading."""

    def test_offsets_count_from_one_and_are_given_at_once(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            loglet = provider.open(segment_of(provider))
            assert await loglet.find_tail() == TailState(1, False, 0)
            offsets = [loglet.enqueue(group(1, 3)), loglet.enqueue([record(4)])]
            await loglet.wait_for_tail(4)

            assert offsets == [1, 4]
            assert numbers(await loglet.read(1, 1)) == [1, 2, 3, 4]

        live(harness, scenario)

    def test_calls_of_one_turn_share_a_batch(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            loglet = provider.open(segment_of(provider, epoch=7))
            committed = Committed(loglet)
            for number in range(1, 6):
                loglet.enqueue([record(number)])
            await loglet.wait_for_tail(5)
            loglet.enqueue([record(6)])
            await loglet.wait_for_tail(6)

            assert spans(committed.batches) == [(1, 5), (6, 6)]
            assert [batch.epoch for batch in committed.batches] == [7, 7]
            assert await read_all(loglet) == committed.batches

        live(harness, scenario)

    def test_nothing_is_visible_before_it_is_committed(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            loglet = provider.open(segment_of(provider))
            committed = Committed(loglet)
            loglet.enqueue(group(1, 3))

            assert loglet.committed_tail == 1
            assert committed.batches == []
            # What takes a while may meet the commit, and what it shows the listener has heard of.
            tail = await loglet.find_tail()
            assert tail.offset == loglet.committed_tail == len(committed.numbers) + 1
            found = await loglet.read(1, BATCH_BYTES_MAX)
            assert found in ([], committed.batches)
            assert await loglet.trim(0) == 0
            await loglet.wait_for_tail(0)
            await loglet.wait_for_tail(3)
            assert committed.numbers == [1, 2, 3]
            assert (await loglet.find_tail()).offset == loglet.committed_tail == 4

        live(harness, scenario)

    def test_reads_are_gapless_from_every_offset(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            random = SeededRandom(1)
            loglet = provider.open(segment_of(provider))
            committed = Committed(loglet)
            tail = 1
            while tail < 150:
                count = 1 + random.bits(2)
                assert loglet.enqueue(group(tail, count)) == tail
                tail += count
                if random.bits(1):
                    await asyncio.sleep(0)
            await loglet.wait_for_tail(tail - 1)

            assert await read_all(loglet) == committed.batches
            check_content(committed.batches)
            assert committed.numbers == list(range(1, tail))
            for offset in range(1, tail):
                batches = await loglet.read(offset, 200)
                assert batches[0].first_offset <= offset <= batches[0].last_offset
                position = committed.batches.index(batches[0])
                assert batches == committed.batches[position : position + len(batches)]
            assert await loglet.read(1, 1) == committed.batches[:1]
            assert await loglet.read(1, 1 << 30) == committed.batches
            assert await loglet.read(tail, 1) == await loglet.read(tail + 5, 1) == []

        live(harness, scenario)

    def test_groups_are_never_cut(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            loglet = provider.open(segment_of(provider))
            committed = Committed(loglet)
            half = BATCH_BYTES_MAX // 2
            # Each line is one turn: (records, bytes of each) of its groups; then the batches.
            cases: list[tuple[list[tuple[int, int]], list[int]]] = [
                ([(1, 8)] * (BATCH_RECORDS_MAX + 1), [BATCH_RECORDS_MAX, 1]),
                ([(BATCH_RECORDS_MAX - 1, 8), (2, 8)], [BATCH_RECORDS_MAX - 1, 2]),
                ([(600, 8), (600, 8), (400, 8)], [600, 1000]),
                ([(1, half), (1, half), (1, half)], [2, 1]),
                ([(1, half), (2, half), (1, 8)], [1, 2, 1]),
                ([(1, 8), (1, 2 * BATCH_BYTES_MAX), (1, 8)], [1, 1, 1]),
                ([(3, half), (1, 8)], [3, 1]),
            ]
            tail = 1
            for groups, expected in cases:
                before = len(committed.batches)
                for count, size in groups:
                    assert loglet.enqueue(group(tail, count, size)) == tail
                    tail += count
                await loglet.wait_for_tail(tail - 1)
                found = committed.batches[before:]
                assert [len(batch.records) for batch in found] == expected

            check_content(await read_all(loglet))

        live(harness, scenario)

    def test_find_tail_is_above_whatever_was_acknowledged(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            loglet = provider.open(segment_of(provider))
            given = acknowledged = 0
            appending = 5
            made = [0, 0]

            def acknowledge(batch: Batch) -> None:
                nonlocal acknowledged
                acknowledged = batch.last_offset

            loglet.listen(acknowledge)

            async def append(seed: int) -> None:
                nonlocal given, appending
                random = SeededRandom(seed)
                appends = 0
                while appends < 60 or min(made) <= 20:
                    count = 1 + random.bits(2)
                    offset = loglet.enqueue(group(given + 1, count))
                    given = offset + count - 1
                    appends += 1
                    await turns(random.bits(2))
                await loglet.wait_for_tail(given)
                appending -= 1

            async def check(checker: int) -> None:
                last = 0
                while appending:
                    before = acknowledged
                    tail = await loglet.find_tail()
                    assert max(before, last) < tail.offset <= given + 1
                    last = tail.offset - 1
                    found = await loglet.read(max(1, last - 20), BATCH_BYTES_MAX)
                    assert not last or found[-1].last_offset >= last
                    check_content(found)
                    made[checker] += 1
                    await turns(1 + made[checker] % 3)

            checks = [asyncio.create_task(check(item)) for item in range(2)]
            await asyncio.gather(*(append(seed) for seed in range(appending)))
            await asyncio.gather(*checks)
            assert min(made) > 20
            assert acknowledged == given == (await loglet.find_tail()).offset - 1

        live(harness, scenario)

    @pytest.mark.parametrize("readers", [1, 10])
    def test_readers_see_everything_while_it_is_appended(
        self, harness: LogletHarness, readers: int
    ) -> None:
        async def scenario(provider: LogletProvider) -> None:
            loglet = provider.open(segment_of(provider))
            last = 200

            async def read(bytes_max: int) -> list[Batch]:
                found: list[Batch] = []
                offset = 1
                while offset <= last:
                    await loglet.wait_for_tail(offset)
                    batches = await loglet.read(offset, bytes_max)
                    assert batches, "the tail is above, yet there is nothing to read"
                    assert batches[0].first_offset == offset
                    found += batches
                    offset = batches[-1].last_offset + 1
                return found

            async def append() -> None:
                for first in range(1, last, 2):
                    loglet.enqueue(group(first, 2))
                    await turns(first % 4)

            reads = [asyncio.create_task(read(1 << item)) for item in range(readers)]
            await append()
            found = await asyncio.gather(*reads)
            assert found == [await read_all(loglet)] * readers
            check_content(found[0])

        live(harness, scenario)

    def test_readers_meet_trims_and_go_on_behind_them(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            loglet = provider.open(segment_of(provider))
            await filled(loglet, 4)
            last = 400

            async def read(pause: int) -> int:
                offset, gaps = 1, 0
                while pause == 0 and not loglet.trim_point:
                    await asyncio.sleep(0)  # This reader is late: it certainly meets a trim.
                while offset <= last:
                    await loglet.wait_for_tail(offset)
                    if offset <= loglet.trim_point:
                        with pytest.raises(TrimmedError) as raised:
                            await loglet.read(offset, 1)
                        assert raised.value.position == offset
                        assert raised.value.trim_point == loglet.trim_point
                        gaps += 1
                        offset = loglet.trim_point + 1
                        continue
                    try:
                        batches = await loglet.read(offset, 1)
                    except TrimmedError:
                        assert (
                            offset <= loglet.trim_point
                        )  # Meanwhile, where reading takes a while.
                        continue
                    check_content(batches)
                    assert batches[0].first_offset == offset
                    offset = batches[-1].last_offset + 1
                    await turns(pause)
                return gaps

            async def trim() -> None:
                trimmed = 0
                for wanted in range(10, last, 10):
                    await loglet.wait_for_tail(wanted)
                    point = await loglet.trim(wanted)
                    assert trimmed <= point <= wanted
                    trimmed = point

            reads = [asyncio.create_task(read(item)) for item in range(4)]
            trimming = asyncio.create_task(trim())
            for first in range(5, last, 4):
                loglet.enqueue(group(first, 4))
                await turns(first % 3)
            gaps = await asyncio.gather(*reads)
            await trimming
            assert gaps[0] > 0

        live(harness, scenario)


class ListenerTests:
    """Listening, waiting, cancelling."""

    def test_listener_may_enqueue(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            loglet = provider.open(segment_of(provider))
            seen: list[Batch] = []

            def answer(batch: Batch) -> None:
                seen.append(batch)
                if batch.last_offset < 20:
                    first = loglet.enqueue([record(batch.last_offset + 1)])
                    assert first == batch.last_offset + 1
                    assert loglet.committed_tail == first

            loglet.listen(answer)
            loglet.enqueue([record(1)])
            await loglet.wait_for_tail(20)

            assert spans(seen) == [(number, number) for number in range(1, 21)]
            assert seen == await read_all(loglet)

        live(harness, scenario)

    def test_listener_is_told_only_of_what_comes_after(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            loglet = provider.open(segment_of(provider))
            first = await filled(loglet, 2)
            second = await filled(loglet, 3)

            assert (first.numbers, second.numbers) == ([1, 2], [3, 4, 5])

        live(harness, scenario)

    def test_listener_that_raises_stops_the_loglet(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            noticed: list[object] = []
            asyncio.get_running_loop().set_exception_handler(
                lambda _loop, context: noticed.append(context.get("exception"))
            )
            loglet = provider.open(segment_of(provider))
            await filled(loglet, 1)
            error = ZeroDivisionError("a bug above the log")

            def fail(batch: Batch) -> None:
                raise error

            loglet.listen(fail)
            loglet.enqueue([record(2)])
            waiting = asyncio.create_task(outcome(loglet.wait_for_tail(9)))
            assert isinstance(await waiting, LogClosedError)

            assert noticed == [error]
            with pytest.raises(LogClosedError, match="ZeroDivisionError"):
                loglet.enqueue([record(3)])
            assert isinstance(await outcome(loglet.seal()), LogClosedError)
            assert isinstance(await outcome(loglet.trim(1)), LogClosedError)
            assert numbers(await loglet.read(1, 1)) == [1]

        live(harness, scenario)

    def test_cancelled_waits_leave_nothing_behind(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            loglet = provider.open(segment_of(provider))
            await filled(loglet, 1)
            before = futures_alive()
            waits = [asyncio.create_task(loglet.wait_for_tail(9)) for _ in range(50)]
            await turns()
            assert futures_alive() >= 50
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
            del waits, wait
            await turns()

            # Not the same number: over TCP, answers of servers come and go meanwhile.
            assert futures_alive() < before + 25
            await filled(loglet, 1)

        live(harness, scenario)

    def test_some_waits_may_be_cancelled_while_others_go_on(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            loglet = provider.open(segment_of(provider))
            waits = [asyncio.create_task(loglet.wait_for_tail(1)) for _ in range(10)]
            await turns()
            for wait in waits[::2]:
                wait.cancel()
            await filled(loglet, 1)
            outcomes = await asyncio.gather(*waits, return_exceptions=True)

            assert all(isinstance(item, asyncio.CancelledError) for item in outcomes[::2])
            assert {item for item in outcomes[1::2] if isinstance(item, TailState)} == {
                await loglet.find_tail()
            }

        live(harness, scenario)
