"""An id may come again once it is forgotten: nothing of the one before may reach the one after."""

from perdure.log.types import Record
from perdure.partition_processor.effects import StartAttempt
from perdure.partition_processor.records import (
    ATTEMPT_CHUNK,
    ATTEMPT_FAILED,
    AttemptChunk,
    AttemptFailed,
    Command,
    Invoke,
    Kill,
    Purge,
    Respond,
    Resume,
    encode_command,
)

from .calls import called, delivered, make
from .frames import entry
from .support import END, OUTPUT_OK, Partition, answer, frames, greet, identity, workflow

RUN = identity(1, "w")
CHILD = identity(2)


def run_again(partition: Partition) -> None:
    """Purge the workflow's run and start it anew under the same id."""
    partition.operate(Purge(RUN))
    effects = partition.apply(workflow(1))
    assert [type(item) for item in effects if isinstance(item, StartAttempt)] == [StartAttempt]


def test_a_child_of_a_purged_run_does_not_answer_the_run_that_follows() -> None:
    partition = Partition()
    partition.apply(workflow(1))
    make(partition, RUN, called(2))
    partition.send(RUN, OUTPUT_OK, END)
    run_again(partition)
    make(partition, RUN, called(3))
    partition.send(CHILD, OUTPUT_OK, END)
    names = [item.name for item in partition.journal(RUN)]
    assert names == ["INPUT_COMMAND", "CALL_COMMAND", "CALL_INVOCATION_ID"]
    partition.send(identity(3), OUTPUT_OK, END)
    assert partition.journal(RUN)[-1].name == "CALL_COMPLETION"


def test_a_child_in_another_partition_answers_only_the_run_that_called_it() -> None:
    partition = Partition()
    partition.apply(workflow(1))
    make(partition, RUN, called(2))
    old = partition.invocation(RUN).born_lsn
    partition.send(RUN, OUTPUT_OK, END)
    run_again(partition)
    make(partition, RUN, called(3))
    new = partition.invocation(RUN).born_lsn
    assert 0 < old < new
    frame_type = partition.invocation(identity(3)).sinks[0].frame_type
    partition.apply(delivered(Respond(RUN, 2, frame_type, b"old", None, old)))
    assert [item.name for item in partition.journal(RUN)][-1] == "CALL_INVOCATION_ID"
    partition.apply(delivered(Respond(RUN, 2, frame_type, b"new", None, new), first=2))
    assert partition.journal(RUN)[-1].message.value.content == b"new"


def test_a_waiter_for_a_promise_is_told_only_while_it_is_the_one_that_waited() -> None:
    partition = Partition()
    shared = workflow(5, handler="ask")
    partition.apply(workflow(1), shared)
    waits = entry("GET_PROMISE_COMMAND", key="p", result_completion_id=1)
    partition.send(shared.invocation_id, waits)
    partition.send(shared.invocation_id, OUTPUT_OK, END)
    partition.operate(Purge(shared.invocation_id))
    partition.apply(shared)
    partition.send(
        shared.invocation_id, entry("SLEEP_COMMAND", wake_up_time=10, result_completion_id=1)
    )
    partition.operate(Kill(RUN))
    partition.operate(Purge(RUN))
    assert [item.name for item in partition.journal(shared.invocation_id)] == [
        "INPUT_COMMAND",
        "SLEEP_COMMAND",
    ]


def guarded(kind: int, command: Command) -> Record:
    """A record that the log admitted on a condition."""
    return Record(kind, encode_command(command), (), 1, None, 0, 1, None, ((b"k" * 16, 1),))


def again(partition: Partition, first: Invoke, attempt: int) -> int:
    """Have a child killed through its caller in that attempt, and begin again under its id.

    Gives the LSN at which the first one was born.
    """
    partition.apply(first)
    for number in range(1, attempt):
        partition.apply(
            AttemptFailed(first.invocation_id, number, 500, "x", None, counts=False, pause=True)
        )
        partition.operate(Resume(first.invocation_id))
    born_lsn = partition.invocation(first.invocation_id).born_lsn
    partition.apply(delivered(Kill(first.invocation_id)))
    partition.operate(Purge(first.invocation_id))
    partition.apply(first)
    return born_lsn


def test_what_a_killed_child_still_sends_is_not_taken_for_its_successors() -> None:
    partition = Partition()
    child = greet(2)
    born_lsn = again(partition, child, 1)
    late = AttemptChunk(CHILD, 1, "dp-1", frames(OUTPUT_OK, END), (), born_lsn)
    effects = partition.apply_records([guarded(ATTEMPT_CHUNK, late)])
    assert effects == []
    assert partition.status(CHILD) == "running"
    failed = AttemptFailed(CHILD, 1, 500, "x", None, counts=True, born_lsn=born_lsn)
    assert partition.apply_records([guarded(ATTEMPT_FAILED, failed)]) == []
    assert partition.status(CHILD) == "running"
    partition.apply(answer(CHILD))
    assert partition.status(CHILD) == "completed"


def test_what_a_later_attempt_of_a_killed_child_sends_does_not_stop_the_partition() -> None:
    partition = Partition()
    born_lsn = again(partition, greet(2), 2)
    late = AttemptChunk(CHILD, 2, "dp-1", frames(OUTPUT_OK, END), (), born_lsn)
    assert partition.apply_records([guarded(ATTEMPT_CHUNK, late)]) == []
    assert partition.status(CHILD) == "running"
