"""The virtual log: one sequence over changing loglets, one sequencer, no record lost."""

import asyncio

import pytest

from perdure.core.random import SeededRandom
from perdure.log import (
    Committed,
    Conflict,
    LogEntry,
    LogReader,
    LogTail,
    NotChangedSince,
    NotSequencerError,
    Sealed,
    StaleEpochError,
    StaleSnapshot,
    UnknownSegmentError,
    VirtualLog,
    WrongSegment,
    virtual_log,
)

from .lossy import LossyProvider
from .support import turns
from .virtual import KEY, LOG, House, SlowMetadata, body, everything, put, rec, run

# Appending and reading over segments -------------------------------------------------------------


def test_lsns_go_on_over_segments_and_providers() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        assert await put(log, 1, 2) == [1, 2]
        for number, kind in enumerate(("memory", "local", "memory", "local"), 3):
            segment = await log.reconfigure(kind)
            assert (segment.kind, segment.base_lsn) == (kind, number)
            assert await put(log, number) == [number]

        assert await everything(log) == [1, 2, 3, 4, 5, 6]
        assert await log.find_tail() == LogTail(7, False)
        assert [segment.base_lsn for segment in log.chain.segments] == [1, 3, 4, 5, 6]

    run(scenario)


def test_an_empty_segment_is_replaced_and_leaves_no_gap() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        for _ in range(3):
            await log.reconfigure()
        assert [segment.base_lsn for segment in log.chain.segments] == [1]
        await put(log, 1)

        assert await everything(log) == [1]

    run(scenario)


def test_record_times_do_not_go_back_when_the_new_segments_clock_is_behind() -> None:
    async def scenario(house: House) -> None:
        log = await house.log("memory")
        house.local.clock.now_ns -= 10**12  # type: ignore[attr-defined]
        await put(log, 1)
        await log.reconfigure("local")
        await put(log, 2)
        times = [
            entry.record_time_ns
            async for entry in LogReader(log, to_lsn=2)
            if isinstance(entry, LogEntry)
        ]

        assert times == sorted(times)
        assert len(times) == 2

    run(scenario)


def test_conditions_hold_over_segments() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        await log.append([rec(1, KEY)])
        await log.reconfigure()
        # What the new sequencer does not remember is stale, never wrongly granted.
        stale = await log.append([rec(2, KEY)], conditions=[NotChangedSince(KEY, 0)])
        held = await log.append([rec(2, KEY)], conditions=[NotChangedSince(KEY, 1)])
        lost = await log.append([rec(3, KEY)], conditions=[NotChangedSince(KEY, 1)])

        assert stale == StaleSnapshot(1)
        assert held == Committed(2, 2)
        assert lost == Conflict(KEY, 2)

    run(scenario)


def test_an_append_meant_for_another_segment_is_refused() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        index = log.open_segment
        assert await log.append([rec(1)], segment=index) == Committed(1, 1)
        await log.reconfigure()
        assert await log.append([rec(2)], segment=index) == WrongSegment(index + 1)

        assert await everything(log) == [1]

    run(scenario)


# The tail ----------------------------------------------------------------------------------------


def test_the_tail_is_never_below_what_was_acknowledged_before() -> None:
    async def scenario(house: House, seed: int) -> None:
        random = SeededRandom(seed)
        log = await house.log()
        views = [log, await house.view(), await house.view()]
        acknowledged = 0
        done = False

        async def append() -> None:
            nonlocal acknowledged
            while not done:
                answer = await log.append([rec(1)])
                assert type(answer) is Committed
                acknowledged = max(acknowledged, answer.last_lsn)

        async def look(view: VirtualLog) -> None:
            seen = 0
            while not done:
                before = acknowledged
                tail = await view.find_tail()
                assert tail.lsn > before
                assert tail.lsn >= seen
                seen = tail.lsn
                await asyncio.sleep(0)

        async def reconfigure() -> None:
            nonlocal done
            for _ in range(12):
                await turns(int(random.fraction() * 10))
                await log.reconfigure(("local", "memory")[random.bits(1)])
            done = True

        # Two look through one view at a time: neither may take the other's news for old.
        looks = [look(view) for view in (*views, *views)]
        await asyncio.gather(append(), append(), reconfigure(), *looks)

    for seed in range(15):
        run(lambda house, seed=seed: scenario(house, seed))  # type: ignore[misc]


def test_a_second_look_through_a_stale_view_is_as_new_as_the_first() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        view = await house.view()
        await put(log, 1)
        await log.reconfigure()
        await put(log, 2)
        tails = await asyncio.gather(*[view.find_tail() for _ in range(4)])

        assert tails == [LogTail(3, False)] * 4

    run(scenario)


def test_looking_for_the_tail_of_an_open_log_reads_no_metadata() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        await put(log, 1)
        assert isinstance(house.metadata, SlowMetadata)
        before = house.metadata.gets
        for _ in range(10):
            await log.find_tail()
            await log.read(1)

        assert house.metadata.gets == before

    run(scenario)


# Sealing -----------------------------------------------------------------------------------------


def test_a_sealed_log_refuses_until_it_is_reconfigured() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        await put(log, 1)
        index = log.open_segment
        assert await log.seal() == LogTail(2, True)
        assert await log.seal() == LogTail(2, True)
        assert await log.append([rec(2)]) == Sealed(index)
        assert log.sealed
        assert await log.find_tail() == LogTail(2, True)
        await log.reconfigure()
        await put(log, 2)
        assert await log.seal() == LogTail(3, True)
        await log.lead()
        await put(log, 3)

        assert await everything(log) == [1, 2, 3]

    run(scenario)


@pytest.mark.parametrize("seed", range(10))
def test_sealing_a_log_answers_everything_in_flight(seed: int) -> None:
    lossy = LossyProvider(SeededRandom(seed), held=True)

    async def scenario(house: House) -> None:
        log = await house.log()
        appends = [asyncio.ensure_future(log.append([rec(n)])) for n in range(8)]
        await turns()
        tail = await log.seal()
        # At once, not when somebody comes to look.
        await turns(30)
        answers = [append.result() for append in appends]
        kept = tail.lsn - 1

        assert answers[:kept] == [Committed(lsn, lsn) for lsn in range(1, kept + 1)]
        assert answers[kept:] == [Sealed(log.open_segment)] * (8 - kept)
        assert await everything(log) == list(range(kept))

    run(scenario, more=[lossy], default_kind="lossy")


def test_a_log_that_another_process_sealed_refuses_and_is_not_opened_by_appending() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        view = await house.view()
        await put(log, 1)
        await view.seal(log.open_segment)
        assert await log.append([rec(2)]) == Sealed(log.open_segment)
        assert await view.find_tail() == LogTail(2, True)
        await log.reconfigure()
        await put(log, 2)

        assert await everything(view) == [1, 2]

    run(scenario)


def test_sealing_names_the_segment_that_is_not_the_last_one() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        view = await house.view()
        await put(log, 1)
        stale = log.open_segment
        await log.reconfigure()
        for segment in (stale, 77):
            with pytest.raises(UnknownSegmentError) as error:
                await view.seal(segment)
            assert (error.value.log, error.value.segment) == (LOG, segment)

        assert await put(log, 2) == [2]

    run(scenario)


def test_the_leader_goes_on_by_itself_when_a_loglet_is_sealed_under_it() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        view = await house.view()
        await put(log, 1)
        sealed = log.chain.tail
        await house.local.provider.open(sealed).seal()
        # Somebody who does not lead finds the tail and leaves the chain as it is.
        assert await view.find_tail() == LogTail(2, False)
        with pytest.raises(NotSequencerError):
            await view.append([rec(9)])
        with pytest.raises(NotSequencerError):
            await view.recover()
        with pytest.raises(NotSequencerError):
            await view.reconfigure()
        await view.refresh()
        assert view.chain.tail == sealed

        assert await put(log, 2) == [2]
        assert log.chain.tail.index > sealed.index
        assert await everything(view) == [1, 2]

    run(scenario)


def test_who_enqueues_is_called_to_recover_once_and_told_when_the_log_is_open() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        told: list[str] = []
        seen: list[int] = []
        log.listen(
            lambda item: seen.extend(body(record) for record in item.batch.records),
            on_open=lambda: told.append("open"),
            on_sealed=lambda: told.append("sealed"),
        )
        assert log.enqueue(rec(1)) == 1
        await turns()
        await house.local.provider.open(log.chain.tail).seal()
        for _ in range(3):
            assert log.enqueue(rec(2)) is None
            assert not log.accepting
            log.recover_soon()
        assert told == ["sealed"]
        await log.recover()
        assert told == ["sealed", "open"]
        assert log.enqueue(rec(2)) == 2
        await turns()

        assert seen == [1, 2]

    run(scenario)


@pytest.mark.parametrize("change", ["trim", "refused", "reconfigure"])
def test_what_was_held_back_is_called_for_after_every_change_of_the_chain(change: str) -> None:
    """Also after one that opened no segment: nobody else would send it."""

    async def scenario(house: House) -> None:
        log = await house.log()
        await put(log, 1)
        await log.reconfigure()
        await put(log, 2)
        opened: list[bool] = []
        log.listen(lambda item: None, on_open=lambda: opened.append(log.accepting))

        async def changes() -> None:
            if change == "trim":
                await log.trim(1)
            elif change == "reconfigure":
                await log.reconfigure()
            else:
                with pytest.raises(StaleEpochError):
                    await log.lead(1)

        if change == "refused":
            await log.lead(5)
        task = asyncio.ensure_future(changes())
        while log.accepting:
            await asyncio.sleep(0)
        assert log.enqueue(rec(3)) is None
        opened.clear()
        await task

        assert opened == [True]

    run(scenario)


# Who leads ---------------------------------------------------------------------------------------


def test_a_higher_epoch_deposes_and_a_lower_one_is_refused() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        other = await house.view()
        await put(log, 1)
        assert await other.lead(7) == 7
        with pytest.raises(NotSequencerError):
            await log.append([rec(2)])
        assert log.epoch == 0
        with pytest.raises(NotSequencerError):
            log.enqueue(rec(2))
        with pytest.raises(StaleEpochError) as error:
            await log.lead(6)
        assert (error.value.epoch, error.value.current) == (6, 7)
        # The refusal has not disturbed the leader.
        index = other.open_segment
        assert await put(other, 2) == [2]
        assert other.open_segment == index
        assert await log.lead() == 8
        await put(log, 3)

        assert await everything(other) == [1, 2, 3]

    run(scenario)


def test_a_deposed_leader_cannot_reconfigure_and_hears_who_leads() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        other = await house.view()
        await other.lead()
        with pytest.raises(NotSequencerError, match="under epoch 2"):
            await log.reconfigure()

        assert await put(other, 1) == [1]

    run(scenario)


def test_of_many_who_take_the_lead_at_once_one_has_it() -> None:
    async def scenario(house: House) -> None:
        logs = [await house.log(), *[await house.view() for _ in range(4)]]
        epochs = await asyncio.gather(*[log.lead() for log in logs])
        assert len(set(epochs)) == len(epochs)
        answers = await asyncio.gather(
            *[log.append([rec(number)]) for number, log in enumerate(logs)],
            return_exceptions=True,
        )
        winner = epochs.index(max(epochs))

        assert answers[winner] == Committed(1, 1)
        assert [type(answer) for answer in answers].count(NotSequencerError) == 4
        assert [log.epoch > 0 for log in logs].count(True) == 1
        assert await everything(logs[0]) == [winner]

    run(scenario)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_in_flight_when_the_lead_is_lost_gets_a_true_answer(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(virtual_log, "POLL_SECONDS", 0.001)
    lossy = LossyProvider(SeededRandom(seed), held=True)

    async def scenario(house: House) -> None:
        log = await house.log()
        other = await house.view()
        appends = [asyncio.ensure_future(log.append([rec(n), rec(n + 100)])) for n in range(10)]
        await turns()
        await other.lead()
        # Nobody tells the deposed leader, and it appends nothing more: it looks by itself.
        answers = await asyncio.gather(*appends, return_exceptions=True)
        kept = [n for n, answer in enumerate(answers) if type(answer) is Committed]
        lost = [n for n, answer in enumerate(answers) if type(answer) is NotSequencerError]

        assert kept + lost == list(range(10))
        assert await everything(other) == [m for n in kept for m in (n, n + 100)]

    run(scenario, more=[lossy], default_kind="lossy")


@pytest.mark.parametrize("seed", range(20))
def test_the_listener_hears_every_batch_of_the_log_once_whoever_sealed_it(seed: int) -> None:
    lossy = LossyProvider(SeededRandom(seed), held=True)

    async def scenario(house: House) -> None:
        log = await house.log()
        seen: list[int] = []
        log.listen(lambda item: seen.extend(body(record) for record in item.batch.records))
        for _ in range(4):
            tail = lossy.open(log.chain.tail)
            for number in range(6):
                assert log.enqueue(rec(10 * log.open_segment + number)) is not None
            tail.commit(2)
            if seed % 2:
                await tail.seal()
                await log.recover()
            else:
                await log.reconfigure()
            tail.tell_late()

        assert seen == await everything(log)
        assert len(seen) >= 8

    run(scenario, more=[lossy], default_kind="lossy")


def test_a_refusal_waits_for_its_cause_and_falls_with_it() -> None:
    class Least(SeededRandom):
        def fraction(self) -> float:
            return 0.0  # Keep nothing of what is in flight.

    lossy = LossyProvider(Least(0), held=True)

    async def scenario(house: House) -> None:
        log = await house.log()
        pinned = log.open_segment
        first = asyncio.ensure_future(log.append([rec(1, KEY)], segment=pinned))
        await turns()
        second = asyncio.ensure_future(
            log.append([rec(2, KEY)], conditions=[NotChangedSince(KEY, 0)])
        )
        await turns()
        assert not second.done()
        await log.reconfigure()
        assert await first == Sealed(pinned)
        await turns(20)
        # The cause is lost, so the second one is asked about again and may have the place.
        assert not second.done()
        lossy.open(log.chain.tail).commit()

        assert await second == Committed(1, 1)

    run(scenario, more=[lossy], default_kind="lossy")
