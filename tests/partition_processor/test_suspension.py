"""Suspension: what is waited for, what wakes, and what can never wake."""

import pytest

from perdure.core.protocol import messages
from perdure.partition_processor.effects import EndAttempt, StartAttempt
from perdure.partition_processor.operations import cancel
from perdure.partition_processor.records import Respond, Resume, Signal, Timer, TimersFired

from ..covering import covers
from .calls import called, delivered, make, told
from .frames import entry
from .support import END, OUTPUT_OK, RUN, RUN_DONE, Partition, add, answer, greet, identity

ONE, TWO = identity(1), identity(2)
SLEEP = entry("SLEEP_COMMAND", wake_up_time=5, result_completion_id=1)
FIRED = TimersFired((Timer(5_000_000, ONE, 1),))


def suspension(
    completions: tuple[int, ...] = (), signals: tuple[int, ...] = (1,), names: tuple[str, ...] = ()
) -> tuple[int, bytes]:
    """A SUSPENSION, which awaits a cancellation as code always does."""
    return entry(
        "SUSPENSION",
        waiting_completions=completions,
        waiting_signals=signals,
        waiting_named_signals=names,
    )


def running() -> Partition:
    """A partition with one invocation, which runs."""
    partition = Partition()
    partition.apply(greet(1))
    return partition


@covers("SUSPENSION")
def test_a_suspended_invocation_has_no_attempt_until_what_it_waits_for_comes() -> None:
    partition = running()
    effects = partition.send(ONE, SLEEP, suspension((1,)))
    assert effects[1:] == [EndAttempt(ONE, 1, False, 2)]
    assert partition.rows(b"a") == []
    assert partition.counts() == {"suspended": 1}

    (started,) = partition.apply(FIRED)
    assert isinstance(started, StartAttempt)
    assert started.invocation.attempt == 2
    assert started.invocation.waiting is None
    assert [name for name, _ in partition.journal(ONE)] == [
        "INPUT_COMMAND",
        "SLEEP_COMMAND",
        "SLEEP_COMPLETION",
    ]


@covers("SUSPENSION")
def test_what_comes_but_is_not_waited_for_is_kept_and_wakes_nobody() -> None:
    partition = running()
    other = entry("SLEEP_COMMAND", wake_up_time=6, result_completion_id=2)
    partition.send(ONE, SLEEP, other, suspension((2,)))
    assert partition.apply(FIRED) == []
    assert partition.status(ONE) == "suspended"
    assert partition.invocation(ONE).entries == 4

    (started,) = partition.apply(TimersFired((Timer(6_000_000, ONE, 2),)))
    assert isinstance(started, StartAttempt)
    assert started.invocation.entries == 5


@covers("SUSPENSION", "SIGNAL")
def test_any_one_of_what_is_waited_for_wakes() -> None:
    waiting = suspension((1,), (1, 17), ("go",))
    for command in (
        FIRED,
        Signal(ONE, 17, "", b"1", None),
        Signal(ONE, 0, "go", None, None),
        cancel(ONE),
    ):
        partition = running()
        partition.send(ONE, SLEEP, waiting)
        effects = partition.apply(command)
        assert [type(item) for item in effects] == [StartAttempt], command
    for command in (Signal(ONE, 18, "", b"1", None), Signal(ONE, 0, "other", None, None)):
        partition = running()
        partition.send(ONE, SLEEP, waiting)
        assert partition.apply(command) == [], command
        assert partition.status(ONE) == "suspended"


@covers("SUSPENSION")
def test_what_has_come_before_the_suspension_starts_the_next_attempt_at_once() -> None:
    for early, waiting in (
        (FIRED, suspension((1,))),
        (Signal(ONE, 17, "", b"1", None), suspension((), (1, 17))),
        (Signal(ONE, 0, "go", None, None), suspension((), (1,), ("go",))),
        (cancel(ONE), suspension((), (1, 18))),
    ):
        partition = running()
        partition.send(ONE, SLEEP)
        partition.apply(early)
        ended, started = partition.send(ONE, waiting)
        assert ended == EndAttempt(ONE, 1, False, 4)
        assert isinstance(started, StartAttempt)
        assert started.invocation.attempt == 2
        assert partition.counts() == {"running": 1}


@covers("SUSPENSION", "CALL_COMPLETION")
def test_a_completion_of_the_same_record_is_found_by_the_suspension() -> None:
    partition = running()
    partition.apply(greet(2), answer(TWO))
    call = called(2, idempotency_key="once")
    effects = partition.send(ONE, call.item, suspension((2,)), calls=(call.target,))

    assert [type(item) for item in effects] == [EndAttempt, StartAttempt]
    assert partition.invocation(ONE).entries == 4


@covers("SUSPENSION", "RUN_COMPLETION")
def test_a_step_completed_in_the_same_record_does_not_leave_the_invocation_asleep() -> None:
    partition = running()
    effects = partition.send(ONE, RUN, RUN_DONE, suspension((1,)))

    assert [type(item) for item in effects] == [EndAttempt, StartAttempt]


@covers("SUSPENSION")
@pytest.mark.parametrize(
    "items",
    [
        (entry("SUSPENSION"),),
        (suspension(),),
        (suspension((9,)),),
        (RUN, suspension((1,))),
        (suspension((), (1, 1)),),
    ],
)
def test_a_suspension_that_nothing_can_end_fails_the_attempt(
    items: tuple[tuple[int, bytes], ...],
) -> None:
    partition = running()
    partition.send(ONE, *items)

    assert partition.status(ONE) == "backing-off"
    failure = partition.invocation(ONE).last_failure
    assert failure is not None
    assert "nothing that it waits for can ever come" in failure
    assert partition.invocation(ONE).entries == 1


@covers("SUSPENSION")
def test_the_text_about_a_suspension_that_nothing_can_end_is_short() -> None:
    partition = running()
    partition.send(ONE, suspension(tuple(range(10, 50_000)), (1,) * 10_000))

    failure = partition.invocation(ONE).last_failure
    assert failure is not None
    assert len(failure) < 1_000


@covers("SUSPENSION", "SIGNAL")
def test_a_cancellation_wakes_once_and_not_for_ever() -> None:
    partition = running()
    partition.send(ONE, suspension((), (1, 17)))
    (started,) = partition.apply(cancel(ONE))
    assert isinstance(started, StartAttempt)
    assert started.invocation.attempt == 2

    # The handler took it, and waits on for its awakeable.
    (ended,) = partition.send(ONE, suspension((), (1, 17)))
    assert isinstance(ended, EndAttempt)
    assert partition.status(ONE) == "suspended"
    (again,) = partition.apply(cancel(ONE))
    assert isinstance(again, StartAttempt)
    assert partition.invocation(ONE).signals == ()


@covers("SUSPENSION", "SIGNAL")
def test_a_named_signal_that_was_taken_wakes_once_in_vain_and_not_for_ever() -> None:
    partition = running()
    partition.apply(Signal(ONE, 0, "steer", b"1", None))
    # The handler took it and waits for the next one of the name; whether it did, nobody here knows.
    _, started = partition.send(ONE, suspension((), (1,), ("steer",)))
    assert isinstance(started, StartAttempt)

    partition.send(ONE, suspension((), (1,), ("steer",)))
    assert partition.status(ONE) == "suspended"
    (again,) = partition.apply(Signal(ONE, 0, "steer", b"2", None))
    assert isinstance(again, StartAttempt)


@covers("SIGNAL", "SUSPENSION")
def test_a_cancellation_wakes_also_the_handler_that_does_not_wait_for_one() -> None:
    partition = running()
    partition.send(ONE, suspension((), (17,)))
    effects = partition.apply(cancel(ONE))

    assert [type(item) for item in effects] == [StartAttempt]


@covers("SUSPENSION")
def test_an_object_stays_locked_while_its_handler_is_suspended() -> None:
    partition = Partition()
    partition.apply(add(1), add(2))
    holder = identity(1, "k")
    partition.send(holder, suspension((), (1, 17)))
    assert partition.counts() == {"suspended": 1, "pending": 1}

    partition.apply(Signal(holder, 17, "", b"1", None))
    effects = partition.send(holder, OUTPUT_OK, END)
    starts = [item.invocation_id for item in effects if isinstance(item, StartAttempt)]
    assert starts == [identity(2, "k")]


@covers("SUSPENSION")
def test_a_suspension_resets_the_failures_that_the_policy_counts() -> None:
    partition = running()
    partition.send(ONE, (0x0777, b""))
    partition.apply(Resume(ONE))
    partition.send(ONE, (0x0777, b""))
    assert partition.invocation(ONE).failed_attempts == 1
    partition.apply(Resume(ONE))
    partition.send(ONE, suspension((), (1, 17)))

    assert partition.invocation(ONE).failed_attempts == 0


@covers("SUSPENSION", "Respond")
def test_a_suspended_caller_is_woken_by_the_result_and_told_nothing_before() -> None:
    partition = running()
    make(partition, ONE, called(2))
    partition.send(ONE, suspension((2,)))
    effects = partition.apply(answer(TWO))

    assert told(effects, ONE) == []
    assert StartAttempt(ONE, partition.invocation(ONE)) in effects


@covers("Respond")
def test_the_same_completion_again_wakes_nobody() -> None:
    partition = running()
    make(partition, ONE, called(2))
    partition.send(ONE, suspension((2,)))
    respond = Respond(ONE, 2, messages.CALL_COMPLETION, b"1", None)
    partition.apply(delivered(respond))
    partition.send(ONE, suspension((), (1, 17)))
    entries = partition.invocation(ONE).entries
    partition.apply(delivered(respond, first=2))

    assert partition.status(ONE) == "suspended"
    assert partition.invocation(ONE).entries == entries
