"""Logs: each log is opened once and made once; every bad input is answered by its error."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from perdure.core.errors import PerdureError, StorageFormatError
from perdure.core.ids import LogId
from perdure.log import (
    BatchTooLargeError,
    Committed,
    Conflict,
    CorruptChainError,
    Fence,
    Fenced,
    FuturePositionError,
    Logs,
    MalformedAppendError,
    NotChangedSince,
    NotSequencerError,
    Overloaded,
    Producer,
    Record,
    RecordTooLargeError,
    UnguardedConditionError,
    UnknownLogError,
    UnknownProviderError,
    VirtualLog,
)
from perdure.log.chain import chain_key
from perdure.log.errors import LogletLostError
from perdure.log.sequencer import SequencerLimits
from perdure.log.types import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, RECORD_BYTES_MAX

from .virtual import KEY, LOG, House, everything, put, rec, run

PRODUCER = bytes(range(16))


def test_a_log_is_opened_once_per_process() -> None:
    async def scenario(house: House) -> None:
        first, second = await asyncio.gather(
            house.logs.open(LOG, create=True), house.logs.open(LOG, create=True)
        )
        assert first is second is await house.logs.open(LOG)
        other = await house.logs.open(LogId(0), create=True)

        assert house.logs.opened() == [other, first]
        assert house.logs.kinds == ["local", "memory"]

    run(scenario)


def test_processes_that_make_a_log_at_once_have_the_same_one() -> None:
    async def scenario(house: House) -> None:
        logs = await asyncio.gather(*[house.another().open(LOG, create=True) for _ in range(5)])
        await logs[3].lead()
        await put(logs[3], 1)

        assert len({log.chain for log in logs[:3]}) == 1
        for log in logs:
            assert await everything(log) == [1]

    run(scenario)


def test_a_view_from_before_a_trim_does_not_take_what_is_gone_for_empty() -> None:
    """A segment that was deleted is not opened anew by somebody whose chain still has it."""

    async def scenario(house: House) -> None:
        log = await house.log()
        await put(log, 1, 2)
        old = await house.view()
        await log.reconfigure()
        await put(log, 3, 4)
        await log.trim(2)

        with pytest.raises(LogletLostError, match="trimmed and deleted"):
            house.local.provider.open(old.chain.tail)
        assert (await old.find_tail()).lsn == 5

    run(scenario)


def test_a_log_that_was_never_made_is_not_opened() -> None:
    async def scenario(house: House) -> None:
        with pytest.raises(UnknownLogError, match="no log 42"):
            await house.logs.open(LogId(42))
        assert house.logs.opened() == []

    run(scenario)


def test_the_default_provider_must_be_there() -> None:
    async def scenario(house: House) -> None:
        with pytest.raises(UnknownProviderError, match="'paper'"):
            Logs(
                metadata=house.metadata,
                providers=[house.memory],
                loop=house.loop,
                default_kind="paper",
            )

    run(scenario)


def test_logs_are_shared_where_others_could_seal_one() -> None:
    async def scenario(house: House) -> None:
        assert not house.logs.shared
        elsewhere: Any = SimpleNamespace(kind="replicated")
        providers = [house.memory, elsewhere]
        both = Logs(
            metadata=house.metadata, providers=providers, loop=house.loop, default_kind="memory"
        )
        assert both.shared

    run(scenario)


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        (b"", CorruptChainError, "log/1/chain"),
        (b"\x00\xff", CorruptChainError, "log/1/chain"),
        (b'{"format":1,"segments":[]}', CorruptChainError, "0 segments"),
        (b'{"format":1}', CorruptChainError, "segments"),
        (b'{"format":2,"anything":1}', StorageFormatError, "format 2"),
    ],
)
def test_a_chain_that_makes_no_sense_is_reported_by_every_use(
    value: bytes, error: type[PerdureError], said: str
) -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        await put(log, 1)
        stored = await house.metadata.get(chain_key(LOG))
        assert stored is not None
        await house.metadata.put(chain_key(LOG), value)
        for use in (house.another().open(LOG), house.another().open(LOG, create=True)):
            with pytest.raises(error, match=said):
                await use
        for change in (log.reconfigure(), log.seal(), log.lead(), log.refresh()):
            with pytest.raises(error, match=said):
                await change
        # Who has it open is not disturbed, and goes on when it is mended.
        await put(log, 2)
        await house.metadata.put(chain_key(LOG), stored.value)
        await log.reconfigure()
        assert await everything(log) == [1, 2]

    run(scenario)


def large(size: int) -> Record:
    return Record(1, bytes(size), (), 0, None, 0)


BAD_APPENDS: dict[str, tuple[Callable[[VirtualLog], Any], type[PerdureError], str]] = {
    "nothing": (lambda log: log.append([]), MalformedAppendError, "0 records"),
    "too many": (
        lambda log: log.append([rec(1)] * (BATCH_RECORDS_MAX + 1)),
        MalformedAppendError,
        f"{BATCH_RECORDS_MAX + 1} records",
    ),
    "too large": (
        lambda log: log.append([large(RECORD_BYTES_MAX + 1)]),
        RecordTooLargeError,
        str(RECORD_BYTES_MAX + 1),
    ),
    "too large together": (
        lambda log: log.append([large(BATCH_BYTES_MAX // 2), large(BATCH_BYTES_MAX // 2 + 1)]),
        BatchTooLargeError,
        str(BATCH_BYTES_MAX + 1),
    ),
    "short key": (
        lambda log: log.append([rec(1, b"short")]),
        MalformedAppendError,
        "key of 5 bytes",
    ),
    "too many keys": (
        lambda log: log.append([rec(1, *[n.to_bytes(16) for n in range(65)])]),
        MalformedAppendError,
        "65 keys",
    ),
    "short condition": (
        lambda log: log.append([rec(1)], conditions=[NotChangedSince(b"k", 0)]),
        MalformedAppendError,
        "key of 1 bytes",
    ),
    "too many conditions": (
        lambda log: log.append([rec(1, KEY)], conditions=[NotChangedSince(KEY, 0)] * 65),
        MalformedAppendError,
        "65 conditions",
    ),
    "unguarded": (
        lambda log: log.append([rec(1)], conditions=[NotChangedSince(KEY, 0)]),
        UnguardedConditionError,
        "producer",
    ),
    "future": (
        lambda log: log.append([rec(1, KEY)], conditions=[NotChangedSince(KEY, 5)]),
        FuturePositionError,
        "position 5 .* before 2",
    ),
    "short producer": (
        lambda log: log.append([rec(1)], producer=Producer(b"me", 1, 1)),
        MalformedAppendError,
        "id of 2 bytes",
    ),
    "producer from zero": (
        lambda log: log.append([rec(1)], producer=Producer(PRODUCER, 1, 0)),
        MalformedAppendError,
        "sequence 0",
    ),
}


@pytest.mark.parametrize("name", BAD_APPENDS)
def test_a_bad_append_has_its_error_and_leaves_no_trace(name: str) -> None:
    append, error, said = BAD_APPENDS[name]

    async def scenario(house: House) -> None:
        log = await house.log()
        await put(log, 1)
        with pytest.raises(error, match=said):
            await append(log)
        assert await put(log, 2) == [2]
        # A chain change finds the lock free.
        await log.reconfigure()
        assert await everything(log) == [1, 2]

    run(scenario)


def test_appends_at_the_limits_are_taken() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        assert await log.append([rec(1)] * BATCH_RECORDS_MAX) == Committed(1, BATCH_RECORDS_MAX)
        half = large(BATCH_BYTES_MAX // 2)
        assert type(await log.append([half, half])) is Committed
        assert type(await log.append([large(BATCH_BYTES_MAX * 2)])) is Committed
        keys = [n.to_bytes(16) for n in range(64)]
        wide = await log.append(
            [rec(1, *keys)], conditions=[NotChangedSince(key, 0) for key in keys]
        )
        assert type(wide) is Committed

    run(scenario)


def test_a_log_takes_so_much_in_flight_and_no_more() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        answers = await asyncio.gather(*[log.append([rec(n), rec(n)]) for n in range(5)])

        assert [type(answer) for answer in answers] == [Committed, Committed] + [Overloaded] * 3
        assert answers[2] == Overloaded(4)
        assert type(await log.append([rec(9)])) is Committed

    run(scenario, limits=SequencerLimits(records_in_flight_max=4))


def test_fences_and_conditions_answer_with_what_stands_against_them() -> None:
    async def scenario(house: House) -> None:
        log = await house.log()
        assert await log.append([rec(1, KEY)], fence=Fence(b"scope", 5)) == Committed(1, 1)
        assert await log.append([rec(2)], fence=Fence(b"scope", 4)) == Fenced(5)
        conflict = await log.append([rec(3, KEY)], conditions=[NotChangedSince(KEY, 0)])
        assert conflict == Conflict(KEY, 1)

        assert await everything(log) == [1]

    run(scenario)


def test_who_does_not_lead_is_told_who_does() -> None:
    async def scenario(house: House) -> None:
        await house.log()
        view = await house.view()
        for use in (view.append([rec(1)]), view.reconfigure(), view.recover()):
            with pytest.raises(NotSequencerError, match="by n1 under epoch 1"):
                await use
        assert (view.epoch, view.open_segment, view.committed_tail_lsn) == (0, 0, 0)

    run(scenario)
