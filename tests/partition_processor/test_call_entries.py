"""Calls and one-way calls: who begins, who is told what, who joins whom."""

import pytest

from perdure.log.types import Record
from perdure.partition_processor.effects import ArmTimer, Delivered, StartAttempt
from perdure.partition_processor.records import (
    INVOKE,
    KIND_OBJECT_SHARED,
    KIND_SERVICE,
    KIND_WORKFLOW_RUN,
    AttemptChunk,
    Respond,
    Timer,
    TimersFired,
    encode_command,
)
from perdure.partition_processor.tables.invocations import Failure

from ..covering import covers
from .calls import DAY_NS, called, delivered, make, sent, text, told
from .frames import entry, result
from .support import (
    END,
    OUTPUT_OK,
    Partition,
    add,
    answer,
    failing_output,
    frames,
    greet,
    identity,
    workflow,
)

ONE, TWO, THREE = identity(1), identity(2), identity(3)


def caller() -> Partition:
    """A partition with one plain invocation, which runs."""
    partition = Partition()
    partition.apply(greet(1))
    return partition


@covers("CALL_COMMAND", "CALL_INVOCATION_ID", "CALL_COMPLETION")
def test_a_called_handler_begins_in_the_same_record_and_its_result_comes_back() -> None:
    partition = caller()
    effects = make(partition, ONE, called(2))

    (identified,) = told(effects, ONE)
    assert identified.name == "CALL_INVOCATION_ID"
    assert (identified.message.completion_id, result(identified.message)) == (1, text(2))
    (started,) = [item for item in effects if isinstance(item, StartAttempt)]
    assert started.invocation_id == TWO
    assert started.invocation.parent == ONE

    effects = partition.apply(answer(TWO))
    (completed,) = told(effects, ONE)
    assert completed.name == "CALL_COMPLETION"
    assert (completed.message.completion_id, result(completed.message)) == (2, b'"ok"')
    assert [name for name, _ in partition.journal(ONE)] == [
        "INPUT_COMMAND",
        "CALL_COMMAND",
        "CALL_INVOCATION_ID",
        "CALL_COMPLETION",
    ]


@covers("CALL_COMPLETION")
def test_the_failure_of_a_called_handler_comes_back_with_all_that_it_says() -> None:
    partition = caller()
    make(partition, ONE, called(2))
    failing = entry(
        "OUTPUT_COMMAND",
        failure={"code": 418, "message": "tea", "metadata": [{"key": "a", "value": "b"}]},
    )
    effects = partition.send(TWO, failing, END)

    (completed,) = told(effects, ONE)
    assert result(completed.message) == Failure(418, "tea", (("a", "b"),))


@covers("CALL_COMMAND", "INPUT_COMMAND")
def test_the_called_handler_gets_headers_parameter_trace_and_retention() -> None:
    partition = Partition()
    record = Record(INVOKE, encode_command(greet(1)), (), 1, None, 0, 0, "00-trace")
    partition.apply_records([record])
    call = called(
        2,
        key="k",
        parameter=b"\x00\xff",
        headers=[{"key": "a", "value": "1"}, {"key": "a", "value": "2"}],
        idempotency_key="once",
        retention_ns=7,
    )
    make(partition, ONE, call)

    invocation = partition.invocation(identity(2, "k"))
    assert (invocation.service, invocation.handler, invocation.key) == ("Counter", "add", "k")
    assert (invocation.idempotency_key, invocation.traceparent) == ("once", "00-trace")
    assert (invocation.completion_retention_ns, invocation.journal_retention_ns) == (7, 7)
    ((name, message),) = partition.journal(identity(2, "k"))
    assert name == "INPUT_COMMAND"
    assert message.value.content == b"\x00\xff"
    assert [(header.key, header.value) for header in message.headers] == [("a", "1"), ("a", "2")]


@covers("CALL_COMMAND")
def test_an_empty_parameter_and_an_empty_result_arrive_as_present_values() -> None:
    partition = caller()
    make(partition, ONE, called(2))
    ((_, message),) = partition.journal(TWO)
    assert message.HasField("value")

    effects = partition.send(TWO, entry("OUTPUT_COMMAND", value={}), END)
    (completed,) = told(effects, ONE)
    assert result(completed.message) == b""


@covers("ONE_WAY_CALL_COMMAND", "CALL_INVOCATION_ID")
def test_a_one_way_call_tells_the_id_and_nobody_waits() -> None:
    partition = caller()
    effects = make(partition, ONE, sent(2))
    (identified,) = told(effects, ONE)
    assert (identified.name, identified.message.completion_id) == ("CALL_INVOCATION_ID", 1)
    assert result(identified.message) == text(2)
    assert partition.invocation(TWO).sinks == ()

    assert told(partition.apply(answer(TWO)), ONE) == []


@covers("ONE_WAY_CALL_COMMAND", "TimersFired")
def test_a_one_way_call_for_later_is_scheduled_and_starts_when_its_timer_fires() -> None:
    partition = caller()
    effects = make(partition, ONE, sent(2, at_ms=60))
    assert ArmTimer(60_000_000, TWO, 0) in effects
    assert partition.status(TWO) == "scheduled"
    assert partition.counts() == {"running": 1, "scheduled": 1}

    (started,) = partition.apply(TimersFired((Timer(60_000_000, TWO, 0),)), time_ns=60_000_000)
    assert isinstance(started, StartAttempt)
    assert (started.invocation.attempt, started.invocation.timers) == (1, 0)
    assert partition.rows(b"ty") == []


@covers("ONE_WAY_CALL_COMMAND")
def test_a_one_way_call_for_the_past_starts_at_once() -> None:
    partition = Partition()
    partition.apply(greet(1), time_ns=10**9)
    late = sent(2, at_ms=999)
    partition.send(ONE, late.item, calls=(late.target,), time_ns=10**9)

    assert partition.status(TWO) == "running"
    assert partition.rows(b"t") == []


@covers("CALL_COMMAND", "Invoke")
def test_a_call_of_an_invocation_that_runs_already_joins_those_that_wait() -> None:
    partition = caller()
    make(partition, ONE, called(2))
    partition.apply(greet(3))
    effects = make(partition, THREE, called(2, idempotency_key="once"))
    assert [type(item).__name__ for item in effects] == ["Notify"]

    effects = partition.apply(answer(TWO))
    for waiting in (ONE, THREE):
        (completed,) = told(effects, waiting)
        assert (completed.name, result(completed.message)) == ("CALL_COMPLETION", b'"ok"')


@covers("CALL_COMMAND")
@pytest.mark.parametrize("failed", [False, True])
def test_a_call_of_an_invocation_that_has_completed_gets_its_result(failed: bool) -> None:
    partition = caller()
    partition.apply(greet(2))
    partition.send(TWO, failing_output(418, "tea") if failed else OUTPUT_OK, END)
    effects = make(partition, ONE, called(2, idempotency_key="once"))

    names = [item.name for item in told(effects, ONE)]
    assert names == ["CALL_INVOCATION_ID", "CALL_COMPLETION"]
    given = result(told(effects, ONE)[1].message)
    assert given == (Failure(418, "tea") if failed else b'"ok"')


@covers("ONE_WAY_CALL_COMMAND")
def test_a_one_way_call_of_a_known_invocation_changes_nothing_there() -> None:
    partition = caller()
    partition.apply(greet(2))
    before = partition.invocation(TWO)
    make(partition, ONE, sent(2, at_ms=99, idempotency_key="once"))

    assert partition.invocation(TWO) == before
    assert partition.rows(b"t") == []


@covers("CALL_COMMAND")
def test_the_second_call_of_a_workflow_run_fails_with_409_in_any_status() -> None:
    run = called(5, key="w", kind=KIND_WORKFLOW_RUN)
    for completed in (False, True):
        partition = caller()
        partition.apply(workflow(5))
        if completed:
            partition.apply(answer(identity(5, "w")))
        effects = make(partition, ONE, run)
        refused = result(told(effects, ONE)[1].message)
        assert isinstance(refused, Failure)
        assert refused.code == 409
        assert "runs once per key" in refused.message


@covers("CALL_COMMAND")
def test_calls_that_go_through_an_object_queue_in_the_order_of_their_commands() -> None:
    partition = caller()
    calls = [called(number, key="k", ids=(number * 2, number * 2 + 1)) for number in (5, 6, 7)]
    effects = make(partition, ONE, *calls)
    starts = [item.invocation_id for item in effects if isinstance(item, StartAttempt)]
    for number in (5, 6, 7):
        effects = partition.apply(answer(identity(number, "k")))
        starts += [item.invocation_id for item in effects if isinstance(item, StartAttempt)]

    assert starts == [identity(number, "k") for number in (5, 6, 7)]


@covers("CALL_COMMAND")
def test_calls_and_their_targets_must_match() -> None:
    for targets in ((), (called(2).target, called(3).target)):
        partition = caller()
        partition.send(ONE, called(2).item, calls=targets)
        assert partition.status(ONE) == "backing-off"
        assert partition.transaction.invocation(TWO) is None


@covers("CALL_COMPLETION", "Respond")
def test_a_completion_counts_once_and_only_where_it_was_asked_for() -> None:
    partition = caller()
    make(partition, ONE, called(2))
    partition.apply(answer(TWO))
    before = partition.invocation(ONE)
    again = Respond(ONE, 2, 0x800D, b"second", None)
    never_asked = Respond(ONE, 9, 0x800D, b"other", None)
    unknown = Respond(identity(99), 1, 0x800D, b"other", None)
    effects = partition.apply(delivered(again, never_asked, unknown))

    assert effects == [Delivered(1, 3)]
    assert partition.invocation(ONE) == before


@covers("CALL_COMMAND")
def test_the_end_of_the_caller_leaves_the_called_one_running() -> None:
    partition = caller()
    make(partition, ONE, called(2))
    partition.send(ONE, OUTPUT_OK, END)
    assert partition.status(TWO) == "running"

    effects = partition.apply(answer(TWO))
    assert told(effects, ONE) == []
    assert partition.counts() == {"completed": 2}


@covers("CALL_COMMAND")
def test_a_call_of_the_own_locked_object_fails_at_once_with_what_to_do() -> None:
    partition = Partition()
    partition.apply(add(1))
    effects = make(partition, identity(1, "k"), called(2, key="k"))

    identified, refused = told(effects, identity(1, "k"))
    assert identified.name == "CALL_INVOCATION_ID"
    failure = result(refused.message)
    assert isinstance(failure, Failure)
    assert failure.code == 409
    assert "send it one-way" in failure.message
    assert partition.status(identity(2, "k")) == "unknown"
    assert partition.counts() == {"running": 1}


@covers("CALL_COMMAND")
def test_a_deadlock_through_a_service_and_another_object_is_found_as_well() -> None:
    partition = Partition()
    partition.apply(add(1))
    holder, middle, other = identity(1, "k"), identity(2), identity(3, "l")
    make(partition, holder, called(2))
    make(partition, middle, called(3, key="l"))
    effects = make(partition, other, called(4, key="k"))

    failure = result(told(effects, other)[1].message)
    assert isinstance(failure, Failure)
    assert failure.code == 409
    assert partition.status(identity(4, "k")) == "unknown"


@covers("CALL_COMMAND")
def test_a_call_that_joins_an_invocation_behind_the_own_lock_is_a_deadlock_too() -> None:
    for first in (1, 2):
        partition = Partition()
        partition.apply(add(1), add(2))
        holder = identity(1, "k")
        effects = make(partition, holder, called(first, key="k", idempotency_key="once"))
        failure = result(told(effects, holder)[1].message)
        assert isinstance(failure, Failure)
        assert failure.code == 409
        assert partition.invocation(identity(first, "k")).sinks == ()

    partition.apply(answer(identity(1, "k")))
    effects = make(
        partition,
        identity(2, "k"),
        called(1, key="k", idempotency_key="once"),
    )
    assert result(told(effects, identity(2, "k"))[1].message) == b'"ok"'


@covers("CALL_COMMAND", "ATTACH_INVOCATION_COMMAND", "GET_INVOCATION_OUTPUT_COMMAND", "Attach")
def test_nobody_waits_for_the_own_result() -> None:
    expected = Failure(409, "the invocation would wait for its own result")
    partition = caller()
    effects = make(partition, ONE, called(1, idempotency_key="once"))
    assert result(told(effects, ONE)[1].message) == expected
    attach = entry("ATTACH_INVOCATION_COMMAND", invocation_id=text(1), result_completion_id=3)
    look = entry("GET_INVOCATION_OUTPUT_COMMAND", invocation_id=text(1), result_completion_id=4)
    effects = partition.send(ONE, attach, look)
    assert [result(item.message) for item in told(effects, ONE)] == [expected, None]
    assert partition.invocation(ONE).sinks == ()


@covers("CALL_COMMAND", "ONE_WAY_CALL_COMMAND")
def test_what_waits_for_nobody_on_the_own_object_is_no_deadlock() -> None:
    partition = Partition()
    partition.apply(add(1))
    holder = identity(1, "k")
    shared = called(3, key="k", kind=KIND_OBJECT_SHARED, ids=(2, 3))
    other = called(4, key="l", ids=(4, 5))
    make(partition, holder, sent(2, key="k"), shared, other)

    assert partition.status(identity(2, "k")) == "pending"
    assert partition.status(identity(3, "k")) == "running"
    assert partition.status(identity(4, "l")) == "running"


def test_a_chain_of_callers_remembers_the_last_locks_only() -> None:
    partition = Partition()
    partition.apply(add(1, "0"))
    for number in range(1, 70):
        make(
            partition,
            identity(number, str(number - 1)),
            called(number + 1, key=str(number)),
        )
    last = partition.invocation(identity(70, "69"))

    assert len(last.held) == 64
    assert last.held == tuple(dict.fromkeys(last.held))


@covers("CALL_COMMAND")
def test_a_plain_call_of_a_kind_that_is_unkeyed_has_no_key_in_its_row() -> None:
    partition = caller()
    make(partition, ONE, called(2, kind=KIND_SERVICE))

    assert partition.invocation(TWO).key is None
    assert partition.invocation(TWO).completion_retention_ns == DAY_NS


@covers("CALL_COMMAND")
def test_an_attempt_that_calls_and_ends_in_one_record_is_answered_nothing() -> None:
    partition = caller()
    call = called(2)
    effects = partition.apply(
        AttemptChunk(ONE, 1, "dp-1", frames(call.item, OUTPUT_OK, END), (call.target,))
    )

    assert told(effects, ONE) == []
    assert partition.status(TWO) == "running"
