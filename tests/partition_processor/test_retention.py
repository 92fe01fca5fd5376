"""How long what has completed is kept: results, journals, and nothing at all."""

import msgspec

from perdure.core.ids import InvocationId
from perdure.partition_processor.commands.purge_expired import PURGED_MAX
from perdure.partition_processor.effects import Answer
from perdure.partition_processor.records import Invoke, PurgeExpired
from perdure.partition_processor.tables import keys

from ..covering import covers
from .support import Partition, add, answer, greet, identity, set_state, workflow

ONE = identity(1)


def kept_for(command: Invoke, completion_ns: int, journal_ns: int) -> Invoke:
    """The same, with these retentions."""
    return msgspec.structs.replace(
        command, completion_retention_ns=completion_ns, journal_retention_ns=journal_ns
    )


def completed(completion_ns: int, journal_ns: int) -> Partition:
    """A partition with an invocation that completed at 1 000 ns."""
    partition = Partition()
    partition.apply(kept_for(greet(1), completion_ns, journal_ns))
    partition.apply(answer(ONE), time_ns=1_000)
    return partition


def expiry(partition: Partition) -> list[tuple[int, InvocationId]]:
    """When what is to be forgotten."""
    return [keys.read_expiry_row(row) for row in sorted(partition.rows(b"x"))]


@covers("Invoke")
def test_a_result_that_is_kept_for_no_time_is_answered_and_gone() -> None:
    partition = Partition()
    partition.apply(kept_for(greet(1), 0, 0))
    effects = partition.apply(answer(ONE))

    (answered,) = [item for item in effects if isinstance(item, Answer)]
    assert answered.invocation.output == b'"ok"'
    assert [key[:1] for key in partition.content()] == [b"p"]
    assert partition.counts() == {}


@covers("Invoke")
def test_an_object_or_workflow_without_retention_leaves_what_it_has_to() -> None:
    partition = Partition()
    partition.apply(kept_for(add(1), 0, 0), add(2), kept_for(workflow(3), 0, 0))
    partition.apply(answer(identity(1, "k"), set_state(b"a", b"1")))
    assert partition.status(identity(2, "k")) == "running"
    assert len(partition.rows(b"s")) == 1

    partition.apply(answer(identity(3, "w"), set_state(b"a", b"1")))
    assert len(partition.rows(b"s")) == 1
    assert partition.counts() == {"running": 1}


@covers("Invoke")
def test_a_journal_is_never_kept_longer_than_the_result() -> None:
    partition = completed(5_000, 9_000)

    assert partition.invocation(ONE).journal_retention_ns == 5_000
    assert expiry(partition) == [(6_000, ONE)]


@covers("PurgeExpired")
def test_a_journal_may_go_before_the_result_and_the_result_after() -> None:
    partition = completed(5_000, 2_000)
    assert expiry(partition) == [(3_000, ONE), (6_000, ONE)]
    partition.apply(PurgeExpired(3_000, 10))
    assert len(partition.journal(ONE)) == 2

    partition.apply(PurgeExpired(3_001, 10))
    invocation = partition.invocation(ONE)
    assert (invocation.head, invocation.entries, invocation.output) == ((), 0, b'"ok"')
    assert expiry(partition) == [(6_000, ONE)]
    assert partition.counts() == {"completed": 1}

    partition.apply(PurgeExpired(6_001, 10))
    assert [key[:1] for key in partition.content()] == [b"p"]
    assert partition.counts() == {}


@covers("PurgeExpired")
def test_no_journal_at_all_may_be_kept_with_the_result() -> None:
    partition = completed(5_000, 0)

    assert expiry(partition) == [(6_000, ONE)]
    assert partition.invocation(ONE).entries == 0
    assert partition.invocation(ONE).output == b'"ok"'


@covers("PurgeExpired")
def test_one_record_purges_so_many_and_no_more_the_oldest_first() -> None:
    partition = Partition()
    many = PURGED_MAX + 100
    partition.apply(*(kept_for(greet(number), 5_000, 5_000) for number in range(many)))
    for number in range(many):
        partition.apply(answer(identity(number)), time_ns=1_000 + number)
    partition.apply(PurgeExpired(1 << 62, 10))
    assert partition.counts() == {"completed": many - 10}
    assert partition.status(identity(9)) == "unknown"
    assert partition.status(identity(10)) == "completed"

    partition.apply(PurgeExpired(1 << 62, 1 << 40))
    assert partition.counts() == {"completed": many - 10 - PURGED_MAX}
    partition.apply(PurgeExpired(1 << 62, 0), PurgeExpired(1 << 62, -3))
    assert partition.counts() == {"completed": many - 10 - PURGED_MAX}


@covers("PurgeExpired")
def test_a_purge_starts_where_it_is_told_to() -> None:
    partition = completed(5_000, 5_000)
    partition.apply(PurgeExpired(1 << 62, 10, from_ns=6_001))
    assert partition.status(ONE) == "completed"
    partition.apply(PurgeExpired(1 << 62, 10, from_ns=6_000))
    assert partition.status(ONE) == "unknown"


@covers("PurgeExpired")
def test_a_purge_of_nothing_changes_nothing() -> None:
    partition = completed(5_000, 5_000)
    before = partition.digest
    assert partition.apply(PurgeExpired(6_000, 10), PurgeExpired(-5, 10)) == []

    assert partition.digest == before
