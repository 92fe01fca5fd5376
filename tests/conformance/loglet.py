"""The contract of Loglet and LogletProvider (`log/loglet.py`) as tests.

A test file derives a class from `LogletSuite`, or from `DurableLogletSuite` if the loglets outlive
their process, and gives it a fixture ``harness`` (`loglet_harness.LogletHarness`).
"""

from contextlib import suppress

import pytest

from perdure.core.ids import LogId
from perdure.log.chain import Segment
from perdure.log.errors import (
    LogletLostError,
    LogletSealedError,
    NotSequencerError,
    TrimmedError,
)
from perdure.log.loglet import Loglet, LogletProvider
from perdure.log.types import TailState

from ..log.support import Committed, numbers, read_all, record, segment_of
from .loglet_appends import AppendTests, ListenerTests
from .loglet_ends import MAX_OFFSET, ProviderTests, RecordTimeTests, SealTests, TrimTests
from .loglet_harness import LogletHarness, filled, live


class LogletSuite(AppendTests, ListenerTests, SealTests, TrimTests, RecordTimeTests, ProviderTests):
    """Every sentence of the contract that can be tested within one life of the process."""


class DurableLogletSuite(LogletSuite):
    """What has to be so after a restart as well."""

    def test_reopened_loglet_goes_on_where_it_was(self, harness: LogletHarness) -> None:
        segments: list[Segment] = []
        before: list[TailState] = []

        async def first(provider: LogletProvider) -> None:
            segments.append(segment_of(provider, epoch=3, record_time_ns=5))
            loglet = provider.open(segments[0])
            await filled(loglet, 3, 2)
            before.append(await loglet.find_tail())

        async def second(provider: LogletProvider) -> None:
            loglet = provider.open(segments[0])
            assert await loglet.find_tail() == before[0] == TailState(6, False, last_time_ns)
            assert loglet.committed_tail == 6
            if not harness.appends_after_restart:
                await _check_reader(loglet, 5)
                return
            committed = await filled(loglet, 1)
            assert committed.batches[0].record_time_ns == last_time_ns
            assert committed.batches[0].epoch == 3
            assert numbers(await read_all(loglet, 1)) == [1, 2, 3, 4, 5, 6]

        live(harness, first)
        last_time_ns = harness.clock.now_ns
        harness.clock.now_ns -= 1_000_000
        live(harness, second)

    @pytest.mark.parametrize("counts", [(), (2, 3)])
    @pytest.mark.parametrize("trim", [0, 2, MAX_OFFSET])
    def test_sealed_tail_stays_where_it_is(
        self, harness: LogletHarness, counts: tuple[int, ...], trim: int
    ) -> None:
        segments: list[Segment] = []
        before: list[tuple[TailState, int]] = []

        async def first(provider: LogletProvider) -> None:
            segments.append(segment_of(provider))
            loglet = provider.open(segments[0])
            await filled(loglet, *counts)
            await loglet.seal()
            await loglet.trim(trim)
            before.append((await loglet.find_tail(), loglet.trim_point))

        async def again(provider: LogletProvider) -> None:
            loglet = provider.open(segments[0])
            tail = await loglet.find_tail()
            assert (tail, loglet.trim_point) == before[0]
            assert (tail.offset, tail.sealed) == (sum(counts) + 1, True)
            with pytest.raises(LogletSealedError):
                loglet.enqueue([record(9)])
            await loglet.seal()
            assert await loglet.find_tail() == tail
            await _check_readable(loglet)

        live(harness, first)
        live(harness, again)
        live(harness, again)

    @pytest.mark.parametrize("trim", [1, 3, 4, 5, MAX_OFFSET])
    def test_tail_time_and_trim_point_outlive_a_trim(
        self, harness: LogletHarness, trim: int
    ) -> None:
        segments: list[Segment] = []
        before: list[tuple[TailState, int]] = []

        async def first(provider: LogletProvider) -> None:
            segments.append(segment_of(provider))
            loglet = provider.open(segments[0])
            await filled(loglet, 3, 2)
            assert await loglet.trim(trim) == loglet.trim_point
            before.append((await loglet.find_tail(), loglet.trim_point))

        async def second(provider: LogletProvider) -> None:
            loglet = provider.open(segments[0])
            assert (await loglet.find_tail(), loglet.trim_point) == before[0]
            await _check_readable(loglet)
            assert await loglet.trim(0) == before[0][1]
            if not harness.appends_after_restart:
                await _check_reader(loglet, 5)
                return
            committed = Committed(loglet)
            assert loglet.enqueue([record(6)]) == 6
            await loglet.wait_for_tail(6)
            assert committed.batches[0].record_time_ns == before[0][0].record_time_ns
            assert numbers(await read_all(loglet))[-1] == 6

        live(harness, first)
        harness.clock.now_ns -= 1_000_000
        live(harness, second)

    def test_deleted_loglet_does_not_come_back(self, harness: LogletHarness) -> None:
        segments: list[Segment] = []

        async def first(provider: LogletProvider) -> None:
            segments.extend(segment_of(provider, index) for index in (1, 2))
            for segment in segments:
                await filled(provider.open(segment), 2)
            await provider.open(segments[0]).seal()
            await provider.delete(LogId(0), (segments[0],), 2)

        async def second(provider: LogletProvider) -> None:
            # Nobody opens it again; that nothing is left shows in that nothing is found.
            await _check_nothing_left(provider, segments[0])
            assert numbers(await read_all(provider.open(segments[1]))) == [1, 2]

        live(harness, first)
        live(harness, second)

    def test_loglets_that_were_never_opened_can_be_deleted(self, harness: LogletHarness) -> None:
        segments: list[Segment] = []

        async def first(provider: LogletProvider) -> None:
            segments.append(segment_of(provider))
            loglet = provider.open(segments[0])
            await filled(loglet, 2)
            await loglet.seal()

        async def second(provider: LogletProvider) -> None:
            await provider.delete(LogId(0), (segments[0],), 2)
            # To whom a stale chain still names it, it is gone, not empty.
            with pytest.raises(LogletLostError):
                provider.open(segments[0])

        async def third(provider: LogletProvider) -> None:
            await _check_nothing_left(provider, segments[0])

        live(harness, first)
        live(harness, second)
        live(harness, third)


async def _check_readable(loglet: Loglet) -> None:
    """Exactly what lies between trim point and tail can be read."""
    expected = list(range(loglet.trim_point + 1, loglet.committed_tail))
    assert numbers(await read_all(loglet)) == expected
    if loglet.trim_point:
        with pytest.raises(TrimmedError):
            await loglet.read(loglet.trim_point, 1)


async def _check_nothing_left(provider: LogletProvider, segment: Segment) -> None:
    """To who has only a stale chain, the loglet is empty; it may be known to be deleted."""
    loglet = provider.open(segment)
    tail = await loglet.find_tail()
    assert (tail.offset, tail.record_time_ns) == (1, 0)
    with suppress(TrimmedError):
        assert await loglet.read(1, 1) == []


async def _check_reader(loglet: Loglet, last: int) -> None:
    """Who may not append is told so, changes nothing, and may seal."""
    with pytest.raises(NotSequencerError):
        loglet.enqueue([record(last + 1)])
    before = await loglet.find_tail()
    assert numbers(await read_all(loglet)) == list(range(loglet.trim_point + 1, last + 1))
    await loglet.seal()
    assert await loglet.find_tail() == TailState(last + 1, True, before.record_time_ns)
    with pytest.raises(LogletSealedError):
        loglet.enqueue([record(last + 1)])
