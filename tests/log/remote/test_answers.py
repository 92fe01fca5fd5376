"""Every answer and every refusal is the same on another node as on the one that orders the log."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from perdure.core.errors import PerdureError
from perdure.core.random import SeededRandom
from perdure.log import (
    Answer,
    BatchTooLargeError,
    Committed,
    Conflict,
    Duplicate,
    Fence,
    Fenced,
    FuturePositionError,
    Indeterminate,
    MalformedAppendError,
    NotChangedSince,
    OutOfOrder,
    Overloaded,
    Producer,
    Record,
    RecordTooLargeError,
    Sealed,
    StaleSnapshot,
    UnguardedConditionError,
    VirtualLog,
    WrongSegment,
)
from perdure.log import sequencer as sequencer_module
from perdure.log.sequencer import SequencerLimits

from ..lossy import LossyProvider
from ..mesh import AwayHouse
from ..support import turns
from ..virtual import KEY, House, everything, rec, run

P = b"p" * 16
OTHER = b"o" * 16


@pytest.fixture(params=[House, AwayHouse], ids=["here", "away"])
def kind(request: pytest.FixtureRequest) -> type[House]:
    """Where the append is made."""
    found: type[House] = request.param
    return found


async def conflict(log: VirtualLog, door: VirtualLog) -> Answer:
    await door.append([rec(1, KEY)])
    return await door.append([rec(2, KEY)], conditions=[NotChangedSince(KEY, 0)])


async def conflict_with_all(log: VirtualLog, door: VirtualLog) -> Answer:
    await door.append([Record(1, b"1", None)])
    return await door.append([rec(2, KEY)], conditions=[NotChangedSince(KEY, 0)])


async def stale(log: VirtualLog, door: VirtualLog) -> Answer:
    await door.append([rec(1, KEY)])
    await log.reconfigure()
    return await door.append([rec(2, KEY)], conditions=[NotChangedSince(KEY, 0)])


async def duplicate(log: VirtualLog, door: VirtualLog) -> Answer:
    await door.append([rec(1)], producer=Producer(P, 1, 1))
    return await door.append([rec(1)], producer=Producer(P, 1, 1))


async def long_ago(log: VirtualLog, door: VirtualLog) -> Answer:
    for number in range(1, 8):
        await door.append([rec(1)], producer=Producer(P, 1, number))
    return await door.append([rec(1)], producer=Producer(P, 1, 1))


async def out_of_order(log: VirtualLog, door: VirtualLog) -> Answer:
    await door.append([rec(1)], producer=Producer(P, 1, 1))
    return await door.append([rec(1)], producer=Producer(P, 1, 3))


async def fenced(log: VirtualLog, door: VirtualLog) -> Answer:
    await door.append([rec(1)], fence=Fence(b"scope", 3))
    return await door.append([rec(2)], fence=Fence(b"scope", 2))


async def old_epoch(log: VirtualLog, door: VirtualLog) -> Answer:
    await door.append([rec(1)], producer=Producer(P, 2, 1))
    return await door.append([rec(2)], producer=Producer(P, 1, 1))


async def sealed(log: VirtualLog, door: VirtualLog) -> Answer:
    await door.append([rec(1)])
    await log.seal()
    return await door.append([rec(2)])


async def wrong_segment(log: VirtualLog, door: VirtualLog) -> Answer:
    await door.append([rec(1)])
    before = log.open_segment
    await log.reconfigure()
    return await door.append([rec(2)], segment=before)


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (conflict, Conflict(KEY, 1)),
        (conflict_with_all, Conflict(None, 1)),
        (stale, StaleSnapshot(1)),
        (duplicate, Duplicate(1)),
        (long_ago, Duplicate(None)),
        (out_of_order, OutOfOrder(2)),
        (fenced, Fenced(3)),
        (old_epoch, Fenced(2)),
        (sealed, Sealed(2)),
        (wrong_segment, WrongSegment(3)),
    ],
    ids=lambda item: item.__name__ if callable(item) else "",
)
def test_a_refusal_is_the_same_wherever_the_append_is_made(
    kind: type[House],
    ask: Callable[[VirtualLog, VirtualLog], Awaitable[Answer]],
    expected: Answer,
) -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        assert await ask(log, house.door(log)) == expected
        if log.sealed:
            await log.lead()
        # The refused one is not in the log, and the next one gets in.
        count = len(await everything(log))
        assert await house.door(log).append([rec(9)]) == Committed(count + 1, count + 1)

        assert (await everything(house.door(log)))[-1] == 9

    run(scenario, kind)


@pytest.mark.parametrize(
    ("records", "options", "error"),
    [
        ([], {}, MalformedAppendError),
        ([rec(1, b"short")], {}, MalformedAppendError),
        ([rec(1, size=200)], {}, RecordTooLargeError),
        ([rec(1, size=70), rec(2, size=70)], {}, BatchTooLargeError),
        ([rec(1)], {"conditions": [NotChangedSince(KEY, 0)]}, UnguardedConditionError),
        ([rec(1, KEY)], {"conditions": [NotChangedSince(KEY, 7)]}, FuturePositionError),
        ([rec(1)], {"fence": Fence(b"one too many", 1)}, MalformedAppendError),
        ([rec(1)], {"fence": Fence(b"long" * 100, 1)}, MalformedAppendError),
    ],
)
def test_what_is_raised_is_the_same_wherever_the_append_is_made(
    kind: type[House],
    records: list[Record],
    options: dict[str, Any],
    error: type[PerdureError],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sequencer_module, "RECORD_BYTES_MAX", 150)
    monkeypatch.setattr(sequencer_module, "BATCH_BYTES_MAX", 100)
    monkeypatch.setattr(sequencer_module, "FENCES_MAX", 1)

    async def scenario(house: House) -> None:
        log = await house.log()
        door = house.door(log)
        assert await door.append([rec(1)], fence=Fence(b"the only one", 1)) == Committed(1, 1)
        with pytest.raises(error) as raised:
            await door.append(records, **options)
        assert type(raised.value) is error
        if isinstance(raised.value, FuturePositionError):
            assert (raised.value.position, raised.value.tail) == (7, 2)
        assert await door.append([rec(2)]) == Committed(2, 2)

        assert await everything(log) == [1, 2]

    run(scenario, kind)


def test_a_server_checks_what_a_client_should_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the other node lets through, of another release perhaps."""

    async def scenario(house: House) -> None:
        log = await house.log()
        monkeypatch.setattr("perdure.log.virtual_log.check_append", lambda append: None)
        with pytest.raises(UnguardedConditionError):
            await house.door(log).append([rec(1)], conditions=[NotChangedSince(KEY, 0)])
        with pytest.raises(MalformedAppendError, match="a key of 5 bytes"):
            await house.door(log).append([rec(1, b"short")])

        assert await everything(log) == []

    run(scenario, AwayHouse)


def test_too_much_in_flight_is_refused(kind: type[House]) -> None:
    lossy = LossyProvider(SeededRandom(0), held=True)

    async def scenario(house: House) -> None:
        log = await house.log()
        first = asyncio.ensure_future(house.door(log).append([rec(1), rec(2)]))
        while log._sequencer is None or log._sequencer.tail_lsn < 3:
            await turns()
        assert await house.door(log).append([rec(3)]) == Overloaded(2)
        lossy.open(log.chain.tail).commit()
        assert await first == Committed(1, 2)

        assert await everything(log) == [1, 2]

    run(
        scenario,
        kind,
        more=[lossy],
        default_kind="lossy",
        limits=SequencerLimits(records_in_flight_max=2),
    )


def test_a_refusal_waits_until_its_cause_is_durable(kind: type[House]) -> None:
    lossy = LossyProvider(SeededRandom(0), held=True)

    async def scenario(house: House) -> None:
        log = await house.log()
        door = house.door(log)
        first = asyncio.ensure_future(door.append([rec(1, KEY)]))
        while log._sequencer is None or log._sequencer.tail_lsn < 2:
            await turns()
        second = asyncio.ensure_future(
            door.append([rec(2, KEY)], conditions=[NotChangedSince(KEY, 0)])
        )
        await turns(30)
        assert not second.done()
        lossy.open(log.chain.tail).commit()
        assert await first == Committed(1, 1)

        assert await second == Conflict(KEY, 1)

    run(scenario, kind, more=[lossy], default_kind="lossy")


def test_what_nobody_can_tell_is_indeterminate(kind: type[House]) -> None:
    lossy = LossyProvider(SeededRandom(0), held=True)

    async def scenario(house: House) -> None:
        log = await house.log()
        first = asyncio.ensure_future(house.door(log).append([rec(1)]))
        while log._sequencer is None or log._sequencer.tail_lsn < 2:
            await turns()
        log.resign()  # What is in flight may still be committed, and nobody here will hear of it.

        assert type(await first) is Indeterminate

    run(scenario, kind, more=[lossy], default_kind="lossy")


def test_appends_wait_while_the_log_is_being_reconfigured(kind: type[House]) -> None:
    """In the order in which they came, and without an answer that is none of their business."""

    async def scenario(house: House) -> None:
        log = await house.log()
        door = house.door(log)
        assert await door.append([rec(0)]) == Committed(1, 1)
        change = asyncio.ensure_future(log.reconfigure("memory"))
        while log.accepting:
            await asyncio.sleep(0)
        appends = [asyncio.ensure_future(door.append([rec(n)])) for n in range(1, 6)]
        await change
        assert await asyncio.gather(*appends) == [Committed(lsn, lsn) for lsn in range(2, 7)]

        assert await everything(door) == list(range(6))

    run(scenario, kind)


def test_a_segment_that_somebody_sealed_is_followed_by_another_one(kind: type[House]) -> None:
    """By an append alone: nobody listens to this log."""

    async def scenario(house: House) -> None:
        log = await house.log()
        door = house.door(log)
        assert await door.append([rec(1)]) == Committed(1, 1)
        before = log.open_segment
        await log._loglet(log.chain.tail).seal()
        assert await door.append([rec(2)]) == Committed(2, 2)

        assert log.open_segment > before

    run(scenario, kind)
