"""Attaching to invocations and looking at their output, by id, by idempotency key, by workflow."""

from typing import Any

import pytest

from perdure.core.hashing import idempotent_invocation_id, workflow_invocation_id
from perdure.core.ids import InvocationId
from perdure.ingress.dispatcher import input_frame
from perdure.partition_processor.records import (
    KIND_SERVICE,
    KIND_WORKFLOW_RUN,
    Invoke,
    Purge,
)
from perdure.partition_processor.tables.invocations import Failure

from ..covering import covers
from .calls import text, told
from .frames import entry, result
from .support import END, Partition, answer, failing_output, greet, identity

ONE, TWO = identity(1), identity(2)


def attach(completion_id: int = 1, **target: Any) -> tuple[int, bytes]:
    """An ATTACH_INVOCATION."""
    return entry("ATTACH_INVOCATION_COMMAND", result_completion_id=completion_id, **target)


def look(completion_id: int = 1, **target: Any) -> tuple[int, bytes]:
    """A GET_INVOCATION_OUTPUT."""
    return entry("GET_INVOCATION_OUTPUT_COMMAND", result_completion_id=completion_id, **target)


def two() -> Partition:
    """A partition with two invocations, which run."""
    partition = Partition()
    partition.apply(greet(1), greet(2))
    return partition


@covers("ATTACH_INVOCATION_COMMAND", "ATTACH_INVOCATION_COMPLETION", "Attach")
def test_attaching_waits_for_the_result_of_what_runs() -> None:
    partition = two()
    assert partition.send(ONE, attach(invocation_id=text(2))) == []
    effects = partition.apply(answer(TWO))

    (completed,) = told(effects, ONE)
    assert (completed.name, completed.message.completion_id) == ("ATTACH_INVOCATION_COMPLETION", 1)
    assert result(completed.message) == b'"ok"'


@covers("GET_INVOCATION_OUTPUT_COMMAND", "GET_INVOCATION_OUTPUT_COMPLETION", "Attach")
def test_looking_at_what_runs_finds_nothing_yet_and_does_not_wait() -> None:
    partition = two()
    (found,) = told(partition.send(ONE, look(invocation_id=text(2))), ONE)
    assert (found.name, result(found.message)) == ("GET_INVOCATION_OUTPUT_COMPLETION", None)

    assert told(partition.apply(answer(TWO)), ONE) == []


@covers("ATTACH_INVOCATION_COMMAND", "GET_INVOCATION_OUTPUT_COMMAND", "Attach")
@pytest.mark.parametrize("failed", [False, True])
def test_both_answer_at_once_about_what_has_completed(failed: bool) -> None:
    partition = two()
    if failed:
        partition.send(TWO, failing_output(418, "tea"), END)
    else:
        partition.apply(answer(TWO))
    effects = partition.send(ONE, attach(1, invocation_id=text(2)), look(2, invocation_id=text(2)))

    answers = [result(item.message) for item in told(effects, ONE)]
    assert answers == [Failure(418, "tea") if failed else b'"ok"'] * 2


@covers("ATTACH_INVOCATION_COMMAND", "GET_INVOCATION_OUTPUT_COMMAND", "Attach")
def test_both_answer_404_about_what_nobody_knows_or_was_purged() -> None:
    partition = two()
    partition.apply(answer(TWO))
    partition.apply(Purge(TWO))
    effects = partition.send(
        ONE,
        attach(1, invocation_id=text(2)),
        look(2, invocation_id=text(2)),
        attach(3, workflow_target={"workflow_name": "Order", "workflow_key": "w"}),
    )

    assert [result(item.message) for item in told(effects, ONE)] == [Failure(404, "not found")] * 3


def known(
    invocation_id: InvocationId, service: str, handler: str, kind: int, key: str | None
) -> Invoke:
    """An invocation with a derived id."""
    return Invoke(invocation_id, service, handler, key, kind, input_frame(b"", b"1"))


@covers("ATTACH_INVOCATION_COMMAND", "GET_INVOCATION_OUTPUT_COMMAND")
def test_a_workflow_and_an_idempotency_key_name_their_invocation() -> None:
    run = workflow_invocation_id("Order", "w")
    unkeyed = idempotent_invocation_id("Greeter", None, "greet", "once")
    keyed = idempotent_invocation_id("Counter", "k", "add", "once")
    targets: list[tuple[InvocationId, dict[str, Any]]] = [
        (run, {"workflow_target": {"workflow_name": "Order", "workflow_key": "w"}}),
        (
            unkeyed,
            {
                "idempotent_request_target": {
                    "service_name": "Greeter",
                    "handler_name": "greet",
                    "idempotency_key": "once",
                }
            },
        ),
        (
            keyed,
            {
                "idempotent_request_target": {
                    "service_name": "Counter",
                    "service_key": "k",
                    "handler_name": "add",
                    "idempotency_key": "once",
                }
            },
        ),
    ]
    for target, fields in targets:
        partition = two()
        kind = KIND_WORKFLOW_RUN if target == run else KIND_SERVICE
        partition.apply(known(target, "Order", "run", kind, "w"))
        (found,) = told(partition.send(ONE, look(1, **fields)), ONE)
        assert result(found.message) is None
        partition.send(ONE, attach(2, **fields))
        (completed,) = told(partition.apply(answer(target)), ONE)
        assert result(completed.message) == b'"ok"'


@covers("ATTACH_INVOCATION_COMMAND", "GET_INVOCATION_OUTPUT_COMMAND")
@pytest.mark.parametrize(
    "item",
    [
        attach(),
        look(),
        attach(invocation_id=""),
        look(invocation_id="inv_1"),
        attach(invocation_id="sign_1" + "A" * 38),
        look(invocation_id="x" * 100_000),
    ],
)
def test_a_target_that_is_missing_or_malformed_fails_the_attempt(item: tuple[int, bytes]) -> None:
    partition = two()
    partition.send(ONE, item)

    assert partition.status(ONE) == "backing-off"
    failure = partition.invocation(ONE).last_failure
    assert failure is not None
    assert failure.startswith("[571] ")
    assert len(failure) < 400
