"""Appender: in order, each once, everything answered, whatever happens to the log meanwhile."""

import asyncio
import sys
from asyncio import Future
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from perdure.core.random import SeededRandom
from perdure.log import (
    Answer,
    Committed,
    Conflict,
    FuturePositionError,
    Indeterminate,
    LogClosedError,
    LogEntry,
    LogReader,
    MalformedAppendError,
    NotChangedSince,
    NotSequencerError,
    ProducerFilter,
    Sealed,
    StaleSnapshot,
    VirtualLog,
)
from perdure.log import appender as appender_module
from perdure.log.appender import Appender, AppenderOptions
from perdure.log.sequencer import SequencerLimits

from .lossy import LossyProvider
from .mesh import HOPELESS, PATIENT, AwayHouse, never_poll
from .support import turns
from .virtual import KEY, House, body, everything, put, rec
from .virtual import run as run_in

PRODUCER = bytes(range(16))
_house: type[House] = House


@pytest.fixture(autouse=True, params=[House, AwayHouse], ids=["here", "away"])
def _where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever appends is on the node that orders the log, or on another one."""
    monkeypatch.setattr(sys.modules[__name__], "_house", request.param)


def run(scenario: Callable[[House], Awaitable[None]], **options: Any) -> None:
    """Run in either place."""
    run_in(scenario, _house, **options)


class Half(SeededRandom):
    """A seal keeps half of what is in flight and tells of half of that."""

    def fraction(self) -> float:
        return 0.5


def appender(log: VirtualLog, house: House, number: int = 0, **limits: int) -> Appender:
    """One with a producer id of its own."""
    options = AppenderOptions(**limits) if limits else None
    door, producer = house.door(log), bytes([number]) + PRODUCER[1:]
    return Appender(door, producer, loop=house.loop, options=options)


async def counted(log: VirtualLog) -> dict[int, int]:
    """LSN to number of all records, each of which its producer's filter must let through."""
    tail = (await log.find_tail()).lsn
    accepted = ProducerFilter()
    found: dict[int, int] = {}
    async for item in LogReader(log, to_lsn=tail - 1):
        assert isinstance(item, LogEntry)
        assert accepted.accept(item.record), item
        found[item.lsn] = body(item.record)
    return found


async def arrived(log: VirtualLog, tail_lsn: int) -> None:
    """Wait until so much has come to the sequencer."""
    while log._sequencer is not None and log._sequencer.tail_lsn < tail_lsn:
        await turns()


def numbers_of(answers: list["Future[Answer]"]) -> list[type[object]]:
    return [type(answer.result()) for answer in answers]


def test_many_are_in_flight_and_come_in_order() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        async with appender(log, house) as one:
            answers = [await one.submit([rec(n)]) for n in range(100)]
            assert one.records_in_flight == 100
            assert not any(answer.done() for answer in answers)
        assert [answer.result() for answer in answers] == [
            Committed(lsn, lsn) for lsn in range(1, 101)
        ]
        assert list((await counted(log)).values()) == list(range(100))
        # One turn of the loop, one write: that is what pipelining is for.
        assert house.local.writer.batches == 1

    run(scenario)


@pytest.mark.parametrize("kinds", [("lossy",), ("lossy", "local", "memory")])
@pytest.mark.parametrize("seed", range(60))
def test_everything_is_there_once_and_in_order_over_lossy_reconfigurations(
    seed: int, kinds: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appender_module, "POLL_SECONDS", 0.001)
    random = SeededRandom(seed)
    lossy = LossyProvider(random)

    async def scenario(house: House) -> None:
        log = await house.log()
        answers: list[list[Future[Answer]]] = [[], [], []]

        async def produce(number: int) -> None:
            async with appender(log, house, number, records_in_flight_max=20) as one:
                for n in range(0, 120, 2):
                    records = [rec(1000 * number + n), rec(1000 * number + n + 1)]
                    answers[number].append(await one.submit(records))
                    if random.bits(2) == 0:
                        await turns(random.bits(2))

        async def reconfigure() -> None:
            for _ in range(8):
                await turns(int(random.fraction() * 12))
                if random.bits(1):
                    await log.reconfigure(kinds[int(random.fraction() * len(kinds))])
                else:
                    await log._loglet(log.chain.tail).seal()

        await asyncio.gather(*[produce(number) for number in range(3)], reconfigure())
        found = await counted(log)
        for number in range(3):
            own = [n for n in found.values() if n // 1000 == number]
            assert own == [1000 * number + n for n in range(120)]
            for index, answer in enumerate(answers[number]):
                committed = answer.result()
                assert type(committed) is Committed
                assert found[committed.first_lsn] == 1000 * number + 2 * index

    run(scenario, more=[lossy], default_kind="lossy")


@pytest.mark.parametrize("seed", range(40))
def test_a_log_that_cannot_tell_is_read(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old segment's end cannot be read when it is sealed: the answers are Indeterminate."""
    never_poll(monkeypatch)
    lossy = LossyProvider(SeededRandom(seed), held=True)

    async def scenario(house: House) -> None:
        log = await house.log()
        async with appender(log, house) as one:
            answers = [await one.submit([rec(n)]) for n in range(20)]
            await arrived(log, 21)
            tail = lossy.open(log.chain.tail)
            tail.commit(3)
            tail.failing_reads = 1
            lossy.held = False
            await log.reconfigure()
            await one.flush()
            tail.failing_reads = 0
            assert one.epoch == 2
        assert set(numbers_of(answers)) == {Committed}
        found = await counted(log)
        assert list(found.values()) == list(range(20))
        assert [answer.result() for answer in answers] == [Committed(lsn, lsn) for lsn in found]

    run(scenario, more=[lossy], default_kind="lossy")


def test_what_nobody_can_read_any_more_is_indeterminate() -> None:
    lossy = LossyProvider(Half(0), held=True)

    async def scenario(house: House) -> None:
        log = await house.log()
        async with appender(log, house) as one:
            answers = [await one.submit([rec(n)]) for n in range(20)]
            await arrived(log, 21)
            lossy.open(log.chain.tail).failing_reads = 1000
            lossy.held = False
            await log.reconfigure()
            await one.flush()
            later = await one.append([rec(20)])
        told = [answer.result() for answer in answers]

        assert [type(answer) for answer in told] == [Committed] * 5 + [Indeterminate] * 15
        assert "do not answer" in getattr(told[-1], "reason", "")
        assert type(later) is Committed

    run(scenario, more=[lossy], default_kind="lossy")


def test_a_refusal_leaves_no_gap_in_the_numbers() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        async with appender(log, house) as one:
            first = await one.submit([rec(1, KEY), rec(2)])
            refused = await one.submit([rec(3, KEY)], conditions=[NotChangedSince(KEY, 0)])
            third = await one.submit([rec(4)])
            future = await one.submit([rec(5)], conditions=[NotChangedSince(KEY, 99)])
            fifth = await one.submit([rec(6, KEY)], conditions=[NotChangedSince(KEY, 1)])
        assert first.result() == Committed(1, 2)
        assert refused.result() == Conflict(KEY, 1)
        assert third.result() == Committed(3, 3)
        assert isinstance(future.exception(), FuturePositionError)
        assert fifth.result() == Committed(4, 4)

        assert list((await counted(log)).values()) == [1, 2, 4, 6]
        # On another node nobody knew of the refusals when the next one was sent.
        assert one.epoch == (1 if _house is House else 3)

    run(scenario)


@pytest.mark.parametrize("_where", [House], indirect=True)
def test_conditions_stay_as_they_are_when_an_append_is_sent_again() -> None:
    lossy = LossyProvider(Half(0), held=True)

    async def scenario(house: House) -> None:
        log = await house.log()
        async with appender(log, house) as one:
            kept = await one.submit([rec(1, KEY)])
            lost = [
                await one.submit([rec(2, KEY)], conditions=[NotChangedSince(KEY, 0)]),
                await one.submit([rec(3)]),
                await one.submit([rec(4)], conditions=[NotChangedSince(KEY, 1)]),
            ]
            lossy.held = False
            await log.reconfigure()
        assert kept.result() == Committed(1, 1)
        told = [answer.result() for answer in lost]

        # Kept were 1 and 3; the new segment's sequencer knows of nothing before itself.
        assert told == [Conflict(KEY, 1), Committed(2, 2), StaleSnapshot(2)]
        assert list((await counted(log)).values()) == [1, 3]

    run(scenario, more=[lossy], default_kind="lossy")


def test_a_log_sealed_as_a_whole_answers_sealed_and_goes_on_when_it_is_opened() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        async with appender(log, house) as one:
            first = await one.submit([rec(1)])
            await arrived(log, 2)
            await log.seal()
            second = await one.submit([rec(2)])
            await one.flush()
            assert type(first.result()) is Committed
            assert second.result() == Sealed(log.chain.tail.index)
            await log.reconfigure()
            assert await one.append([rec(3)]) == Committed(2, 2)

        assert list((await counted(log)).values()) == [1, 3]

    run(scenario)


@pytest.mark.parametrize("seed", range(20))
def test_who_loses_the_lead_tells_what_is_in_the_log_and_what_is_not(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appender_module, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(AwayHouse, "patience", HOPELESS)
    lossy = LossyProvider(SeededRandom(seed), held=True)

    async def scenario(house: House) -> None:
        log = await house.log()
        other = await house.view()
        async with appender(log, house) as one:
            answers = [await one.submit([rec(n)]) for n in range(10)]
            # Nothing tells this process and nothing more is sent: it looks by itself.
            await other.lead()
            await asyncio.wait(answers)
            late = await one.submit([rec(99)])
        kept = [n for n, answer in enumerate(answers) if answer.exception() is None]
        assert [type(answers[n].result()) for n in kept] == [Committed] * len(kept)
        for answer in (*answers[len(kept) :], late):
            assert isinstance(answer.exception(), NotSequencerError)

        assert await everything(other) == kept

    run(scenario, more=[lossy], default_kind="lossy")


def test_a_failing_disk_answers_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AwayHouse, "patience", PATIENT)

    async def scenario(house: House) -> None:
        log = await house.log()
        async with appender(log, house) as one:
            assert type(await one.append([rec(1)])) is Committed
            house.store.fail_next_sync()
            doubtful = await one.submit([rec(2)])
            await arrived(log, 3)
            await turns()
            house.logs.fail(house.local.failures[0])
            late = await one.submit([rec(3)])
        assert type(doubtful.result()) is Indeterminate
        # Another node looks for somebody who takes it.
        error = LogClosedError if _house is House else NotSequencerError
        assert isinstance(late.exception(), error)

    run(scenario)


def test_appenders_share_a_log_that_takes_little_at_a_time() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()

        async def produce(number: int) -> None:
            async with appender(log, house, number) as one:
                answers = [await one.submit([rec(100 * number + n)]) for n in range(30)]
            assert set(numbers_of(answers)) == {Committed}
            assert one.epoch == 1 or _house is AwayHouse

        await asyncio.gather(*[produce(number) for number in range(4)])
        found = list((await counted(log)).values())
        for number in range(4):
            own = [n for n in found if n // 100 == number]
            assert own == [100 * number + n for n in range(30)]

    run(scenario, limits=SequencerLimits(records_in_flight_max=3))


def test_a_sequencer_that_forgot_the_producer_is_begun_with_anew() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        async with appender(log, house, 1) as one, appender(log, house, 2) as two:
            answers: list[Future[Answer]] = []
            for number in range(10):
                answers += [await one.submit([rec(number)]), await two.submit([rec(100 + number)])]
                if number % 3 == 0:
                    await turns(5)
            await asyncio.gather(one.flush(), two.flush())
            assert one.epoch > 1
        assert set(numbers_of(answers)) == {Committed}
        found = list((await counted(log)).values())

        assert [n for n in found if n < 100] == list(range(10))
        assert [n for n in found if n >= 100] == list(range(100, 110))

    run(scenario, limits=SequencerLimits(producers_max=1))


# Bounds, cancelling, closing ---------------------------------------------------------------------


def test_submitting_waits_in_order_while_too_much_is_in_flight() -> None:
    lossy = LossyProvider(SeededRandom(0), held=True)

    async def scenario(house: House) -> None:
        log = await house.log()
        async with appender(log, house, records_in_flight_max=4, bytes_in_flight_max=1000) as one:
            await one.submit([rec(1), rec(2), rec(3)])
            waiting = [asyncio.ensure_future(one.submit([rec(n), rec(n + 1)])) for n in (4, 6, 8)]
            small = asyncio.ensure_future(one.submit([rec(10)]))
            await turns()
            assert not any(task.done() for task in (*waiting, small))
            # Cancelled while it waits, it has taken nothing and lets the next one by.
            waiting[1].cancel()
            tail = lossy.open(log.chain.tail)
            while not small.done():
                tail.commit(1)
                await turns(20)
                assert one.records_in_flight <= 4
            large = asyncio.ensure_future(one.submit([rec(11, size=5000)]))
            await turns()
            assert not large.done()
            tail.commit()
            await turns(20)
            assert large.done()
            await arrived(log, 10)
            tail.commit()

        assert list((await counted(log)).values()) == [1, 2, 3, 4, 5, 8, 9, 10, 11]

    run(scenario, more=[lossy], default_kind="lossy")


def test_a_bad_append_is_refused_before_it_takes_room() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        async with appender(log, house) as one:
            with pytest.raises(MalformedAppendError):
                await one.submit([])
            with pytest.raises(MalformedAppendError):
                await one.submit([rec(1, b"short")])
            assert one.records_in_flight == 0
            assert type(await one.append([rec(1)])) is Committed

    run(scenario)


def test_a_future_that_is_cancelled_takes_back_only_what_is_not_sent() -> None:
    lossy = LossyProvider(SeededRandom(0), held=True)

    async def scenario(house: House) -> None:
        log = await house.log()
        async with appender(log, house) as one:
            sent = await one.submit([rec(1)])
            await arrived(log, 2)
            sent.cancel()
            lossy.open(log.chain.tail).commit()
            await turns()
            change = asyncio.ensure_future(log.reconfigure("local"))
            while log.accepting:
                await asyncio.sleep(0)
            held_back = await one.submit([rec(2)])
            held_back.cancel()
            last = await one.submit([rec(3)])
            await change
        assert type(last.result()) is Committed

        assert list((await counted(log)).values()) == [1, 3]

    run(scenario, more=[lossy], default_kind="lossy")


def test_closing_waits_for_the_answers_and_takes_nothing_more() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        one = appender(log, house)
        answers = [await one.submit([rec(n)]) for n in range(5)]
        await one.close()
        assert set(numbers_of(answers)) == {Committed}
        with pytest.raises(LogClosedError, match="appender is closed"):
            await one.submit([rec(9)])
        await one.close()

        assert len(await counted(log)) == 5

    run(scenario)


def test_leaving_with_an_exception_leaves_nobody_waiting() -> None:
    lossy = LossyProvider(SeededRandom(0), held=True)

    async def scenario(house: House) -> None:
        log = await house.log()
        submitted: list[Future[Answer]] = []

        async def failing() -> None:
            async with appender(log, house, records_in_flight_max=2) as one:
                submitted.append(await one.submit([rec(1), rec(2)]))
                await one.submit([rec(3)])

        task = asyncio.ensure_future(failing())
        await arrived(log, 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert type(submitted[0].result()) is Indeterminate
        # What comes late is nobody's business any more.
        lossy.open(log.chain.tail).commit()

    run(scenario, more=[lossy], default_kind="lossy")


@pytest.mark.parametrize("after", range(25))
def test_whoever_is_cancelled_in_the_middle_the_others_get_through(after: int) -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        async with appender(log, house) as one:
            task = asyncio.ensure_future(one.append([rec(1)]))
            change = asyncio.ensure_future(log.reconfigure("memory"))
            await turns(after)
            task.cancel()
            change.cancel()
            await asyncio.gather(task, change, return_exceptions=True)
            assert type(await one.append([rec(2)])) is Committed
        await put(log, 3)
        found = list((await counted(log)).values())

        assert found in ([1, 2, 3], [2, 3])

    run(scenario)
