"""From the call to the result: scheduled, pending, running, and the order at a virtual object."""

import msgspec
import pytest

from perdure.log.types import Record
from perdure.partition_processor import outcomes
from perdure.partition_processor.effects import (
    Accepted,
    Answer,
    ArmTimer,
    Done,
    Effect,
    StartAttempt,
    StateChanged,
)
from perdure.partition_processor.operations import cancel
from perdure.partition_processor.records import (
    KINDS,
    Invoke,
    Kill,
    PatchState,
    Timer,
    TimersFired,
    encode_command,
)
from perdure.partition_processor.state_changes import state_version
from perdure.partition_processor.tables.inbox import InboxItem, decode_item, encode_item

from ..covering import covers
from .support import Partition, add, answer, greet, identity, set_state

ONE, TWO, THREE, FOUR = (identity(number, "k") for number in (1, 2, 3, 4))
NAME = b"\x00\x07Counter\x00\x01k"


def later(command: Invoke, start_ns: int) -> Invoke:
    """The same, to start at some time."""
    return msgspec.structs.replace(command, start_ns=start_ns)


def starts(effects: list[Effect]) -> list[object]:
    """The ids of what starts, in order."""
    return [item.invocation_id for item in effects if isinstance(item, StartAttempt)]


def state(partition: Partition) -> dict[bytes, bytes]:
    """The state of the object, from the rows alone."""
    partition.reopen()
    return partition.transaction.object_state(ONE[:8], NAME)


def patch(
    *changes: tuple[bytes, bytes | None], replace: bool = False, expected: bytes | None = None
) -> PatchState:
    """A change of the object's state from outside."""
    return PatchState(ONE[:8], "Counter", "k", changes, replace, expected)


@covers("Invoke", "TimersFired")
def test_what_is_to_start_later_has_a_timer_and_waits() -> None:
    partition = Partition()
    accepted, armed = partition.apply(later(greet(1), 5_000))
    one = identity(1)
    assert isinstance(accepted, Accepted)
    assert armed == ArmTimer(5_000, one, 0)
    assert partition.counts() == {"scheduled": 1}
    assert partition.invocation(one).start_ns == 5_000

    assert starts(partition.apply(TimersFired((Timer(5_000, one, 0),)))) == [one]
    assert partition.rows(b"ty") == []
    assert partition.apply(TimersFired((Timer(5_000, one, 0),))) == []


@covers("Invoke")
def test_what_was_to_start_before_now_starts_at_once() -> None:
    partition = Partition()
    assert starts(partition.apply(later(greet(1), 1_000), time_ns=1_000)) == [identity(1)]
    assert partition.rows(b"ty") == []


@covers("Invoke")
def test_a_scheduled_call_of_an_object_queues_when_it_is_due_and_not_before() -> None:
    partition = Partition()
    partition.apply(later(add(1), 5_000))
    assert partition.rows(b"lq") == []
    effects = partition.apply(add(2), add(3))
    effects += partition.apply(TimersFired((Timer(5_000, ONE, 0),)))
    for invocation_id in (TWO, THREE, ONE):
        effects += partition.apply(answer(invocation_id))

    assert starts(effects) == [TWO, THREE, ONE]


@covers("Invoke")
def test_an_id_that_chance_made_too_long_ago_is_refused_and_starts_nothing() -> None:
    partition = Partition()
    stale = msgspec.structs.replace(greet(1), expires_ns=999)
    (accepted,) = partition.apply(stale, time_ns=1_000)
    assert isinstance(accepted, Accepted)
    assert (accepted.known, accepted.expired) == (None, True)
    assert partition.counts() == {}

    in_time = msgspec.structs.replace(greet(1), expires_ns=1_000)
    assert starts(partition.apply(in_time, time_ns=1_000)) == [identity(1)]
    (known,) = partition.apply(stale, time_ns=5_000)
    assert isinstance(known, Accepted)
    assert (known.known is None, known.expired) == (False, False)


@covers("Invoke", "Signal", "Kill")
@pytest.mark.parametrize("operation", ["cancel", "kill"])
def test_the_inbox_goes_on_over_the_holes_that_ended_calls_leave(operation: str) -> None:
    partition = Partition()
    partition.apply(*(add(number) for number in (1, 2, 3, 4)))
    for gone in (TWO, THREE):
        effects = partition.apply(cancel(gone) if operation == "cancel" else Kill(gone))
        assert starts(effects) == []
        assert [type(item) for item in effects] == [Answer]
    assert partition.counts() == {"running": 1, "pending": 1, "completed": 2}

    assert starts(partition.apply(answer(ONE))) == [FOUR]
    assert starts(partition.apply(add(5), answer(FOUR))) == [identity(5, "k")]
    partition.apply(answer(identity(5, "k")))
    assert partition.rows(b"lq") == []


@covers("Invoke")
def test_an_inbox_of_holes_alone_frees_the_object() -> None:
    partition = Partition()
    partition.apply(add(1), add(2), cancel(TWO))
    partition.apply(answer(ONE))

    assert partition.rows(b"lq") == []
    assert starts(partition.apply(add(3))) == [THREE]


@covers("PatchState")
def test_a_change_of_a_free_objects_state_is_made_at_once() -> None:
    partition = Partition()
    assert partition.operate(patch((b"a", b"1"), (b"b", b"2")))[0] == outcomes.DONE
    assert partition.operate(patch((b"a", None), (b"c", b"3")))[0] == outcomes.DONE
    assert state(partition) == {b"b": b"2", b"c": b"3"}

    assert partition.operate(patch((b"c", b"4"), replace=True))[0] == outcomes.DONE
    assert state(partition) == {b"c": b"4"}
    assert partition.operate(patch(replace=True))[0] == outcomes.DONE
    assert state(partition) == {}


@covers("PatchState")
def test_a_change_waits_for_its_turn_among_the_objects_calls() -> None:
    partition = Partition()
    partition.apply(add(1), add(2))
    assert partition.operate(patch((b"a", b"patched")))[0] == outcomes.QUEUED
    partition.apply(add(3), answer(ONE, set_state(b"a", b"one")))
    assert state(partition) == {b"a": b"one"}
    assert starts(partition.apply(answer(TWO, set_state(b"b", b"two")))) == [THREE]
    assert state(partition) == {b"a": b"patched", b"b": b"two"}


@covers("PatchState")
def test_a_change_expects_a_version_when_its_turn_comes() -> None:
    partition = Partition()
    partition.operate(patch((b"a", b"1")))
    version = state_version({b"a": b"1"})
    assert (
        partition.operate(patch((b"a", b"2"), expected=bytes(16)))[0] == outcomes.VERSION_MISMATCH
    )
    assert state(partition) == {b"a": b"1"}

    partition.apply(add(1))
    assert partition.operate(patch((b"a", b"3"), expected=version))[0] == outcomes.QUEUED
    partition.apply(answer(ONE, set_state(b"a", b"one")))
    assert state(partition) == {b"a": b"one"}
    assert partition.operate(patch((b"a", b"4"), expected=state_version({b"a": b"one"})))[0] == (
        outcomes.DONE
    )
    assert state(partition) == {b"a": b"4"}
    assert partition.rows(b"lq") == []


@covers("PatchState")
def test_whoever_asked_for_a_queued_change_is_told_when_it_had_its_turn() -> None:
    partition = Partition()
    partition.apply(add(1), add(2))
    rows: list[bytes] = []
    for number, change in enumerate(
        (patch((b"a", b"1")), patch((b"b", b"2"), expected=bytes(16))), 2
    ):
        record = Record(KINDS[PatchState], encode_command(change), (), 1, None, number)
        (done,) = partition.apply_records([record])
        assert isinstance(done, Done)
        assert (done.outcome, done.queued_as) == (outcomes.QUEUED, partition.rows(b"q")[-1])
        rows.append(done.queued_as)
    partition.apply(answer(ONE))
    effects = partition.apply(answer(TWO))

    assert [item for item in effects if isinstance(item, StateChanged)] == [
        StateChanged(rows[0], outcomes.DONE),
        StateChanged(rows[1], outcomes.VERSION_MISMATCH),
    ]
    assert state(partition) == {b"a": b"1"}
    record = Record(KINDS[PatchState], encode_command(patch((b"a", b"3"))), (), 1, None, 9)
    assert partition.apply_records([record]) == [Done(1, 9, outcomes.DONE, b"")]


def test_the_version_of_a_state_tells_its_keys_from_its_values() -> None:
    contents: list[dict[bytes, bytes]] = [
        {},
        {b"a": b""},
        {b"": b"a"},
        {b"a": b"b"},
        {b"ab": b""},
        {b"a": b"", b"b": b""},
        {b"a": b"1 0 b"},
    ]
    assert len({state_version(content) for content in contents}) == len(contents)
    assert state_version({b"a": b"1", b"b": b"2"}) == state_version({b"b": b"2", b"a": b"1"})


def test_an_inbox_holds_ids_as_they_are_and_changes_marked() -> None:
    waiting = InboxItem(ONE, None)
    assert encode_item(waiting) == bytes(ONE)
    assert decode_item(encode_item(waiting)) == waiting
    change = InboxItem(None, patch((b"a", None), expected=bytes(16)))
    assert decode_item(encode_item(change)) == change


def test_a_restart_in_between_changes_nothing_about_the_order() -> None:
    partition = Partition()
    partition.apply(*(add(number) for number in (1, 2, 3)))
    partition.operate(patch((b"a", b"1")))
    effects: list[Effect] = []
    for invocation_id in (ONE, TWO, THREE):
        partition.reopen()
        effects += partition.apply(answer(invocation_id))

    assert starts(effects) == [TWO, THREE]
    assert state(partition) == {b"a": b"1"}
    assert partition.rows(b"lqa") == []
