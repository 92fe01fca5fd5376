"""The virtual log when something stops in the middle: cancellations, crashes, failing metadata."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from perdure.core.errors import StorageError, TransportError
from perdure.core.random import SeededRandom
from perdure.core.storage.memory import MemoryStore
from perdure.log import (
    Committed,
    Indeterminate,
    LogClosedError,
    LogError,
    NotSequencerError,
    TrimmedError,
    UnknownProviderError,
    VirtualLog,
    led_log,
)
from perdure.log.chain import Chain, Segment, SegmentParams, chain_key, encode_chain, loglet_id
from perdure.log.errors import (
    ChainFullError,
    FuturePositionError,
    LogletLostError,
    ReconfigurationError,
)
from perdure.metadata import MetadataStore
from perdure.metadata.local import LocalMetadataStore

from .lossy import LossyProvider
from .support import turns
from .virtual import LOG, House, SlowMetadata, body, everything, put, rec, run


def stored(house: House, index: int) -> int:
    """How many keys a segment's local loglet has on the disk."""
    first, end = (loglet_id(LOG, number).to_bytes(8) for number in (index, index + 1))
    return sum(len(list(house.store.scan(table + first, table + end))) for table in (b"d", b"k"))


# The chain lock ----------------------------------------------------------------------------------


def test_nobody_waits_for_somebody_elses_commit() -> None:
    lossy = LossyProvider(SeededRandom(3), held=True)

    async def scenario(house: House) -> None:
        log = await house.log()
        held = asyncio.ensure_future(log.append([rec(1)]))
        await turns()
        assert lossy.open(log.chain.tail).in_flight == 1
        others = [asyncio.ensure_future(log.append([rec(n)])) for n in (2, 3)]
        await turns()
        assert lossy.open(log.chain.tail).in_flight == 3
        assert log.enqueue(rec(4)) == 4
        assert not held.done()
        # Neither is the change of the chain held up, though nothing was ever committed.
        await asyncio.wait_for(log.reconfigure("local"), 60)
        await asyncio.gather(held, *others)

        assert set(await everything(log)) >= {1, 2, 3}

    run(scenario, more=[lossy], default_kind="lossy")


# Trimming ----------------------------------------------------------------------------------------


def test_trimming_deletes_whole_segments_from_the_disk() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        indices: list[int] = []
        for number in range(0, 9, 3):
            indices.append(log.open_segment)
            await put(log, number, number + 1, number + 2)
            await log.reconfigure()
        assert [stored(house, index) for index in indices] == [4, 4, 4]
        assert await log.trim(7) == 7
        # Of the third segment one batch is gone and a mark has come.
        assert [stored(house, index) for index in indices] == [0, 0, 4]
        assert await log.trim(2) == 7
        assert await log.trim(1000) == 9
        assert [stored(house, index) for index in indices] == [0, 0, 0]
        assert log.trim_point_lsn == 9

        assert await put(log, 10) == [10]

    run(scenario)


def test_what_a_crash_leaves_between_chain_and_disk_goes_with_the_next_deletion() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        first = log.open_segment
        await put(log, 1)
        await log.reconfigure()
        await put(log, 2)
        second = log.open_segment
        await log.reconfigure()
        house.store.fail_next_write()
        with pytest.raises(LogClosedError):
            await log.trim(1)
        house.close()
        again = House(house.store.crash(), house.metadata)
        log = await again.log()
        assert log.trim_point_lsn == 1
        assert stored(again, first) > 0
        assert await log.trim(2) == 2

        assert [stored(again, index) for index in (first, second)] == [0, 0]
        again.close()

    run(scenario)


def test_a_view_that_is_behind_trims_segments_it_has_not_seen() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        view = await house.view()
        for first in (1, 3, 5):
            await put(log, first, first + 1)
            await log.reconfigure()
        assert await view.trim(4) == 4
        assert view.chain.first_lsn == 5

        assert await everything(view) == [5, 6]

    run(scenario)


def test_reading_below_the_trim_point_or_beyond_the_tail_names_both_positions() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        await put(log, 1, 2, 3)
        await log.trim(2)
        with pytest.raises(TrimmedError) as trimmed:
            await log.read(1)
        with pytest.raises(FuturePositionError) as future:
            await log.read(5)

        assert (trimmed.value.position, trimmed.value.trim_point) == (1, 2)
        assert (future.value.position, future.value.tail) == (5, 4)
        assert await log.read(4) == []

    run(scenario)


def test_a_trim_never_reaches_what_is_not_committed() -> None:
    lossy = LossyProvider(SeededRandom(0), held=True)

    async def scenario(house: House) -> None:
        log = await house.log()
        held = asyncio.ensure_future(log.append([rec(1)]))
        await turns()
        assert await log.trim(100) == 0
        lossy.open(log.chain.tail).commit()
        assert await held == Committed(1, 1)

        assert await everything(log) == [1]

    run(scenario, more=[lossy], default_kind="lossy")


# Cancelling --------------------------------------------------------------------------------------

Change = Callable[[VirtualLog], Coroutine[Any, Any, object]]

CHANGES: dict[str, Change] = {
    "append": lambda log: log.append([rec(50)]),
    "lead": lambda log: log.lead(),
    "reconfigure": lambda log: log.reconfigure("memory"),
    "seal": lambda log: log.seal(),
    "trim": lambda log: log.trim(3),
    "recover": lambda log: log.recover(),
}


@pytest.mark.parametrize("kind", ["local", "lossy"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_log_works_whatever_was_cancelled_in_the_middle(change: str, kind: str) -> None:
    async def scenario(house: House, after: int) -> bool:
        log = await house.log()
        await put(log, 1, 2)
        await log.reconfigure()
        await put(log, 3, 4)
        if change == "recover":
            await log._loglet(log.chain.tail).seal()
        beside = [asyncio.ensure_future(log.append([rec(n)])) for n in (5, 6)]
        task = asyncio.ensure_future(CHANGES[change](log))
        await turns(after)
        ended = task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        # Otherwise the log has to find its way by itself.
        if change == "seal":
            await log.reconfigure()
        if change == "lead":
            await log.lead()
        answers = await asyncio.gather(*beside, return_exceptions=True)
        last = await put(log, 7)
        found = await everything(log)

        assert found[-1] == 7
        assert last == [log.trim_point_lsn + len(found)]
        acknowledged = [n for n, answer in zip((5, 6), answers, strict=True) if committed(answer)]
        assert sorted(n for n in found if n in (5, 6)) == acknowledged
        if change not in ("seal", "lead"):
            assert acknowledged == [5, 6], answers
        if change != "trim":
            assert found[:4] == [1, 2, 3, 4]
        return ended

    def committed(answer: object) -> bool:
        return type(answer) is Committed

    def every() -> int:
        for after in range(80):
            ended: list[bool] = []

            async def one(house: House, after: int = after, ended: list[bool] = ended) -> None:
                ended.append(await scenario(house, after))

            run(one, more=[LossyProvider(SeededRandom(after))], default_kind=kind)
            if ended == [True]:
                return after
        raise AssertionError("it never ends")

    assert every() >= 2


# Metadata that fails -----------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["fail_put_before", "fail_put_after"])
def test_a_change_of_the_chain_whose_outcome_is_unknown_is_made_good(where: str) -> None:
    """The chain may have our segment or not: nobody else leads, so the next append goes on."""

    async def scenario(house: House) -> None:
        log = await house.log()
        await put(log, 1)
        setattr(house.metadata, where, TransportError("the metadata store did not answer"))
        with pytest.raises(TransportError):
            await log.reconfigure()
        assert await put(log, 2) == [2]
        setattr(house.metadata, where, TransportError("the metadata store did not answer"))
        with pytest.raises(TransportError):
            await log.lead()
        await log.lead()
        assert await put(log, 3) == [3]

        assert await everything(log) == [1, 2, 3]

    run(scenario)


def test_losing_the_metadata_stops_nothing_but_reconfiguration() -> None:
    class Gone(SlowMetadata):
        async def get(self, key: str) -> Any:
            raise TransportError("the metadata store is gone")

    async def scenario(house: House) -> None:
        log = await house.log()
        log._chains._metadata = Gone()  # As if the connection were lost.
        await put(log, 1, 2)
        assert await everything(log) == [1, 2]
        assert await log.trim(1) == 1
        with pytest.raises(TransportError):
            await log.reconfigure()
        assert await put(log, 3) == [3]

    run(scenario)


def test_a_chain_that_others_keep_changing_is_given_up_in_the_end() -> None:
    class Contended(SlowMetadata):
        contended = False

        async def get(self, key: str) -> Any:
            found = await self.store.get(key)
            if self.contended and found is not None:
                await self.store.put(key, found.value)
            return found

    metadata = Contended()

    async def scenario(house: House) -> None:
        log = await house.log()
        await put(log, 1)
        metadata.contended = True
        with pytest.raises(ReconfigurationError, match="32 times"):
            await log.reconfigure()
        metadata.contended = False
        assert await put(log, 2) == [2]

    run(scenario, metadata=metadata)


def test_a_full_chain_refuses_before_it_seals_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(led_log, "SEGMENTS_MAX", 3)

    async def scenario(house: House) -> None:
        log = await house.log()
        for number in (1, 2):
            await put(log, number)
            await log.reconfigure()
        with pytest.raises(ChainFullError, match="trim it"):
            await log.reconfigure()
        assert log.accepting
        await put(log, 3)
        await log.trim(1)
        await log.reconfigure()

        assert await everything(log) == [2, 3]

    run(scenario)


def test_a_provider_that_is_not_there_is_named_before_anything_is_sealed() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        await put(log, 1)
        index = log.open_segment
        for change in (log.reconfigure("paper"), log.lead(kind="paper")):
            with pytest.raises(UnknownProviderError, match=r"'paper'.*local, memory"):
                await change
        await put(log, 2)
        assert log.open_segment == index
        params = SegmentParams(1, 1, 0)
        chain = Chain((Segment(1, 1, "paper", params),))
        await house.metadata.put(chain_key(LOG), encode_chain(chain))
        other = await house.view()
        with pytest.raises(UnknownProviderError, match="'paper'"):
            await other.find_tail()

    run(scenario)


# The disk ----------------------------------------------------------------------------------------


def test_after_a_failure_of_the_disk_nothing_is_taken_and_nobody_waits() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        await put(log, 1)
        house.store.fail_next_sync()
        appends = [asyncio.ensure_future(log.append([rec(n)])) for n in (2, 3)]
        await turns()
        house.logs.fail(house.local.failures[0])
        for append in appends:
            assert type(await append) is Indeterminate
        for change in (log.append([rec(4)]), log.lead(), log.reconfigure(), log.recover()):
            with pytest.raises(LogClosedError):
                await change

        assert [body(item) for batch in await log.read(1) for item in batch.batch.records] == [1]

    run(scenario)


async def reconfigured_under_load(house: House, acknowledged: list[int]) -> None:
    """Appends beside two reconfigurations and a trim; the numbers that were acknowledged."""
    log = await house.log()

    async def append(number: int) -> None:
        if type(await log.append([rec(number)])) is Committed:
            acknowledged.append(number)

    numbers = iter(range(1, 1000))
    for _ in range(2):
        appends = [append(next(numbers)) for _ in range(4)]
        await asyncio.gather(*appends, log.reconfigure())
    await log.trim(1)
    await append(next(numbers))


def test_a_crash_at_any_write_of_a_reconfiguration_loses_nothing_acknowledged() -> None:
    """Log and metadata have a disk each, and each of the two fails in turn."""

    async def crashed(which: str, after: int, seed: int) -> bool:
        random = SeededRandom(seed)
        disk, metadata_disk = MemoryStore(), MemoryStore()
        house = House(disk, local_metadata(metadata_disk))
        log = await house.log()
        await put(log, 0)
        acknowledged: list[int] = []
        (disk if which == "log" else metadata_disk).fail_after(after)
        load = asyncio.ensure_future(reconfigured_under_load(house, acknowledged))
        failed = False
        try:
            while not load.done() and not house.local.failures:
                await asyncio.sleep(0)
            if load.done():
                load.result()
        except (StorageError, LogError):
            failed = True
        failed = failed or bool(house.local.failures)
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
        house.close()

        again = House(disk.crash(random), local_metadata(metadata_disk.crash(random)))
        log = await again.log()
        await put(log, 500)
        tail = (await log.find_tail()).lsn
        found: list[int] = []
        lsn = log.trim_point_lsn + 1
        while lsn < tail:
            for item in await log.read(lsn):
                assert item.first_lsn == lsn
                lsn = item.last_lsn + 1
                found += [body(record) for record in item.batch.records]
        assert found[-1] == 500
        assert len(set(found)) == len(found)
        missing = set(acknowledged) - set(found)
        assert len(missing) <= log.trim_point_lsn, missing
        again.close()
        return failed

    for which in ("log", "metadata"):
        for after in range(60):
            failures = [asyncio.run(crashed(which, after, seed)) for seed in range(3)]
            if not any(failures):
                break
        assert 3 <= after < 59, f"{which}: {after} writes"


def local_metadata(store: MemoryStore) -> MetadataStore:
    """Metadata on a disk that can fail."""
    return LocalMetadataStore(store)


def test_a_segment_that_was_in_the_memory_of_an_ended_process_is_reported_lost() -> None:
    async def scenario(house: House) -> None:
        log = await house.log("memory")
        await put(log, 1)
        house.close()
        again = House(house.store.crash(), house.metadata, default_kind="memory")
        log = await again.logs.open(LOG, create=True)
        for change in (log.find_tail(), log.read(1), log.lead(), log.seal()):
            with pytest.raises(LogletLostError, match="LSN 1"):
                await change
        with pytest.raises(NotSequencerError):
            await log.append([rec(2)])
        again.close()

    run(scenario)
