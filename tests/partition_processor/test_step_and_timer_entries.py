"""Steps, sleeps and outputs: what the journal gets, and when the completions come."""

import pytest

from perdure.partition_processor.effects import Answer, ArmTimer, Notify
from perdure.partition_processor.entries.sleep import WAKE_MS_MAX
from perdure.partition_processor.records import Timer, TimersFired
from perdure.partition_processor.tables.invocations import Failure

from ..covering import covers
from .frames import entry, read_frames, result
from .support import END, OUTPUT_OK, RUN, RUN_DONE, Partition, failing_output, greet, identity

ONE = identity(1)


def running() -> Partition:
    """A partition with one invocation, which runs."""
    partition = Partition()
    partition.apply(greet(1))
    return partition


def sleep(completion_id: int, wake_ms: int) -> tuple[int, bytes]:
    """A SLEEP."""
    return entry("SLEEP_COMMAND", wake_up_time=wake_ms, result_completion_id=completion_id)


@covers("SLEEP_COMMAND", "SLEEP_COMPLETION", "TimersFired")
def test_a_sleep_is_a_timer_and_completes_once_when_the_timer_fires() -> None:
    partition = running()
    effects = partition.send(ONE, sleep(1, 5), sleep(2, 4))
    assert effects == [ArmTimer(5_000_000, ONE, 1), ArmTimer(4_000_000, ONE, 2)]
    assert len(partition.rows(b"t")) == len(partition.rows(b"y")) == 2
    assert partition.invocation(ONE).timers == 2

    fired = TimersFired((Timer(4_000_000, ONE, 2),))
    (notify,) = partition.apply(fired, time_ns=4_000_001)
    assert partition.apply(fired) == []

    assert isinstance(notify, Notify)
    (told,) = read_frames(notify.frames)
    assert (told.name, told.message.completion_id) == ("SLEEP_COMPLETION", 2)
    assert result(told.message) is None
    assert notify.record_time_ns == 4_000_001
    assert len(partition.rows(b"t")) == len(partition.rows(b"y")) == 1
    assert partition.invocation(ONE).timers == 1


@covers("SLEEP_COMMAND")
def test_a_wake_up_time_beyond_all_clocks_is_cut_and_one_in_the_past_is_due() -> None:
    partition = running()
    effects = partition.send(ONE, sleep(1, (1 << 64) - 1), sleep(2, 0))

    assert effects == [ArmTimer(WAKE_MS_MAX * 1_000_000, ONE, 1), ArmTimer(0, ONE, 2)]
    assert WAKE_MS_MAX * 1_000_000 < 1 << 63


@covers("SLEEP_COMMAND", "END")
def test_what_ends_leaves_no_timer_behind_not_even_one_of_its_last_record() -> None:
    partition = running()
    partition.send(ONE, sleep(1, 5))
    partition.send(ONE, sleep(2, 6), OUTPUT_OK, END)

    assert partition.rows(b"ty") == []
    assert partition.status(ONE) == "completed"
    assert partition.apply(TimersFired((Timer(5_000_000, ONE, 1),))) == []


@covers("RUN_COMMAND", "RUN_COMPLETION")
def test_a_step_is_stored_and_its_completion_is_told_to_the_attempt() -> None:
    partition = running()
    assert partition.send(ONE, RUN) == []
    (notify,) = partition.send(ONE, RUN_DONE)

    assert isinstance(notify, Notify)
    (told,) = read_frames(notify.frames)
    assert (told.name, told.message.completion_id, result(told.message)) == (
        "RUN_COMPLETION",
        1,
        b"7",
    )
    assert [name for name, _ in partition.journal(ONE)] == [
        "INPUT_COMMAND",
        "RUN_COMMAND",
        "RUN_COMPLETION",
    ]


@covers("RUN_COMPLETION")
def test_a_step_that_failed_for_good_has_its_failure_as_its_completion() -> None:
    partition = running()
    failed = entry("RUN_COMPLETION", completion_id=1, failure={"code": 418, "message": "teapot"})
    (notify,) = partition.send(ONE, RUN, failed)

    assert isinstance(notify, Notify)
    (told,) = read_frames(notify.frames)
    assert result(told.message) == Failure(418, "teapot")


@covers("RUN_COMPLETION")
def test_the_second_completion_of_a_step_fails_the_attempt() -> None:
    partition = running()
    partition.send(ONE, RUN, RUN_DONE)
    partition.send(ONE, RUN_DONE)

    assert partition.status(ONE) == "backing-off"
    assert partition.invocation(ONE).last_failure == "[571] completion id 1 was used before"
    assert partition.invocation(ONE).entries == 3


@covers("OUTPUT_COMMAND", "END")
def test_the_last_output_before_the_end_counts() -> None:
    partition = running()
    assert partition.send(ONE, failing_output(418, "teapot")) == []
    assert partition.status(ONE) == "running"
    _, answered = partition.send(ONE, OUTPUT_OK, END)

    assert isinstance(answered, Answer)
    assert (answered.invocation.output, answered.invocation.failure) == (b'"ok"', None)


@covers("OUTPUT_COMMAND", "END")
def test_an_output_and_its_end_may_come_in_two_records() -> None:
    partition = running()
    partition.send(
        ONE,
        entry(
            "OUTPUT_COMMAND",
            failure={"code": 7, "message": "no", "metadata": [{"key": "a", "value": "b"}]},
        ),
    )
    _, answered = partition.send(ONE, END)

    assert isinstance(answered, Answer)
    assert answered.invocation.failure == Failure(7, "no", (("a", "b"),))
    assert answered.invocation.output is None


@covers("END")
@pytest.mark.parametrize("items", [(END,), (RUN, RUN_DONE, END)])
def test_an_end_without_an_output_is_no_end(items: tuple[tuple[int, bytes], ...]) -> None:
    partition = running()
    partition.send(ONE, *items)

    assert partition.status(ONE) == "backing-off"
    assert partition.invocation(ONE).last_failure == "[571] the attempt ended without an output"


@covers("INPUT_COMMAND", "Invoke")
def test_the_input_is_the_first_entry_as_it_was_sent_and_refused_from_code() -> None:
    partition = running()
    ((name, message),) = partition.journal(ONE)
    assert name == "INPUT_COMMAND"
    assert message.value.content == b'"Ann"'

    partition.send(ONE, entry("INPUT_COMMAND", value={"content": b"1"}))
    assert partition.status(ONE) == "backing-off"
    assert partition.invocation(ONE).entries == 1


def test_the_first_stored_entry_pins_the_deployment() -> None:
    partition = running()
    assert partition.invocation(ONE).deployment is None
    partition.send(ONE, RUN)

    assert partition.invocation(ONE).deployment == "dp-1"
