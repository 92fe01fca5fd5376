"""Promises of workflows: who waits, who is first, who may, and how long they last."""

import pytest

from perdure.partition_processor.records import AttemptChunk, Purge
from perdure.partition_processor.tables.invocations import Failure

from ..covering import covers
from .calls import told
from .frames import entry, result
from .support import Partition, add, answer, frames, greet, identity, workflow

RUN, SHARED = identity(1, "w"), identity(2, "w")


def get(completion_id: int, key: str = "p") -> tuple[int, bytes]:
    """A GET_PROMISE."""
    return entry("GET_PROMISE_COMMAND", key=key, result_completion_id=completion_id)


def peek(completion_id: int, key: str = "p") -> tuple[int, bytes]:
    """A PEEK_PROMISE."""
    return entry("PEEK_PROMISE_COMMAND", key=key, result_completion_id=completion_id)


def complete(completion_id: int, value: bytes = b"1", key: str = "p") -> tuple[int, bytes]:
    """A COMPLETE_PROMISE with a value."""
    return entry(
        "COMPLETE_PROMISE_COMMAND",
        key=key,
        completion_value={"content": value},
        result_completion_id=completion_id,
    )


def workflows() -> Partition:
    """A partition with a workflow's run and one shared handler, both running."""
    partition = Partition()
    partition.apply(workflow(1), workflow(2, handler="look"))
    return partition


@covers("GET_PROMISE_COMMAND", "GET_PROMISE_COMPLETION", "COMPLETE_PROMISE_COMMAND")
def test_all_that_wait_for_a_promise_are_woken_by_the_first_completion() -> None:
    partition = workflows()
    partition.apply(workflow(3, handler="look"))
    assert partition.send(RUN, get(1)) == []
    assert partition.send(identity(3, "w"), get(7), get(8, "other")) == []
    effects = partition.send(SHARED, complete(1, b"5"))

    for waiting, number in ((RUN, 1), (identity(3, "w"), 7)):
        (completed,) = told(effects, waiting)
        assert completed.name == "GET_PROMISE_COMPLETION"
        assert (completed.message.completion_id, result(completed.message)) == (number, b"5")
    (own,) = told(effects, SHARED)
    assert own.name == "COMPLETE_PROMISE_COMPLETION"
    assert result(own.message) is None


@covers("GET_PROMISE_COMMAND", "PEEK_PROMISE_COMMAND", "PEEK_PROMISE_COMPLETION")
def test_a_completed_promise_answers_at_once_and_an_open_one_peeks_as_void() -> None:
    partition = workflows()
    effects = partition.send(SHARED, peek(1), complete(2, b""), peek(3), get(4))

    answers = [(item.name, result(item.message)) for item in told(effects, SHARED)]
    assert answers == [
        ("PEEK_PROMISE_COMPLETION", None),
        ("COMPLETE_PROMISE_COMPLETION", None),
        ("PEEK_PROMISE_COMPLETION", b""),
        ("GET_PROMISE_COMPLETION", b""),
    ]


@covers("COMPLETE_PROMISE_COMMAND", "COMPLETE_PROMISE_COMPLETION")
def test_the_second_completion_of_a_promise_fails_and_changes_nothing() -> None:
    partition = workflows()
    partition.send(SHARED, complete(1, b"first"))
    effects = partition.send(RUN, complete(1, b"second"), peek(2))

    refused, found = told(effects, RUN)
    failure = result(refused.message)
    assert isinstance(failure, Failure)
    assert (failure.code, failure.message) == (409, "promise 'p' is completed already")
    assert result(found.message) == b"first"


@covers("COMPLETE_PROMISE_COMMAND", "GET_PROMISE_COMPLETION")
def test_a_promise_may_be_completed_with_a_failure() -> None:
    partition = workflows()
    partition.send(RUN, get(1))
    failing = entry(
        "COMPLETE_PROMISE_COMMAND",
        key="p",
        completion_failure={
            "code": 418,
            "message": "tea",
            "metadata": [{"key": "a", "value": "b"}],
        },
        result_completion_id=1,
    )
    effects = partition.send(SHARED, failing, peek(2))

    expected = Failure(418, "tea", (("a", "b"),))
    assert result(told(effects, RUN)[0].message) == expected
    assert result(told(effects, SHARED)[1].message) == expected


@covers("COMPLETE_PROMISE_COMMAND")
def test_promises_stand_before_the_run_and_after_it_until_it_is_purged() -> None:
    partition = Partition()
    partition.apply(workflow(2, handler="look"))
    partition.send(SHARED, complete(1, b"early"))
    partition.apply(workflow(1))
    (seen,) = told(partition.send(RUN, get(1)), RUN)
    assert result(seen.message) == b"early"

    partition.apply(answer(RUN))
    (after,) = told(partition.send(SHARED, peek(2)), SHARED)
    assert result(after.message) == b"early"
    partition.apply(Purge(RUN))
    (purged,) = told(partition.send(SHARED, peek(3)), SHARED)
    assert result(purged.message) is None
    assert partition.rows(b"m") == []


@covers("GET_PROMISE_COMMAND")
def test_promises_of_other_keys_and_names_are_others() -> None:
    partition = workflows()
    partition.apply(workflow(3, "v"))
    effects = partition.send(RUN, complete(1, b"1"), peek(2, "q"))
    effects += partition.send(identity(3, "v"), peek(1))

    assert result(told(effects, RUN)[1].message) is None
    assert result(told(effects, identity(3, "v"))[0].message) is None


@covers("COMPLETE_PROMISE_COMMAND")
def test_a_waiter_that_has_ended_in_the_meantime_is_passed_over() -> None:
    partition = workflows()
    partition.send(RUN, get(1))
    partition.apply(answer(RUN))
    before = partition.invocation(RUN)
    effects = partition.send(SHARED, complete(1))

    assert told(effects, RUN) == []
    assert partition.invocation(RUN) == before


@covers("GET_PROMISE_COMMAND", "PEEK_PROMISE_COMMAND", "COMPLETE_PROMISE_COMMAND")
@pytest.mark.parametrize("item", [get(1), peek(1), complete(1)])
def test_only_the_handlers_of_workflows_have_promises(item: tuple[int, bytes]) -> None:
    for command, allowed in (
        (greet(1), False),
        (add(1), False),
        (workflow(1), True),
        (workflow(1, handler="look"), True),
    ):
        partition = Partition()
        partition.apply(command)
        partition.apply(AttemptChunk(command.invocation_id, 1, "dp-1", frames(item)))
        running = partition.status(command.invocation_id) == "running"
        assert running is allowed, command.service
        if not allowed:
            failure = partition.invocation(command.invocation_id).last_failure
            assert failure == "[571] only the handlers of workflows have promises"


@covers("Purge", "GET_PROMISE_COMPLETION")
def test_who_still_waits_for_a_promise_is_told_when_its_workflow_is_purged() -> None:
    partition = workflows()
    partition.send(SHARED, get(1))
    partition.apply(answer(RUN))
    effects = partition.apply(Purge(RUN))

    (gone,) = told(effects, SHARED)
    failure = result(gone.message)
    assert (gone.name, gone.message.completion_id) == ("GET_PROMISE_COMPLETION", 1)
    assert isinstance(failure, Failure)
    assert failure.code == 410
    assert failure.message == "workflow Order/w was purged"
