"""What may be asked from outside: cancel, kill, pause, resume, purge, restart."""

from typing import Any

import msgspec
import pytest

from perdure.core.ids import InvocationId
from perdure.log.types import Record
from perdure.partition_processor import outcomes
from perdure.partition_processor.effects import Answer, EndAttempt, StartAttempt
from perdure.partition_processor.operations import cancel, keys_of
from perdure.partition_processor.records import (
    INVOKE,
    AttemptFailed,
    Kill,
    Pause,
    Purge,
    Restart,
    Resume,
    attempt_key,
    encode_command,
)
from perdure.partition_processor.tables.invocations import Failure

from ..covering import covers
from .calls import called, make, sent, text, told
from .frames import entry, result
from .support import (
    OUTPUT_OK,
    RUN,
    RUN_DONE,
    Partition,
    add,
    answer,
    greet,
    identity,
    workflow,
)
from .transitions import ONE as OBJECT
from .transitions import STATUSES, reach

ONE, TWO, THREE, NEW = identity(1), identity(2), identity(3), identity(100)


@covers("Signal")
@pytest.mark.parametrize("status", ["scheduled", "pending"])
def test_cancelling_what_has_not_begun_ends_it_and_tells_those_that_wait(status: str) -> None:
    partition = reach(status)
    partition.apply(greet(2))
    attach = entry("ATTACH_INVOCATION_COMMAND", invocation_id=text(1, "k"), result_completion_id=1)
    partition.send(TWO, attach)
    outcome, effects = partition.operate(cancel(OBJECT))

    assert outcome == outcomes.DONE
    (answered,) = [item for item in effects if isinstance(item, Answer)]
    assert answered.invocation.failure == Failure(409, "cancelled")
    assert [item for item in effects if isinstance(item, EndAttempt)] == []
    assert result(told(effects, TWO)[0].message) == Failure(409, "cancelled")
    assert partition.rows(b"tyq") == []


@covers("Kill")
def test_a_kill_takes_the_attempt_and_everything_that_was_called_below() -> None:
    partition = Partition()
    partition.apply(greet(1))
    make(partition, ONE, called(2), sent(3, id_index=3), called(4, key="k", ids=(4, 5)))
    make(partition, identity(4, "k"), called(5))
    partition.apply(add(6))
    outcome, effects = partition.operate(Kill(ONE))

    assert outcome == outcomes.DONE
    killed = {item.invocation_id for item in effects if isinstance(item, EndAttempt)}
    assert killed == {ONE, TWO, THREE, identity(4, "k"), identity(5)}
    assert all(item.abort for item in effects if isinstance(item, EndAttempt))
    for invocation_id in killed:
        assert partition.invocation(invocation_id).failure == Failure(409, "killed")
    started = [item.invocation_id for item in effects if isinstance(item, StartAttempt)]
    assert started == [identity(6, "k")]
    assert partition.counts() == {"completed": 5, "running": 1}


@covers("Kill")
def test_a_killed_invocation_has_no_output_even_where_one_was_stored() -> None:
    partition = Partition()
    partition.apply(greet(1))
    partition.send(ONE, OUTPUT_OK)
    partition.operate(Kill(ONE), 5_000)

    invocation = partition.invocation(ONE)
    assert (invocation.output, invocation.failure) == (None, Failure(409, "killed"))
    assert invocation.completed_ns == invocation.modified_ns == 5_000


@covers("Kill")
@pytest.mark.parametrize("status", STATUSES[1:-1])
def test_what_has_completed_waits_for_nothing_any_more(status: str) -> None:
    partition = reach(status)
    partition.operate(Kill(OBJECT))

    invocation = partition.invocation(OBJECT)
    assert (invocation.retry_at_ns, invocation.timers, invocation.inbox_number) == (0, 0, -1)
    assert (invocation.waiting, invocation.sinks) == (None, ())
    assert [key for key in partition.rows(b"aty") if OBJECT[8:] in key] == []


@covers("Kill")
def test_a_kill_leaves_the_caller_above_and_tells_it() -> None:
    partition = Partition()
    partition.apply(greet(1))
    make(partition, ONE, called(2))
    _, effects = partition.operate(Kill(TWO))

    assert partition.status(ONE) == "running"
    assert result(told(effects, ONE)[0].message) == Failure(409, "killed")


@covers("Kill")
def test_a_kill_passes_over_what_was_called_and_has_completed() -> None:
    partition = Partition()
    partition.apply(greet(1))
    make(partition, ONE, called(2))
    partition.apply(answer(TWO))
    before = partition.invocation(TWO)
    partition.operate(Kill(ONE))

    assert partition.invocation(TWO) == before
    assert partition.operate(Kill(ONE)) == (outcomes.COMPLETED, [])


@covers("Pause", "Resume")
def test_a_paused_invocation_goes_on_where_it_was() -> None:
    partition = Partition()
    partition.apply(greet(1))
    partition.send(ONE, RUN, RUN_DONE)
    outcome, effects = partition.operate(Pause(ONE), 5_000)
    assert (outcome, effects) == (outcomes.DONE, [EndAttempt(ONE, 1, True, 3)])
    assert partition.invocation(ONE).modified_ns == 5_000

    outcome, effects = partition.operate(Resume(ONE))
    assert outcome == outcomes.DONE
    (started,) = effects
    assert isinstance(started, StartAttempt)
    assert (started.invocation.attempt, started.invocation.entries) == (2, 3)


@covers("Resume")
def test_a_resume_may_move_what_has_entries_to_another_deployment() -> None:
    for pinned in (False, True):
        partition = Partition()
        partition.apply(greet(1))
        if pinned:
            partition.send(ONE, RUN)
        partition.apply(AttemptFailed(ONE, 1, 500, "boom", 50, True))
        partition.operate(Resume(ONE, "dp-2"))
        invocation = partition.invocation(ONE)
        assert invocation.deployment == ("dp-2" if pinned else None)
        assert invocation.failed_attempts == 0


@covers("Purge")
def test_purging_leaves_no_row_behind() -> None:
    partition = Partition()
    partition.apply(greet(1))
    for _ in range(4):
        partition.send(ONE, entry("GET_EAGER_STATE_COMMAND", key=bytes(3_000)))
        partition.apply(Resume(ONE))
    partition.send(ONE, *[entry("OUTPUT_COMMAND", value={"content": bytes(3_000)})] * 3)
    partition.apply(answer(ONE, attempt=partition.invocation(ONE).attempt))
    assert partition.status(ONE) == "completed"
    assert partition.rows(b"j") != []
    assert partition.rows(b"e") != []
    outcome, _ = partition.operate(Purge(ONE))

    assert outcome == outcomes.DONE
    assert [key[:1] for key in partition.content()] == [b"p"]
    assert partition.operate(Purge(ONE)) == (outcomes.NOT_FOUND, [])


@covers("Purge")
def test_purging_the_journal_alone_keeps_the_result_until_its_time() -> None:
    partition = Partition()
    shorter = msgspec.structs.replace(greet(1), journal_retention_ns=10**9)
    partition.apply(shorter)
    partition.apply(answer(ONE))
    assert len(partition.rows(b"x")) == 2
    outcome, _ = partition.operate(Purge(ONE, journal_only=True))

    assert outcome == outcomes.DONE
    invocation = partition.invocation(ONE)
    assert (invocation.output, invocation.entries, invocation.head) == (b'"ok"', 0, ())
    assert len(partition.rows(b"x")) == 1
    assert partition.operate(restart(ONE, NEW))[0] == outcomes.JOURNAL_GONE
    assert partition.operate(Purge(ONE))[0] == outcomes.DONE
    assert partition.rows(b"xi") == []


def restart(old: InvocationId, new: InvocationId, entries: int = 1, **fields: Any) -> Restart:
    """A restart with two hours of retention."""
    deployment = fields.pop("deployment", None)
    return Restart(old, new, entries, deployment, 7_200 * 10**9, 3_600 * 10**9)


def lived() -> Partition:
    """A partition whose first invocation has run a step, called, slept in vain, and completed."""
    partition = Partition()
    partition.apply(greet(1, b'"again"'))
    partition.send(ONE, RUN, RUN_DONE)
    make(partition, ONE, called(2, ids=(2, 3)))
    partition.apply(answer(TWO))
    sleeping = entry("SLEEP_COMMAND", wake_up_time=99, result_completion_id=4)
    partition.send(ONE, entry("RUN_COMMAND", result_completion_id=5), sleeping)
    partition.apply(answer(ONE))
    assert partition.status(ONE) == "completed"
    return partition


@covers("Restart")
def test_a_restart_begins_anew_with_the_old_input_and_chance() -> None:
    partition = lived()
    outcome, effects = partition.operate(restart(ONE, NEW))

    assert outcome == outcomes.DONE
    (started,) = effects
    assert isinstance(started, StartAttempt)
    new, old = partition.invocation(NEW), partition.invocation(ONE)
    assert (new.status, new.attempt, new.entries) == (started.invocation.status, 1, 1)
    assert (new.service, new.handler, new.target_kind) == ("Greeter", "greet", old.target_kind)
    assert new.restarted_from == ONE
    assert new.seed == int.from_bytes(ONE[16:24], "big")
    assert (new.idempotency_key, new.deployment, new.sinks) == (None, None, ())
    assert (new.completion_retention_ns, new.journal_retention_ns) == (
        7_200 * 10**9,
        3_600 * 10**9,
    )
    assert partition.journal(NEW)[0].message.value.content == b'"again"'
    assert partition.journal(NEW) == partition.journal(ONE)[:1]
    assert partition.invocation(ONE) == old


@covers("Restart")
@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        (0, 1),
        (1, 1),
        (2, 3),  # The step's completion comes with it.
        (3, 3),
        (4, 6),  # The call with both of its completions.
        (5, 6),
        (100, 6),  # What was never completed is not kept, nor what follows it.
    ],
)
def test_a_restart_keeps_commands_with_their_completions(kept: int, expected: int) -> None:
    partition = lived()
    partition.operate(restart(ONE, NEW, kept, deployment="dp-9"))

    assert partition.journal(NEW) == partition.journal(ONE)[:expected]
    assert partition.invocation(NEW).deployment == "dp-9"
    partition.send(NEW, entry("SLEEP_COMMAND", wake_up_time=9, result_completion_id=9))
    assert partition.status(NEW) == "running"
    reused = {1: 1, 3: 1, 6: 3}[expected]
    partition.send(NEW, entry("SLEEP_COMMAND", wake_up_time=9, result_completion_id=reused))
    fails = "backing-off" if expected > 1 else "running"
    assert partition.status(NEW) == fails


@covers("Restart")
def test_a_restart_keeps_a_command_whose_completion_came_behind_the_part_that_is_kept() -> None:
    partition = Partition()
    partition.apply(greet(1))
    make(partition, ONE, called(2))
    partition.send(ONE, entry("RUN_COMMAND", result_completion_id=3), frames_done(3))
    partition.apply(answer(TWO), answer(ONE))
    partition.operate(restart(ONE, NEW, 2))

    names = [name for name, _ in partition.journal(NEW)]
    assert names == ["INPUT_COMMAND", "CALL_COMMAND", "CALL_INVOCATION_ID", "CALL_COMPLETION"]


@covers("Restart")
def test_a_restart_copies_a_long_journal_in_chunks_that_a_worker_can_be_sent() -> None:
    partition = Partition()
    partition.apply(greet(1))
    large = b"a" * 400_000
    for number in range(1, 8):
        done = entry("RUN_COMPLETION", completion_id=number, value={"content": large})
        partition.send(ONE, entry("RUN_COMMAND", result_completion_id=number), done)
    partition.apply(answer(ONE))
    partition.operate(restart(ONE, NEW, 100))

    assert partition.journal(NEW) == partition.journal(ONE)[:-1]
    chunks = partition.transaction.journal(NEW, partition.invocation(NEW))
    assert [chunk.entries for chunk in chunks] == [6, 4, 4, 1]
    assert max(len(chunk.frames) for chunk in chunks) <= 1024 * 1024


def frames_done(number: int) -> tuple[int, bytes]:
    """A step's completion."""
    return entry("RUN_COMPLETION", completion_id=number, value={"content": b"1"})


@covers("Restart")
def test_a_restart_belongs_to_the_trace_of_the_old_one_and_its_journal_is_kept_no_longer() -> None:
    partition = Partition()
    record = Record(INVOKE, encode_command(greet(1)), (), 1, None, 0, 0, "00-trace")
    partition.apply_records([record])
    partition.apply(answer(ONE))
    partition.operate(Restart(ONE, NEW, 1, None, 5, 9))

    invocation = partition.invocation(NEW)
    assert invocation.traceparent == "00-trace"
    assert (invocation.completion_retention_ns, invocation.journal_retention_ns) == (5, 5)


@covers("Restart")
def test_a_restart_of_an_object_waits_for_its_turn() -> None:
    partition = Partition()
    partition.apply(add(1), answer(OBJECT), add(2))
    new = identity(100, "k")
    outcome, _ = partition.operate(restart(OBJECT, new))

    assert outcome == outcomes.DONE
    assert partition.counts() == {"completed": 1, "running": 1, "pending": 1}
    partition.apply(answer(identity(2, "k")))
    assert partition.status(new) == "running"


@covers("Restart")
def test_what_cannot_be_restarted_says_why() -> None:
    partition = Partition()
    partition.apply(greet(1), workflow(2), greet(3), answer(identity(3)))
    run = identity(2, "w")
    assert partition.operate(restart(ONE, NEW))[0] == outcomes.NOT_COMPLETED
    assert partition.operate(restart(identity(9), NEW))[0] == outcomes.NOT_FOUND
    partition.apply(answer(run))
    assert partition.operate(restart(run, NEW))[0] == outcomes.UNSUPPORTED
    assert partition.operate(restart(THREE, ONE))[0] == outcomes.UNCHANGED
    assert partition.status(NEW) == "unknown"


def test_the_records_that_give_or_take_an_attempt_carry_its_key_and_no_others() -> None:
    key = attempt_key(ONE)
    assert keys_of(Kill(ONE)) == keys_of(Pause(ONE)) == keys_of(Resume(ONE)) == (key,)
    assert keys_of(cancel(ONE)) == keys_of(Purge(ONE)) == ()
    assert keys_of(restart(ONE, NEW)) == (attempt_key(NEW),)
