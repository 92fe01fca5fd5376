"""Frames that the protocol does not allow: the attempt fails, nothing else changes."""

from typing import Any

import pytest

from perdure.core.protocol import messages
from perdure.partition_processor.effects import ArmRetry, EndAttempt
from perdure.partition_processor.entries.registry import ENTRIES
from perdure.partition_processor.tables.id_sets import ID_MAX

from ..covering import covers
from .calls import called, make, sent, text
from .frames import entry
from .support import END, OUTPUT_OK, RUN, Partition, greet, identity, workflow

ONE = identity(1, "w")


def with_id(number: int) -> list[tuple[int, bytes]]:
    """Every command that takes a completion id, with this one."""
    target: dict[str, Any] = {"invocation_id": text(2)}
    return [
        entry("GET_LAZY_STATE_COMMAND", key=b"a", result_completion_id=number),
        entry("GET_LAZY_STATE_KEYS_COMMAND", result_completion_id=number),
        entry("GET_PROMISE_COMMAND", key="p", result_completion_id=number),
        entry("PEEK_PROMISE_COMMAND", key="p", result_completion_id=number),
        entry("COMPLETE_PROMISE_COMMAND", key="q", result_completion_id=number),
        entry("SLEEP_COMMAND", wake_up_time=9, result_completion_id=number),
        entry("RUN_COMPLETION", completion_id=number, value={}),
        entry("ATTACH_INVOCATION_COMMAND", result_completion_id=number, **target),
        entry("GET_INVOCATION_OUTPUT_COMMAND", result_completion_id=number, **target),
    ]


def running() -> Partition:
    """A partition with a workflow's run, which may send anything."""
    partition = Partition()
    partition.apply(workflow(1))
    return partition


def assert_refused(partition: Partition, *words: str) -> None:
    """The attempt has failed with these words, and its chunk is not in the journal."""
    assert partition.status(ONE) == "backing-off"
    failure = partition.invocation(ONE).last_failure
    assert failure is not None
    assert failure.startswith("[571] ")
    assert all(word in failure for word in words), failure


@pytest.mark.parametrize("number", [0, ID_MAX + 1, (1 << 32) - 1])
@pytest.mark.parametrize("which", range(len(with_id(1))))
def test_completion_ids_are_from_1_to_a_million(which: int, number: int) -> None:
    partition = running()
    partition.send(ONE, OUTPUT_OK, with_id(number)[which])

    assert_refused(partition, f"completion id {number} is not between 1 and 1000000")
    assert partition.invocation(ONE).entries == 1
    assert partition.rows(b"tymso") == []


def test_the_largest_completion_id_is_taken() -> None:
    partition = running()
    partition.send(ONE, entry("SLEEP_COMMAND", wake_up_time=9, result_completion_id=ID_MAX))

    assert partition.status(ONE) == "running"
    assert len(partition.invocation(ONE).issued) == ID_MAX // 8 + 1


@pytest.mark.parametrize("which", range(len(with_id(1))))
def test_a_completion_id_is_used_once_in_one_record_or_in_two(which: int) -> None:
    item = with_id(3)[which]
    for other in with_id(3):
        partition = running()
        partition.send(ONE, item, other)
        assert_refused(partition, "completion id 3 was used before")
        assert partition.invocation(ONE).entries == 1

        partition = running()
        partition.send(ONE, item)
        entries = partition.invocation(ONE).entries
        partition.send(ONE, other)
        assert_refused(partition, "completion id 3 was used before")
        assert partition.invocation(ONE).entries == entries


@covers("CALL_COMMAND", "ONE_WAY_CALL_COMMAND")
def test_both_completion_ids_of_a_call_are_looked_at() -> None:
    for call, number in (
        (called(2, ids=(3, 3)), 3),
        (called(2, ids=(0, 1)), 0),
        (called(2, ids=(1, ID_MAX + 1)), ID_MAX + 1),
        (sent(2, id_index=0), 0),
    ):
        partition = running()
        make(partition, ONE, call)
        assert_refused(partition, f"completion id {number} ")
        assert partition.transaction.invocation(identity(2)) is None


@covers("CALL_COMMAND")
def test_a_completion_that_has_come_keeps_its_id_used() -> None:
    partition = running()
    make(partition, ONE, called(2))
    partition.send(identity(2), OUTPUT_OK, END)
    make(partition, ONE, called(3, ids=(4, 2)))

    assert_refused(partition, "completion id 2 was used before")


@pytest.mark.parametrize(
    "name",
    sorted(
        name
        for name, number in vars(messages).items()
        if name.isupper()
        and type(number) is int
        and messages.COMMAND_FIRST <= number <= messages.NOTIFICATION_LAST
        and number not in ENTRIES
        and name not in ("COMMAND_FIRST", "COMMAND_LAST", "NOTIFICATION_FIRST")
        and name != "NOTIFICATION_LAST"
    ),
)
def test_what_the_runtime_makes_itself_is_not_taken_from_code(name: str) -> None:
    partition = running()
    partition.send(ONE, (getattr(messages, name), b""))

    assert_refused(partition, "is not taken from code")
    assert partition.invocation(ONE).entries == 1


@covers("START", "ERROR", "COMMAND_ACK", "PROPOSE_RUN_COMPLETION", "UNKNOWN")
@pytest.mark.parametrize(
    "message_type",
    [
        messages.START,
        messages.ERROR,
        messages.COMMAND_ACK,
        messages.PROPOSE_RUN_COMPLETION,
        0x0006,
        0x0007,
        0x040F,
        0x0415,
        0x07FF,
        0x8011 + 3,
        messages.HELLO,
        0xFFFF,
    ],
)
def test_other_frames_never_reach_a_journal(message_type: int) -> None:
    partition = running()
    aborted, armed = partition.send(ONE, (message_type, b""))

    assert aborted == EndAttempt(ONE, 1, True, 2)
    assert armed == ArmRetry(ONE, 1, 1_000 + 1_000_000_000)
    assert_refused(partition, f"a frame of type {message_type:#06x}")


@pytest.mark.parametrize("message_type", sorted(set(ENTRIES)))
def test_a_body_that_does_not_parse_fails_the_attempt(message_type: int) -> None:
    if ENTRIES[message_type].read is None:
        assert message_type in (
            messages.CLEAR_ALL_STATE_COMMAND,
            messages.GET_EAGER_STATE_COMMAND,
            messages.GET_EAGER_STATE_KEYS_COMMAND,
            messages.RUN_COMMAND,
        )
        return
    partition = running()
    partition.send(ONE, (message_type, b"\xff\xff"))

    assert_refused(partition, "a body that does not parse")


def test_text_that_is_no_utf_8_fails_the_attempt() -> None:
    partition = running()
    partition.send(ONE, (messages.PEEK_PROMISE_COMMAND, b"\x0a\x02\xff\xfe\x58\x01"))

    assert_refused(partition, "a body that does not parse")


@covers("END", "SUSPENSION")
def test_nothing_may_follow_what_ends_an_attempt() -> None:
    suspension = entry("SUSPENSION", waiting_signals=[17])
    for last in (END, suspension):
        for more in (OUTPUT_OK, RUN, END, suspension):
            partition = running()
            partition.send(ONE, OUTPUT_OK, last, more)
            assert_refused(partition, "after END or SUSPENSION")
            assert partition.invocation(ONE).entries == 1


def test_what_stands_before_a_frame_that_is_refused_is_not_applied_either() -> None:
    partition = Partition()
    partition.apply(greet(1), workflow(1))
    signal = entry("SEND_SIGNAL_COMMAND", target_invocation_id=text(1), name="go")
    sleep = entry("SLEEP_COMMAND", wake_up_time=9, result_completion_id=1)
    state = entry("SET_STATE_COMMAND", key=b"a", value={"content": b"1"})
    partition.send(ONE, signal, sleep, state, (0x0777, b""))

    assert partition.invocation(identity(1)).signals == ()
    assert partition.rows(b"tys") == []
