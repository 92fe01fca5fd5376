"""How a handler's invocations are handled: handler before service before node, and what follows."""

from typing import Any

import pytest

from perdure.core.protocol.session import NO_OPTIONS, HandlingOptions
from perdure.core.random import SeededRandom
from perdure.core.retry import RetryPolicy
from perdure.partition_processor.handling import (
    Handling,
    HandlingDefaults,
    resolve_handling,
)
from perdure.partition_processor.invoker.attempt import WorkerLoss
from perdure.partition_processor.invoker.attempt_frames import AttemptError, Behavior
from perdure.partition_processor.next_attempt import NextAttempt, next_attempt
from perdure.partition_processor.tables.invocations import STATUS_RUNNING, Invocation

from ..covering import covers

MS = 1_000_000
DEFAULTS = HandlingDefaults(
    retry=RetryPolicy(1_000 * MS, 3.0, 9_000 * MS, 4, 0.0),
    pause_when_exhausted=True,
    inactivity_timeout_ns=1,
    abort_timeout_ns=2,
    plain_retention_ns=3,
    journal_retention_ns=4,
    idempotency_retention_ns=5,
    workflow_retention_ns=6,
)

OPTIONS: list[tuple[str, Any, str, Any, Any]] = [
    ("inactivity_timeout", 7, "inactivity_timeout_ns", 7 * MS, 1),
    ("abort_timeout", 7, "abort_timeout_ns", 7 * MS, 2),
    ("idempotency_retention", 7, "completion_retention_ns", 7 * MS, 5),
    ("journal_retention", 7, "journal_retention_ns", 7 * MS, 4),
    ("enable_lazy_state", True, "lazy_state", True, False),
    ("retry_policy_on_max_attempts", "KILL", "pause_when_exhausted", False, True),
    ("inactivity_timeout", 0, "inactivity_timeout_ns", 0, 1),
    ("journal_retention", 0, "plain_retention_ns", 0, 3),
]
RETRY: list[tuple[str, Any, str, Any, Any]] = [
    ("retry_policy_initial_interval", 7, "initial_interval_ns", 7 * MS, 1_000 * MS),
    ("retry_policy_max_interval", 7, "interval_max_ns", 7 * MS, 9_000 * MS),
    ("retry_policy_max_attempts", 7, "attempts_max", 7, 4),
    ("retry_policy_exponentiation_factor", 1.5, "factor", 1.5, 3.0),
]


def resolve(handler: HandlingOptions, service: HandlingOptions) -> Handling:
    """With the defaults above."""
    return resolve_handling(handler, service, DEFAULTS, workflow_run=False)


@pytest.mark.parametrize(("option", "value", "field", "expected", "default"), OPTIONS + RETRY)
def test_a_handler_is_asked_before_its_service_and_that_before_the_node(
    option: str, value: Any, field: str, expected: Any, default: Any
) -> None:
    said = HandlingOptions(**{option: value})
    other: Any = {
        bool: False,
        int: 99,
        float: 9.0,
        str: "PAUSE",
    }[type(value)]
    otherwise = HandlingOptions(**{option: other})

    def found(handler: HandlingOptions, service: HandlingOptions) -> Any:
        handling = resolve(handler, service)
        retry = any(field == name for _, _, name, _, _ in RETRY)
        return getattr(handling.retry if retry else handling, field)

    assert found(NO_OPTIONS, NO_OPTIONS) == default
    assert found(NO_OPTIONS, said) == expected
    assert found(said, NO_OPTIONS) == expected
    assert found(said, otherwise) == expected
    assert found(otherwise, said) != expected


def test_an_unknown_word_about_the_last_attempt_loses_nothing() -> None:
    for word, pauses in (("PAUSE", True), ("KILL", False), ("kill?", True)):
        said = HandlingOptions(retry_policy_on_max_attempts=word)
        assert resolve(said, NO_OPTIONS).pause_when_exhausted is pauses


def test_the_run_of_a_workflow_is_kept_by_the_option_that_is_its_own() -> None:
    said = HandlingOptions(idempotency_retention=7, workflow_completion_retention=8)
    run = resolve_handling(NO_OPTIONS, said, DEFAULTS, workflow_run=True)
    other = resolve_handling(NO_OPTIONS, said, DEFAULTS, workflow_run=False)
    unsaid = resolve_handling(NO_OPTIONS, NO_OPTIONS, DEFAULTS, workflow_run=True)

    assert run.completion_retention_ns == 8 * MS
    assert other.completion_retention_ns == 7 * MS
    assert unsaid.completion_retention_ns == 6


def test_calls_that_can_be_known_again_are_kept_longer_than_plain_ones() -> None:
    handling = resolve(NO_OPTIONS, NO_OPTIONS)

    assert handling.retentions_ns(known_again=True) == (5, 4)
    assert handling.retentions_ns(known_again=False) == (3, 3)


def test_a_handler_is_private_where_it_or_its_service_says_so() -> None:
    private, public = HandlingOptions(ingress_private=True), HandlingOptions(ingress_private=False)
    for handler, service, expected in (
        (NO_OPTIONS, NO_OPTIONS, False),
        (private, NO_OPTIONS, True),
        (NO_OPTIONS, private, True),
        (public, private, True),
        (private, public, True),
        (public, public, False),
    ):
        assert resolve(handler, service).private is expected


def invocation(*, counted: int = 0, since_entry: int = 0) -> Invocation:
    """One that has failed so often before."""
    return Invocation(
        STATUS_RUNNING,
        "Greeter",
        "greet",
        None,
        0,
        1,
        0,
        1,
        (),
        failed_attempts=counted,
        failures_since_entry=since_entry,
    )


def following(
    error: AttemptError,
    lost: WorkerLoss | None = None,
    *,
    counted: int = 0,
    since_entry: int = 0,
    options: HandlingOptions = NO_OPTIONS,
) -> NextAttempt:
    """What follows a failure, by a policy of 4 attempts: 1 s, 3 s, 9 s."""
    return next_attempt(
        invocation(counted=counted, since_entry=since_entry),
        error,
        lost,
        resolve(NO_OPTIONS, options),
        SeededRandom(1),
    )


ERROR = AttemptError(500, "boom")


@covers("ERROR", "AttemptFailed")
def test_waits_grow_by_the_policy_until_the_attempts_are_used_up() -> None:
    delays = [following(ERROR, counted=counted) for counted in range(4)]

    assert [item.delay_ns for item in delays] == [1_000 * MS, 3_000 * MS, 9_000 * MS, None]
    assert [item.pause for item in delays] == [False, False, False, True]
    assert all(item.counts for item in delays)


@covers("ERROR", "AttemptFailed")
def test_the_last_failure_pauses_or_ends_the_invocation() -> None:
    kill = HandlingOptions(retry_policy_on_max_attempts="KILL")
    once = HandlingOptions(retry_policy_max_attempts=1)

    assert following(ERROR, counted=3, options=kill) == NextAttempt(None, True, False)
    assert following(ERROR, options=once) == NextAttempt(None, True, True)


@covers("ERROR", "AttemptFailed")
@pytest.mark.parametrize("counted", [0, 50])
def test_what_the_code_asks_for_stands_before_the_policy(counted: int) -> None:
    delayed = AttemptError(500, "boom", delay_ns=7)
    paused = AttemptError(500, "boom", behavior=Behavior.PAUSE)
    failed = AttemptError(500, "boom", behavior=Behavior.FAIL)
    failed_and_delayed = AttemptError(500, "boom", delay_ns=7, behavior=Behavior.FAIL)

    assert following(delayed, counted=counted) == NextAttempt(7, False)
    assert following(paused, counted=counted) == NextAttempt(None, True, True)
    assert following(failed, counted=counted) == NextAttempt(None, True, False)
    assert following(failed_and_delayed, counted=counted) == NextAttempt(None, False, False)


@covers("AttemptFailed")
def test_a_worker_that_went_away_is_replaced_at_once_but_not_for_ever() -> None:
    for lost, counts in ((WorkerLoss.ALONE, True), (WorkerLoss.WITH_OTHERS, False)):
        assert following(ERROR, lost) == NextAttempt(0, counts)
        assert following(ERROR, lost, since_entry=2).delay_ns == 3_000 * MS
        assert following(ERROR, lost, since_entry=500).delay_ns == 9_000 * MS

    assert following(ERROR, WorkerLoss.ALONE, counted=3) == NextAttempt(None, True, True)
    assert following(ERROR, WorkerLoss.WITH_OTHERS, counted=3) == NextAttempt(0, False)
