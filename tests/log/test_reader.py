"""LogReader: every LSN in exactly one item, over segments, trims and filters."""

import asyncio

import pytest

from perdure.core.hashing import key_hash
from perdure.core.random import SeededRandom
from perdure.log import (
    FilteredGap,
    LogClosedError,
    LogEntry,
    LogReader,
    ReadItem,
    Record,
    TrimGap,
    VirtualLog,
)
from perdure.log import chain_view as chain_view_module

from .support import turns
from .virtual import House, SlowMetadata, body, put, run

KEYS = [key_hash(b"key", bytes([number])) for number in range(4)]


def covered(items: list[ReadItem], first_lsn: int, last_lsn: int) -> None:
    """Each LSN of the range must be in exactly one item, in order."""
    expected = first_lsn
    for item in items:
        first, last = (
            (item.lsn, item.lsn) if isinstance(item, LogEntry) else tuple(item_range(item))
        )
        assert first == expected, items
        assert last >= first, items
        expected = last + 1
    assert expected == last_lsn + 1, items


def item_range(item: ReadItem) -> tuple[int, int]:
    """The first and last LSN that it stands for."""
    if isinstance(item, LogEntry):
        return item.lsn, item.lsn
    return item.first_lsn, item.last_lsn


async def collect(reader: LogReader, into: list[ReadItem] | None = None) -> list[ReadItem]:
    """Everything it gives, also in `into` as it comes."""
    items: list[ReadItem] = [] if into is None else into
    async for item in reader:
        items.append(item)  # noqa: PERF401 - a list made at the end is not there when cancelled
    return items


def test_a_tailing_reader_goes_on_over_reconfigurations() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        view = await house.view()
        readers = [LogReader(source, to_lsn=40) for source in (log, view, view)]
        tasks = [asyncio.ensure_future(collect(reader)) for reader in readers]
        for number in range(1, 41):
            if number % 5 == 0:
                await log.reconfigure("memory" if number % 10 else "local")
            await put(log, number)
            await turns(number % 4)
        for task in tasks:
            items = await task
            covered(items, 1, 40)
            assert [body(item.record) for item in items if isinstance(item, LogEntry)] == list(
                range(1, 41)
            )

    run(scenario)


def test_the_chain_is_read_again_only_at_the_end_of_a_sealed_segment() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        view = await house.view()
        assert isinstance(house.metadata, SlowMetadata)
        found: list[ReadItem] = []
        task = asyncio.ensure_future(collect(LogReader(view), found))
        await turns()
        before = house.metadata.gets
        for number in range(1, 21):
            await put(log, number)
            await turns()
        assert len(found) == 20
        assert house.metadata.gets == before

        await log.reconfigure()
        own = house.metadata.gets
        while len(view.chain.segments) == 1:
            await asyncio.sleep(0)
        met = house.metadata.gets - own
        await put(log, 21)
        await turns(10)
        assert len(found) == 21
        assert house.metadata.gets - own == met
        assert met <= 2
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        covered(found, 1, 21)

    run(scenario)


def test_readers_of_a_sealed_log_wait_and_go_on_when_it_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chain_view_module, "POLL_SECONDS", 0.001)

    async def scenario(house: House) -> None:
        log = await house.log()
        view = await house.view()
        await put(log, 1)
        tasks = [
            asyncio.ensure_future(collect(LogReader(source, to_lsn=2))) for source in (log, view)
        ]
        await log.seal()
        await turns(20)
        assert not any(task.done() for task in tasks)
        await log.reconfigure()
        await put(log, 2)
        for task in tasks:
            covered(await task, 1, 2)

    run(scenario)


async def five_segments(house: House) -> VirtualLog:
    """LSNs 1 to 15, three in each of five segments, one batch each."""
    log = await house.log()
    for first in range(1, 16, 3):
        await put(log, first, first + 1, first + 2)
        if first < 13:
            await log.reconfigure("memory" if first % 2 else "local")
    return log


@pytest.mark.parametrize("trimmed", range(1, 15))
@pytest.mark.parametrize("stale", [False, True])
def test_below_the_trim_point_there_is_one_gap(trimmed: int, stale: bool) -> None:
    """Also when whole segments and a part of the next one are gone."""

    async def scenario(house: House) -> None:
        log = await five_segments(house)
        view = await house.view() if stale else log
        assert await log.trim(trimmed) == trimmed
        for start in (1, trimmed):
            items = await collect(LogReader(view, start, to_lsn=15))
            covered(items, start, 15)
            assert items[0] == TrimGap(start, trimmed)
            assert all(isinstance(item, LogEntry) for item in items[1:])
        assert await collect(LogReader(view, 1, to_lsn=1)) == [TrimGap(1, 1)]

    run(scenario)


@pytest.mark.parametrize("seed", range(30))
def test_a_trim_that_overtakes_the_reader_leaves_no_hole(seed: int) -> None:
    async def scenario(house: House) -> None:
        random = SeededRandom(seed)
        log = await five_segments(house)
        reader = LogReader(log, to_lsn=15, bytes_max=1)
        items: list[ReadItem] = []
        stop = 1 + int(random.fraction() * 8)
        async for item in reader:
            items.append(item)
            if len(items) == stop:
                await log.trim(int(random.fraction() * 15))
        covered(items, 1, 15)

        gaps = [item for item in items if isinstance(item, TrimGap)]
        assert len(gaps) <= 1
        # What was read before the trim is not given again as a gap.
        assert all(gap.first_lsn == stop + 1 for gap in gaps)

    run(scenario)


@pytest.mark.parametrize("seed", range(40))
def test_filtered_lsns_are_in_gaps_and_wanted_ones_are_not(seed: int) -> None:
    async def scenario(house: House) -> None:
        random = SeededRandom(seed)
        log = await house.log()
        keys: dict[int, tuple[bytes, ...] | None] = {}
        lsn = 0
        while lsn < 40:
            group: list[Record] = []
            for _ in range(1 + random.bits(2)):
                lsn += 1
                named = tuple(key for key in KEYS if random.bits(2) == 0)
                keys[lsn] = None if random.bits(4) == 0 else named
                group.append(Record(1, b"%d" % lsn, keys[lsn], 0, None, 0))
            await log.append(group)
            if random.bits(2) == 0:
                await log.reconfigure()
        if random.bits(1):
            await log.trim(int(random.fraction() * 20))
        wanted = set(KEYS[: 1 + random.bits(1)])
        first, last = 1 + int(random.fraction() * 10), 25 + int(random.fraction() * 15)
        reader = LogReader(log, first, to_lsn=last, keys=wanted, bytes_max=1 + random.bits(9))
        items = await collect(reader)
        covered(items, first, last)

        for item in items:
            if isinstance(item, LogEntry):
                assert body(item.record) == item.lsn
                assert item.record.keys is None or wanted & set(item.record.keys)
            elif isinstance(item, FilteredGap):
                for hidden in range(item.first_lsn, item.last_lsn + 1):
                    there = keys[hidden]
                    assert there is not None
                    assert not wanted & set(there)

    run(scenario)


def test_a_reader_that_was_left_goes_on_where_it_was() -> None:
    async def scenario(house: House) -> None:
        log = await five_segments(house)
        reader = LogReader(log, to_lsn=15)
        items: list[ReadItem] = []
        while reader.next_lsn <= 15:
            async for item in reader:
                items.append(item)
                break
        covered(items, 1, 15)

        assert await collect(reader) == []

    run(scenario)


@pytest.mark.parametrize("after", range(12))
def test_a_cancelled_reader_has_neither_lost_nor_doubled_an_item(after: int) -> None:
    async def scenario(house: House) -> None:
        log = await five_segments(house)
        view = await house.view()
        reader = LogReader(view, to_lsn=17, bytes_max=1)
        items: list[ReadItem] = []
        task = asyncio.ensure_future(collect(reader, items))
        await turns(after)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        again = asyncio.ensure_future(collect(reader, items))
        await put(log, 16)
        await log.reconfigure()
        await put(log, 17)
        await again

        covered(items, 1, 17)

    run(scenario)


def test_a_reader_is_told_when_the_log_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_view_module, "POLL_SECONDS", 0.001)

    async def scenario(house: House) -> None:
        log = await house.log()
        await put(log, 1)
        await log.seal()
        waiting = asyncio.ensure_future(collect(LogReader(log)))
        await turns(5)
        log.fail(RuntimeError("the disk is gone"))
        with pytest.raises(LogClosedError, match="the disk is gone"):
            await waiting

    run(scenario)
