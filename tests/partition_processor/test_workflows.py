"""Workflows: one run per key, and a free key once it is purged."""

from perdure.partition_processor.effects import Accepted, StartAttempt
from perdure.partition_processor.records import Purge, PurgeExpired
from perdure.partition_processor.tables.invocations import STATUS_COMPLETED, STATUS_RUNNING

from ..covering import covers
from .frames import entry
from .support import Partition, answer, identity, set_state, workflow

RUN, SHARED = identity(1, "w"), identity(2, "w")
COMPLETE = entry(
    "COMPLETE_PROMISE_COMMAND",
    key="p",
    completion_value={"content": b"1"},
    result_completion_id=1,
)


@covers("Invoke")
def test_a_second_run_of_a_key_is_known_while_it_runs_and_after() -> None:
    partition = Partition()
    partition.apply(workflow(1))
    (while_running,) = partition.apply(workflow(1))
    partition.apply(answer(RUN))
    (after,) = partition.apply(workflow(1))

    assert isinstance(while_running, Accepted)
    assert while_running.known is not None
    assert while_running.known.status == STATUS_RUNNING
    assert isinstance(after, Accepted)
    assert after.known is not None
    assert after.known.status == STATUS_COMPLETED


@covers("Invoke")
def test_shared_handlers_run_before_beside_and_after_the_run() -> None:
    partition = Partition()
    partition.apply(workflow(2, handler="look"), workflow(1), workflow(3, handler="look"))
    assert partition.counts() == {"running": 3}
    partition.apply(answer(RUN))
    effects = partition.apply(workflow(4, handler="look"))

    assert isinstance(effects[1], StartAttempt)


@covers("Purge", "PurgeExpired", "CLEAR_ALL_STATE_COMMAND")
def test_purging_the_run_frees_the_key_and_takes_state_and_promises_with_it() -> None:
    for forget in (Purge(RUN), PurgeExpired(1 << 62, 10)):
        partition = Partition()
        partition.apply(workflow(1), workflow(5, "v"))
        partition.send(identity(5, "v"), set_state(b"a", b"other"), COMPLETE)
        partition.send(RUN, set_state(b"a", b"1"), COMPLETE)
        partition.apply(answer(RUN, set_state(b"b", b"2")))
        assert len(partition.rows(b"s")) == 3
        partition.apply(forget)

        assert partition.status(RUN) == "unknown"
        others = partition.rows(b"smx")
        assert [key[1:9] for key in others] == [identity(5, "v")[:8]] * len(others)
        assert len(others) == 2
        accepted, started = partition.apply(workflow(1))
        assert isinstance(accepted, Accepted)
        assert accepted.known is None
        assert isinstance(started, StartAttempt)
        assert started.invocation.attempt == 1


@covers("PurgeExpired")
def test_purging_a_shared_handler_leaves_state_and_promises_alone() -> None:
    partition = Partition()
    partition.apply(workflow(1), workflow(2, handler="look"))
    partition.send(RUN, set_state(b"a", b"1"), COMPLETE)
    partition.apply(answer(SHARED))
    partition.apply(PurgeExpired(1 << 62, 10))

    assert partition.status(SHARED) == "unknown"
    assert len(partition.rows(b"sm")) == 2
