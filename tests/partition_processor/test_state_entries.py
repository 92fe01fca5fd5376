"""State: what handlers read and write, who may, and when others see it."""

import pytest

from perdure.partition_processor.effects import Notify
from perdure.partition_processor.records import KIND_OBJECT_SHARED, AttemptChunk

from ..covering import covers
from .frames import entry, read_frames, result
from .support import Partition, add, answer, frames, greet, identity, set_state, workflow

OBJECT = identity(1, "k")
NAME = b"\x00\x07Counter\x00\x01k"


def state(partition: Partition) -> dict[bytes, bytes]:
    """The state of the object, from the rows alone."""
    partition.reopen()
    return partition.transaction.object_state(OBJECT[:8], NAME)


def holding(**values: bytes) -> Partition:
    """A partition whose first invocation has written these and still runs."""
    partition = Partition()
    partition.apply(add(1))
    partition.send(OBJECT, *(set_state(key.encode(), value) for key, value in values.items()))
    return partition


@covers("SET_STATE_COMMAND")
def test_a_written_state_is_there_at_once_and_not_only_at_the_end() -> None:
    partition = Partition()
    partition.apply(add(1))
    effects = partition.send(OBJECT, set_state(b"a", b"1"), set_state(b"a", b""))

    assert effects == []
    assert state(partition) == {b"a": b""}
    assert [name for name, _ in partition.journal(OBJECT)][1:] == ["SET_STATE_COMMAND"] * 2


@covers("CLEAR_STATE_COMMAND")
def test_clearing_removes_one_state_and_no_other() -> None:
    partition = holding(a=b"1", ab=b"2", b=b"3")
    effects = partition.send(
        OBJECT, entry("CLEAR_STATE_COMMAND", key=b"a"), entry("CLEAR_STATE_COMMAND", key=b"none")
    )

    assert effects == []
    assert state(partition) == {b"ab": b"2", b"b": b"3"}


@covers("CLEAR_ALL_STATE_COMMAND")
def test_clearing_all_removes_what_the_same_record_wrote_and_no_other_objects() -> None:
    partition = holding(a=b"1", b=b"2")
    partition.apply(add(2, "l"))
    partition.send(identity(2, "l"), set_state(b"a", b"other"))
    partition.send(
        OBJECT,
        set_state(b"c", b"3"),
        entry("CLEAR_ALL_STATE_COMMAND"),
        set_state(b"d", b"4"),
    )

    assert state(partition) == {b"d": b"4"}
    other = b"\x00\x07Counter\x00\x01l"
    assert partition.transaction.object_state(identity(2, "l")[:8], other) == {b"a": b"other"}


@covers("GET_LAZY_STATE_COMMAND", "GET_LAZY_STATE_COMPLETION")
def test_a_lazy_read_is_completed_behind_its_command_with_what_it_finds() -> None:
    partition = holding(a=b"1", empty=b"")
    (notify,) = partition.send(
        OBJECT,
        entry("GET_LAZY_STATE_COMMAND", key=b"a", result_completion_id=1),
        set_state(b"a", b"2"),
        entry("GET_LAZY_STATE_COMMAND", key=b"a", result_completion_id=2),
        entry("GET_LAZY_STATE_COMMAND", key=b"none", result_completion_id=3),
        entry("GET_LAZY_STATE_COMMAND", key=b"empty", result_completion_id=4),
    )

    assert isinstance(notify, Notify)
    told = read_frames(notify.frames)
    assert {item.name for item in told} == {"GET_LAZY_STATE_COMPLETION"}
    found = [(item.message.completion_id, result(item.message)) for item in told]
    assert found == [(1, b"1"), (2, b"2"), (3, None), (4, b"")]
    assert [name for name, _ in partition.journal(OBJECT)][3:] == [
        "GET_LAZY_STATE_COMMAND",
        "GET_LAZY_STATE_COMPLETION",
        "SET_STATE_COMMAND",
        *("GET_LAZY_STATE_COMMAND", "GET_LAZY_STATE_COMPLETION") * 3,
    ]
    assert notify.entries == partition.invocation(OBJECT).entries == 12


@covers("GET_LAZY_STATE_KEYS_COMMAND", "GET_LAZY_STATE_KEYS_COMPLETION")
def test_the_names_of_the_states_come_in_order_with_those_of_the_same_record() -> None:
    partition = holding(b=b"1", a=b"2", z=b"3")
    (notify,) = partition.send(
        OBJECT,
        set_state(b"m", b"4"),
        entry("CLEAR_STATE_COMMAND", key=b"z"),
        entry("GET_LAZY_STATE_KEYS_COMMAND", result_completion_id=1),
        entry("CLEAR_ALL_STATE_COMMAND"),
        entry("GET_LAZY_STATE_KEYS_COMMAND", result_completion_id=2),
    )

    assert isinstance(notify, Notify)
    told = read_frames(notify.frames)
    assert {item.name for item in told} == {"GET_LAZY_STATE_KEYS_COMPLETION"}
    assert [result(item.message) for item in told] == [[b"a", b"b", b"m"], []]


@covers("GET_LAZY_STATE_COMMAND", "GET_LAZY_STATE_KEYS_COMMAND", "CLEAR_ALL_STATE_COMMAND")
def test_a_record_sees_what_the_records_before_it_in_its_batch_have_written() -> None:
    partition = holding(a=b"1", b=b"2")
    partition.reopen()
    writes = frames(set_state(b"a", b"3"), entry("CLEAR_STATE_COMMAND", key=b"b"))
    reads = frames(
        entry("GET_LAZY_STATE_COMMAND", key=b"a", result_completion_id=1),
        entry("GET_LAZY_STATE_COMMAND", key=b"b", result_completion_id=2),
        entry("GET_LAZY_STATE_KEYS_COMMAND", result_completion_id=3),
        entry("CLEAR_ALL_STATE_COMMAND"),
    )
    (notify,) = partition.apply(
        AttemptChunk(OBJECT, 1, "dp-1", writes), AttemptChunk(OBJECT, 1, "dp-1", reads)
    )

    assert isinstance(notify, Notify)
    told = [result(item.message) for item in read_frames(notify.frames)]
    assert told == [b"3", None, [b"a"]]
    assert state(partition) == {}


@covers("GET_EAGER_STATE_COMMAND", "GET_EAGER_STATE_KEYS_COMMAND")
def test_reads_that_were_answered_before_are_stored_and_nothing_else() -> None:
    partition = holding(a=b"1")
    eager = (
        entry("GET_EAGER_STATE_COMMAND", key=b"a", value={"content": b"1"}),
        entry("GET_EAGER_STATE_COMMAND", key=b"none", void={}),
        entry("GET_EAGER_STATE_KEYS_COMMAND", value={"keys": [b"a"]}),
    )
    assert partition.send(OBJECT, *eager) == []

    journal = partition.transaction.journal(OBJECT, partition.invocation(OBJECT))
    assert journal[-1].frames == frames(*eager)


@covers("SET_STATE_COMMAND")
def test_a_shared_handler_and_the_next_exclusive_one_see_what_was_written() -> None:
    partition = holding(a=b"1")
    partition.apply(add(2, kind=KIND_OBJECT_SHARED), add(3))
    reading = entry("GET_LAZY_STATE_COMMAND", key=b"a", result_completion_id=1)
    (shared,) = partition.send(identity(2, "k"), reading)
    partition.apply(answer(OBJECT, set_state(b"a", b"2")))
    (exclusive,) = partition.send(identity(3, "k"), reading)

    seen = [
        result(item.message)
        for notify in (shared, exclusive)
        if isinstance(notify, Notify)
        for item in read_frames(notify.frames)
    ]
    assert seen == [b"1", b"2"]


WRITES = (
    set_state(b"a", b"1"),
    entry("CLEAR_STATE_COMMAND", key=b"a"),
    entry("CLEAR_ALL_STATE_COMMAND"),
)
READS = (
    entry("GET_LAZY_STATE_COMMAND", key=b"a", result_completion_id=1),
    entry("GET_LAZY_STATE_KEYS_COMMAND", result_completion_id=1),
    entry("GET_EAGER_STATE_COMMAND", key=b"a", void={}),
    entry("GET_EAGER_STATE_KEYS_COMMAND"),
)


@covers(
    "SET_STATE_COMMAND",
    "CLEAR_STATE_COMMAND",
    "CLEAR_ALL_STATE_COMMAND",
    "GET_LAZY_STATE_COMMAND",
    "GET_LAZY_STATE_KEYS_COMMAND",
    "GET_EAGER_STATE_COMMAND",
    "GET_EAGER_STATE_KEYS_COMMAND",
)
@pytest.mark.parametrize("item", WRITES + READS)
def test_state_is_for_the_kinds_of_handlers_that_have_it(item: tuple[int, bytes]) -> None:
    writes = item in WRITES
    for command, allowed in (
        (greet(1), False),
        (add(1), True),
        (add(1, kind=KIND_OBJECT_SHARED), not writes),
        (workflow(1), True),
        (workflow(1, handler="look"), not writes),
    ):
        partition = Partition()
        partition.apply(command)
        chunk = AttemptChunk(command.invocation_id, 1, "dp-1", frames(item))
        partition.apply(chunk)
        taken = partition.status(command.invocation_id) == "running"
        assert taken is allowed, (command.service, command.handler, command.target_kind)
        failure = partition.invocation(command.invocation_id).last_failure
        if not allowed:
            assert failure is not None
            assert failure.startswith("[571] ")
            assert "state" in failure
