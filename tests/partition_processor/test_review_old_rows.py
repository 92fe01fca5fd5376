"""Rows that an earlier release left, and bodies that nobody had looked into, stop nobody."""

from perdure.core.protocol import messages
from perdure.partition_processor import outcomes
from perdure.partition_processor.pending import pending_effects
from perdure.partition_processor.records import Kill, Purge, Restart
from perdure.partition_processor.tables import keys

from .support import END, OUTPUT_OK, Partition, add, answer, greet, identity

DAY_NS = 24 * 3600 * 10**9


def test_a_mark_that_an_earlier_release_gave_a_pending_invocation_goes_with_it() -> None:
    partition = Partition()
    partition.apply(add(1), add(2))
    assert partition.status(identity(2, "k")) == "pending"
    # That release marked everything that had not completed.
    partition.store.write([(keys.ACTIVE + identity(2, "k"), b"")])
    partition.operate(Kill(identity(2, "k")))
    partition.operate(Purge(identity(2, "k")))
    partition.reopen()
    starts = pending_effects(partition.transaction, partition.own)
    assert [item.invocation_id for item in starts] == [identity(1, "k")]
    assert partition.rows(keys.ACTIVE) == [keys.ACTIVE + identity(1, "k")]


def test_a_step_whose_body_does_not_parse_stops_no_restart() -> None:
    partition = Partition()
    partition.apply(greet(1))
    partition.send(identity(1), (messages.RUN_COMMAND, b"\xff\xff"), OUTPUT_OK, END)
    assert partition.status(identity(1)) == "completed"
    command = Restart(identity(1), identity(2), 9, None, DAY_NS, DAY_NS)
    outcome, _ = partition.operate(command)
    assert outcome == outcomes.DONE
    assert [item.name for item in partition.journal(identity(2))] == ["INPUT_COMMAND"]
    partition.apply(answer(identity(2)))
    assert partition.status(identity(2)) == "completed"
