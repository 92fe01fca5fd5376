"""The interpreter: a command in, effects and rows out."""

import pytest

from perdure.core.protocol import messages
from perdure.log.types import Record
from perdure.partition_processor.context import WHOLE
from perdure.partition_processor.effects import (
    Accepted,
    Answer,
    ArmRetry,
    EndAttempt,
    LeaderAnnounced,
    Notify,
    StartAttempt,
)
from perdure.partition_processor.machine import RecordFailedError
from perdure.partition_processor.pending import pending_effects
from perdure.partition_processor.records import (
    KIND_OBJECT_SHARED,
    AnnounceLeader,
    AttemptChunk,
    AttemptFailed,
    AttemptStarted,
)
from perdure.partition_processor.tables.invocations import (
    STATUS_BACKING_OFF,
    STATUS_COMPLETED,
    STATUS_PENDING,
    STATUS_RUNNING,
    Failure,
)

from ..covering import covers
from .support import (
    END,
    OUTPUT_OK,
    RUN,
    RUN_DONE,
    Partition,
    add,
    answer,
    clear_state,
    failing_output,
    frames,
    greet,
    identity,
    set_state,
)


def test_a_plain_call_starts_at_once_and_is_answered() -> None:
    partition = Partition()
    accepted, started = partition.apply(greet(1))
    ended, answered = partition.apply(answer(identity(1)))

    assert isinstance(accepted, Accepted)
    assert (accepted.sequence, accepted.known) == (0, None)
    assert isinstance(started, StartAttempt)
    assert (started.invocation.attempt, started.invocation.status) == (1, STATUS_RUNNING)
    assert ended == EndAttempt(identity(1), 1, False, 2)
    assert isinstance(answered, Answer)
    assert answered.invocation.output == b'"ok"'
    assert answered.invocation.deployment == "dp-1"
    assert partition.machine.progress().counts == (0, 0, 0, 1, 0, 0, 0)
    assert list(pending_effects(partition.transaction, WHOLE)) == []


def test_the_same_id_again_is_known_and_starts_nothing() -> None:
    partition = Partition()
    partition.apply(greet(1))
    (again,) = partition.apply(greet(1))
    partition.apply(answer(identity(1)))
    (after,) = partition.apply(greet(1))

    assert isinstance(again, Accepted)
    assert again.known is not None
    assert again.known.status == STATUS_RUNNING
    assert isinstance(after, Accepted)
    assert after.known is not None
    assert after.known.output == b'"ok"'


def test_exclusive_handlers_run_one_at_a_time_in_order_of_arrival() -> None:
    partition = Partition()
    effects = partition.apply(add(1), add(2), add(3))
    assert [type(item) for item in effects].count(StartAttempt) == 1
    for number in (1, 2, 3):
        effects += partition.apply(answer(identity(number, "k")))

    order = [item.invocation_id for item in effects if isinstance(item, StartAttempt)]
    assert order == [identity(number, "k") for number in (1, 2, 3)]
    assert [key[:1] for key in partition.content() if key[:1] in b"lqa"] == []


def test_objects_and_shared_handlers_do_not_wait_for_one_another() -> None:
    partition = Partition()
    effects = partition.apply(add(1, "k"), add(2, "j"), add(3, "k", KIND_OBJECT_SHARED))

    assert [type(item) for item in effects].count(StartAttempt) == 3


def test_state_is_written_and_cleared_and_seen_by_the_next() -> None:
    partition = Partition()
    partition.apply(add(1))
    partition.apply(answer(identity(1, "k"), set_state(b"a", b"1"), set_state(b"b", b"2")))
    name = b"\x00\x07Counter\x00\x01k"
    routing = identity(1, "k")[:8]
    assert partition.transaction.object_state(routing, name) == {b"a": b"1", b"b": b"2"}

    partition.apply(add(2))
    partition.apply(answer(identity(2, "k"), clear_state(b"a"), set_state(b"b", b"3")))
    assert partition.transaction.object_state(routing, name) == {b"b": b"3"}
    partition.reopen()
    assert partition.transaction.object_state(routing, name) == {b"b": b"3"}


def test_a_run_completion_is_stored_and_told_to_the_attempt() -> None:
    partition = Partition()
    partition.apply(greet(1))
    effects = partition.apply(
        AttemptChunk(identity(1), 1, "dp-1", frames(RUN, RUN_DONE)), time_ns=7
    )

    (notify,) = effects
    assert isinstance(notify, Notify)
    assert (notify.attempt, notify.record_time_ns) == (1, 7)
    assert notify.frames == bytes.fromhex("801100000000000708012a030a0137")
    invocation = partition.transaction.invocation(identity(1))
    assert invocation is not None
    assert invocation.entries == 3
    journal = partition.transaction.journal(identity(1), invocation)
    types = [kind for chunk in journal for kind, _, _ in messages.split_frames(chunk.frames)]
    assert types == [messages.INPUT_COMMAND, messages.RUN_COMMAND, messages.RUN_COMPLETION]
    assert [chunk.record_time_ns for chunk in journal] == [1_000, 7]


def test_a_long_journal_goes_to_its_own_rows_and_comes_back_in_order() -> None:
    partition = Partition()
    partition.apply(add(1))
    for number in range(10):
        chunk = frames(set_state(b"k%d" % number, bytes(1_500)))
        partition.apply(AttemptChunk(identity(1, "k"), 1, "dp-1", chunk))
    partition.reopen()

    invocation = partition.transaction.invocation(identity(1, "k"))
    assert invocation is not None
    assert invocation.rows > 0
    assert sum(map(len, invocation.head)) <= 4096
    journal = partition.transaction.journal(identity(1, "k"), invocation)
    assert sum(chunk.entries for chunk in journal) == invocation.entries == 11
    keys_in_order = [
        chunk.frames[start:end].split(b"k")[1][:1]
        for chunk in journal[1:]
        for _, start, end in messages.split_frames(chunk.frames)
    ]
    assert keys_in_order == [b"%d" % number for number in range(10)]


def test_a_failed_attempt_backs_off_and_the_next_one_starts_once() -> None:
    partition = Partition()
    partition.apply(greet(1))
    ended, armed = partition.apply(AttemptFailed(identity(1), 1, 500, "boom", 50, True))
    assert ended == EndAttempt(identity(1), 1, True, 2)
    assert armed == ArmRetry(identity(1), 1, 1_050)
    assert list(pending_effects(partition.transaction, WHOLE)) == [armed]

    (started,) = partition.apply(AttemptStarted(identity(1), 2))
    assert partition.apply(AttemptStarted(identity(1), 2)) == []
    assert isinstance(started, StartAttempt)
    assert started.invocation.attempt == 2
    assert started.invocation.failed_attempts == 1
    assert started.invocation.last_failure == "[500] boom"


def test_what_an_old_attempt_still_sends_has_no_effect() -> None:
    partition = Partition()
    partition.apply(greet(1))
    partition.apply(AttemptFailed(identity(1), 1, 500, "boom", 50, True))
    partition.apply(AttemptStarted(identity(1), 2))
    before = partition.content()

    assert partition.apply(answer(identity(1), attempt=1)) == [EndAttempt(identity(1), 1, True, 4)]
    assert partition.apply(AttemptFailed(identity(1), 1, 500, "again", 50, True)) == []
    after = partition.content()
    progress_rows = [key for key in after if after[key] != before.get(key)]
    assert [key[:1] for key in progress_rows] == [b"p"]


def test_retries_that_run_out_end_the_invocation_and_pass_the_lock_on() -> None:
    partition = Partition()
    partition.apply(add(1), add(2))
    effects = partition.apply(AttemptFailed(identity(1, "k"), 1, 500, "boom", None, True))

    answers = [item for item in effects if isinstance(item, Answer)]
    assert [item.invocation.failure for item in answers] == [Failure(500, "boom")]
    starts = [item for item in effects if isinstance(item, StartAttempt)]
    assert [item.invocation_id for item in starts] == [identity(2, "k")]


def test_a_terminal_failure_is_the_result() -> None:
    partition = Partition()
    partition.apply(greet(1))
    chunk = frames(failing_output(418, "teapot"), END)
    _, answered = partition.apply(AttemptChunk(identity(1), 1, "dp-1", chunk))

    assert isinstance(answered, Answer)
    assert answered.invocation.failure == Failure(418, "teapot")
    assert answered.invocation.output is None


@pytest.mark.parametrize(
    "chunk",
    [
        frames(END),
        frames(OUTPUT_OK, END, OUTPUT_OK),
        frames((messages.SUSPENSION, b"")),
        frames((messages.INPUT_COMMAND, b"")),
        frames((0x0777, b"")),
        frames((messages.OUTPUT_COMMAND, b"\xff\xff")),
        frames(set_state(b"a", b"1")),
        b"\x04",
        b"\x04\x01\x00\x00\x00\x00\x00\xff",
    ],
)
def test_frames_that_break_the_protocol_fail_the_attempt_and_change_nothing(chunk: bytes) -> None:
    partition = Partition()
    partition.apply(greet(1))
    aborted, armed = partition.apply(AttemptChunk(identity(1), 1, "dp-1", chunk))

    assert aborted == EndAttempt(identity(1), 1, True, 2)
    assert isinstance(armed, ArmRetry)
    invocation = partition.transaction.invocation(identity(1))
    assert invocation is not None
    assert (invocation.status, invocation.entries) == (STATUS_BACKING_OFF, 1)
    assert invocation.last_failure is not None
    assert invocation.last_failure.startswith("[571]")


def test_a_shared_handler_must_not_write() -> None:
    partition = Partition()
    partition.apply(add(1, kind=KIND_OBJECT_SHARED))
    partition.apply(answer(identity(1, "k"), set_state(b"a", b"1")))

    assert [key for key in partition.content() if key[:1] == b"s"] == []
    invocation = partition.transaction.invocation(identity(1, "k"))
    assert invocation is not None
    assert invocation.status == STATUS_BACKING_OFF


@covers("AnnounceLeader")
def test_a_lower_epoch_has_no_effect_after_a_higher_announcement() -> None:
    partition = Partition()
    assert partition.apply(AnnounceLeader("a", 5), epoch=5) == [LeaderAnnounced(5)]

    assert partition.apply(greet(1), epoch=4) == []
    assert partition.apply(AnnounceLeader("b", 4), epoch=4) == []
    assert partition.transaction.invocation(identity(1)) is None
    assert partition.machine.progress().applied_lsn == 3
    assert len(partition.apply(greet(1), epoch=5)) == 2


def test_a_record_that_cannot_be_applied_stops_there_and_leaves_nothing_behind() -> None:
    partition = Partition()
    partition.apply(greet(1))
    before = {key: value for key, value in partition.content().items() if key[:1] != b"p"}
    bad = Record(99, b"", (), 1, None, 0)

    with pytest.raises(RecordFailedError, match="LSN 2"):
        partition.apply_records([bad])
    after = {key: value for key, value in partition.content().items() if key[:1] != b"p"}
    assert after == before
    assert partition.machine.progress().applied_lsn == 1


def test_pending_invocations_are_woken_by_the_holder_alone() -> None:
    partition = Partition()
    partition.apply(add(1), add(2))

    effects = list(pending_effects(partition.transaction, WHOLE))
    assert [type(item) for item in effects] == [StartAttempt]
    waiting = partition.transaction.invocation(identity(2, "k"))
    assert waiting is not None
    assert (waiting.status, waiting.attempt) == (STATUS_PENDING, 0)
    partition.apply(answer(identity(1, "k")), answer(identity(2, "k")))
    done = partition.transaction.invocation(identity(2, "k"))
    assert done is not None
    assert done.status == STATUS_COMPLETED
