"""The Loglet contract, second part: sealing, trimming, record times, and the provider."""

import asyncio
from contextlib import suppress

import pytest

from perdure.core.ids import LogId
from perdure.log.errors import LogletSealedError, TrimmedError
from perdure.log.loglet import Loglet, LogletProvider
from perdure.log.types import Batch

from ..log.support import Committed, group, numbers, read_all, record, segment_of, turns
from .loglet_harness import LogletHarness, check_content, filled, live, spans

MAX_OFFSET = (1 << 63) - 1


class SealTests:
    """Sealing is for ever."""

    def test_sealed_loglet_refuses_appends(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            segment = segment_of(provider)
            loglet = provider.open(segment)
            committed = await filled(loglet, 3)
            await loglet.seal()
            tail = await loglet.find_tail()
            assert (tail.offset, tail.sealed) == (4, True)
            with pytest.raises(LogletSealedError) as raised:
                loglet.enqueue([record(4)])
            await turns()

            assert raised.value.loglet == segment.params.loglet
            assert committed.numbers == numbers(await read_all(loglet)) == [1, 2, 3]
            assert await loglet.find_tail() == tail == await loglet.wait_for_tail(MAX_OFFSET)

        live(harness, scenario)

    def test_empty_loglet_can_be_sealed(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            loglet = provider.open(segment_of(provider))
            await loglet.seal()
            tail = await loglet.find_tail()

            assert (tail.offset, tail.sealed) == (1, True)
            assert await loglet.read(1, 1) == []
            assert await loglet.trim(MAX_OFFSET) == 0

        live(harness, scenario)

    def test_sealing_twice_and_at_once_is_sealing(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            loglet = provider.open(segment_of(provider))
            await filled(loglet, 2)
            loglet.enqueue([record(3)])
            await asyncio.gather(*(loglet.seal() for _ in range(5)))
            tail = await loglet.find_tail()
            await loglet.seal()

            assert tail.sealed
            assert tail.offset in (3, 4)
            assert await loglet.find_tail() == tail

        live(harness, scenario)

    def test_sealing_wakes_whoever_waits_for_more(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            loglet = provider.open(segment_of(provider))
            await filled(loglet, 2)
            waits = [asyncio.create_task(loglet.wait_for_tail(above)) for above in (3, 4, 99)]
            await turns()
            assert not any(wait.done() for wait in waits)
            await loglet.seal()

            tail = await loglet.find_tail()
            assert await asyncio.gather(*waits) == [tail] * 3

        live(harness, scenario)

    def test_cancelled_seal_may_be_done_again(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            loglet = provider.open(segment_of(provider))
            await filled(loglet, 2)
            sealing = asyncio.create_task(loglet.seal())
            await turns(1)
            sealing.cancel()
            with suppress(asyncio.CancelledError):
                await sealing
            await loglet.seal()
            tail = await loglet.find_tail()

            assert (tail.offset, tail.sealed) == (3, True)

        live(harness, scenario)

    @pytest.mark.parametrize("appenders", [1, 20])
    def test_nothing_at_or_above_the_sealed_tail_is_acknowledged(
        self, harness: LogletHarness, appenders: int
    ) -> None:
        async def scenario(provider: LogletProvider) -> None:
            loglet = provider.open(segment_of(provider))
            appends = _Appends(loglet)
            tasks = [asyncio.create_task(appends.run(item)) for item in range(appenders)]
            await loglet.wait_for_tail(200)
            await loglet.seal()
            tail = await loglet.find_tail()
            acknowledged = dict(appends.acknowledged)
            await turns(20)

            assert tail.sealed
            assert appends.acknowledged == acknowledged, "acknowledged after the seal was reported"
            assert len(acknowledged) >= 200
            assert max(acknowledged) < tail.offset
            assert len(set(acknowledged.values())) == len(acknowledged)
            found = numbers(await read_all(loglet, 1))
            assert len(found) == len(set(found)) == tail.offset - 1
            assert {offset: found[offset - 1] for offset in acknowledged} == acknowledged
            for item in range(appenders):
                own = [number for number in found if number // 1_000_000 == item]
                assert own == sorted(own), "the order of one appender was changed"
            assert await loglet.find_tail() == tail
            # Each of them has met the seal, or waits for what was not acknowledged.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert appends.refused + appends.unanswered == appenders

        live(harness, scenario)


class _Appends:
    """Appends one record after the other and remembers what was acknowledged."""

    def __init__(self, loglet: Loglet) -> None:
        self.acknowledged: dict[int, int] = {}
        self.refused = 0
        self._loglet = loglet
        self._waiting: dict[int, asyncio.Future[None]] = {}
        loglet.listen(self._committed)

    def _committed(self, batch: Batch) -> None:
        for offset in range(batch.first_offset, batch.last_offset + 1):
            (number,) = numbers([Batch(1, 0, 0, [batch.records[offset - batch.first_offset]])])
            assert offset not in self.acknowledged
            self.acknowledged[offset] = number
            if not self._waiting[offset].done():
                self._waiting[offset].set_result(None)

    @property
    def unanswered(self) -> int:
        """How many appends were not acknowledged."""
        return len(self._waiting.keys() - self.acknowledged.keys())

    async def run(self, appender: int) -> None:
        """Append until the loglet is sealed."""
        number = appender * 1_000_000
        while True:
            number += 1
            try:
                offset = self._loglet.enqueue([record(number)])
            except LogletSealedError:
                self.refused += 1
                return
            waiting = self._waiting[offset] = asyncio.get_running_loop().create_future()
            await waiting
            assert self.acknowledged[offset] == number


class TrimTests:
    """Trimming stays within what is committed and never goes back."""

    def test_trimming_stops_at_borders_of_batches(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            loglet = provider.open(segment_of(provider))
            await filled(loglet, 3, 3, 3)
            points = [
                (0, 0),
                (2, 0),
                (3, 3),
                (1, 3),
                (5, 3),
                (7, 6),
                (8, 6),
                (-1, 6),
                (9, 9),
                (MAX_OFFSET, 9),
            ]
            for wanted, expected in points:
                assert (await loglet.trim(wanted), wanted) == (expected, wanted)
                assert loglet.trim_point == expected
                left = [span for span in ((1, 3), (4, 6), (7, 9)) if span[0] > expected]
                assert spans(await read_all(loglet)) == left

        live(harness, scenario)

    def test_trimming_is_clamped_to_what_is_committed(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            loglet = provider.open(segment_of(provider))
            assert await loglet.trim(MAX_OFFSET) == 0
            await filled(loglet, 2)
            loglet.enqueue(group(3, 2))
            assert await loglet.trim(MAX_OFFSET) == 2
            await loglet.wait_for_tail(4)

            assert numbers(await read_all(loglet)) == [3, 4]
            assert await loglet.trim(MAX_OFFSET) == 4
            assert (await loglet.find_tail()).offset == 5
            await filled(loglet, 1)
            assert numbers(await read_all(loglet)) == [5]

        live(harness, scenario)

    def test_reading_what_is_trimmed_says_so(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            loglet = provider.open(segment_of(provider))
            await filled(loglet, 2, 2)
            await loglet.trim(2)
            for offset in (1, 2):
                with pytest.raises(TrimmedError) as raised:
                    await loglet.read(offset, 1)
                assert (raised.value.position, raised.value.trim_point) == (offset, 2)

            assert numbers(await loglet.read(3, 1)) == [3, 4]
            await loglet.trim(4)
            with pytest.raises(TrimmedError):
                await loglet.read(4, 1)
            assert await loglet.read(5, 1) == []

        live(harness, scenario)

    def test_trims_at_once_reach_the_furthest(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            loglet = provider.open(segment_of(provider))
            await filled(loglet, *[1] * 10)
            points = await asyncio.gather(*(loglet.trim(item) for item in (3, 9, 1, 5)))

            assert all(point >= wanted for point, wanted in zip(points, (3, 9, 1, 5), strict=True))
            assert loglet.trim_point == 9
            assert numbers(await read_all(loglet)) == [10]

        live(harness, scenario)

    def test_trim_and_seal_and_append_at_once(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            loglet = provider.open(segment_of(provider))
            committed = await filled(loglet, 2, 2)
            loglet.enqueue(group(5, 2))
            trimming = asyncio.create_task(loglet.trim(4))
            sealing = asyncio.create_task(loglet.seal())
            again = asyncio.create_task(loglet.trim(MAX_OFFSET))
            await asyncio.gather(trimming, sealing, again)
            tail = await loglet.find_tail()

            assert tail.sealed
            assert tail.offset in (5, 7)
            assert committed.numbers == list(range(1, tail.offset))
            assert 4 <= loglet.trim_point < tail.offset
            check_content(await read_all(loglet))

        live(harness, scenario)

    def test_sealed_loglet_can_be_trimmed(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            loglet = provider.open(segment_of(provider))
            await filled(loglet, 2, 2)
            await loglet.seal()
            tail = await loglet.find_tail()

            assert await loglet.trim(2) == 2
            assert numbers(await read_all(loglet)) == [3, 4]
            assert await loglet.trim(MAX_OFFSET) == 4
            assert await loglet.find_tail() == tail
            assert await read_all(loglet) == []

        live(harness, scenario)


class RecordTimeTests:
    """The record time never goes back."""

    def test_record_time_follows_the_clock_but_not_back(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            start_ns = harness.clock.now_ns
            loglet = provider.open(segment_of(provider))
            committed = Committed(loglet)
            for number, now_ns in enumerate((0, 500, -10_000, 400, 600), 1):
                harness.clock.now_ns = start_ns + now_ns
                loglet.enqueue([record(number)])
                await loglet.wait_for_tail(number)
                tail = await loglet.find_tail()
                assert tail.record_time_ns == committed.batches[-1].record_time_ns

            times = [batch.record_time_ns - start_ns for batch in committed.batches]
            assert times == [0, 500, 500, 500, 600]

        live(harness, scenario)

    def test_record_time_is_not_below_the_floor(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            floor_ns = harness.clock.now_ns + 1000
            loglet = provider.open(segment_of(provider, record_time_ns=floor_ns))
            assert (await loglet.find_tail()).record_time_ns == floor_ns
            committed = await filled(loglet, 1)
            harness.clock.now_ns += 2000
            committed = await filled(loglet, 1)

            assert [batch.record_time_ns for batch in await read_all(loglet)] == [
                floor_ns,
                harness.clock.now_ns,
            ]
            assert committed.batches[0].record_time_ns == harness.clock.now_ns

        live(harness, scenario)


class ProviderTests:
    """Opening and deleting."""

    def test_segment_is_opened_once(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            segment = segment_of(provider, 3, epoch=5, record_time_ns=9)
            loglet = provider.open(segment)

            assert provider.open(segment) is loglet
            assert (segment.params.epoch, segment.params.record_time_ns) == (5, 9)
            assert segment.params.sequencer

        live(harness, scenario)

    def test_loglets_are_separate(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            places = [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1)]
            loglets = [provider.open(segment_of(provider, index, log=log)) for log, index in places]
            for number, loglet in enumerate(loglets, 10):
                loglet.enqueue([record(number)])
                loglet.enqueue([record(number + 100)])
            await asyncio.gather(*(loglet.wait_for_tail(2) for loglet in loglets))
            await loglets[1].seal()
            await loglets[2].trim(2)

            for number, loglet in enumerate(loglets, 10):
                expected = [] if loglet is loglets[2] else [number, number + 100]
                assert numbers(await read_all(loglet)) == expected
                assert (await loglet.find_tail()).sealed is (loglet is loglets[1])

        live(harness, scenario)

    def test_deleting_wakes_whoever_waits(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            segment = segment_of(provider)
            loglet = provider.open(segment)
            await filled(loglet, 2)
            waits = [asyncio.create_task(loglet.wait_for_tail(above)) for above in (3, 9)]
            await turns()
            # A segment that is not the last is sealed, but a store from an old backup may not know.
            await provider.delete(LogId(0), (segment,), 2)

            for tail in await asyncio.gather(*waits):
                assert (tail.offset, tail.sealed) == (3, True)
            await loglet.seal()
            with pytest.raises(LogletSealedError):
                loglet.enqueue([record(3)])
            with pytest.raises(TrimmedError):
                await loglet.read(2, 1)

        live(harness, scenario)

    def test_deleted_loglets_are_gone_and_others_stay(self, harness: LogletHarness) -> None:
        async def scenario(provider: LogletProvider) -> None:
            segments = [segment_of(provider, index) for index in range(1, 5)]
            loglets = [provider.open(segment) for segment in segments]
            other = provider.open(segment_of(provider, 1, log=1))
            for loglet in (*loglets, other):
                await filled(loglet, 2)
            for loglet in loglets[:3]:
                await loglet.seal()
            # Segment 2 had left the chain before, as an empty one does.
            await provider.delete(LogId(0), (segments[0],), 3)
            await provider.delete(LogId(0), (segments[0],), 3)

            for loglet in loglets[:2]:
                with pytest.raises(TrimmedError):
                    await loglet.read(1, 1)
                assert (await loglet.wait_for_tail(MAX_OFFSET)).sealed
                assert await loglet.trim(MAX_OFFSET) == 2
                with pytest.raises(LogletSealedError):
                    loglet.enqueue([record(1)])
            for segment, loglet in zip(segments[2:], loglets[2:], strict=True):
                assert provider.open(segment) is loglet
                assert numbers(await read_all(loglet)) == [1, 2]
            assert numbers(await read_all(other)) == [1, 2]

        live(harness, scenario)
