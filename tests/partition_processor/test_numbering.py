"""A leader numbers its records: copies, gaps and those of an earlier leader count for nothing."""

from perdure.log.types import Record
from perdure.partition_processor.effects import Accepted, Effect, LeaderAnnounced
from perdure.partition_processor.records import (
    KINDS,
    AnnounceLeader,
    Command,
    encode_command,
)

from ..covering import covers
from .support import Partition, greet, identity


def numbered(partition: Partition, sequence: int, command: Command, epoch: int = 3) -> list[Effect]:
    """Apply a record that a leader has numbered."""
    kind = KINDS[type(command)]
    record = Record(kind, encode_command(command), (), epoch, None, sequence)
    return partition.apply_records([record])


def led() -> Partition:
    """A partition whose leader of epoch 3 has announced itself, as its record 1."""
    partition = Partition()
    assert numbered(partition, 1, AnnounceLeader("a", 1)) == [LeaderAnnounced(3)]
    return partition


@covers("AnnounceLeader")
def test_a_leaders_records_count_once_and_in_their_order() -> None:
    partition = led()
    (accepted, _) = numbered(partition, 2, greet(1))
    assert isinstance(accepted, Accepted)
    assert (accepted.epoch, accepted.sequence) == (3, 2)
    before = partition.digest
    assert numbered(partition, 2, greet(2)) == []
    assert numbered(partition, 1, greet(3)) == []
    assert numbered(partition, 4, greet(4)) == []

    assert partition.digest == before
    assert partition.counts() == {"running": 1}
    assert partition.machine.progress().applied_lsn == 5
    assert len(numbered(partition, 3, greet(5))) == 2


@covers("AnnounceLeader")
def test_a_restart_in_between_forgets_no_number() -> None:
    partition = led()
    numbered(partition, 2, greet(1))
    partition.reopen()
    assert partition.machine.progress().sequence == 2
    assert numbered(partition, 2, greet(2)) == []

    assert len(numbered(partition, 3, greet(2))) == 2


@covers("AnnounceLeader")
def test_the_next_leader_begins_with_a_number_of_its_own() -> None:
    partition = led()
    numbered(partition, 2, greet(1))
    assert numbered(partition, 1, AnnounceLeader("b", 1), epoch=5) == [LeaderAnnounced(5)]
    assert numbered(partition, 3, greet(2)) == []

    assert len(numbered(partition, 2, greet(2), epoch=5)) == 2
    assert partition.status(identity(2)) == "running"


def test_records_without_a_number_and_those_of_other_producers_always_count() -> None:
    partition = led()
    for number in (7, 8):
        record = Record(KINDS[type(greet(1))], encode_command(greet(number)), (), 3, None, 0)
        assert len(partition.apply_records([record])) == 2
    body = encode_command(greet(9))
    foreign = Record(KINDS[type(greet(1))], body, (), 3, b"p" * 16, 99)
    assert len(partition.apply_records([foreign])) == 2

    assert partition.machine.progress().sequence == 1
    assert len(numbered(partition, 2, greet(10))) == 2
