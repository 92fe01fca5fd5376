"""A replica that has come to other rows than its leader stops, and says at which LSN."""

import pytest

from perdure.log.types import Record
from perdure.partition_processor.digests import MARK_EVERY, MARKS_KEPT
from perdure.partition_processor.effects import DigestMarked
from perdure.partition_processor.machine import RecordFailedError
from perdure.partition_processor.records import (
    KINDS,
    AnnounceLeader,
    Command,
    CompareDigest,
    encode_command,
)

from ..covering import covers
from .support import Partition, greet


def record(command: Command, epoch: int = 3) -> Record:
    return Record(KINDS[type(command)], encode_command(command), (), epoch, None, 0)


def filled(records: int = MARK_EVERY + 10) -> tuple[Partition, list[DigestMarked]]:
    """A partition that has applied so many records, and what it has marked."""
    partition = Partition()
    effects = partition.apply_records([record(greet(number)) for number in range(1, records + 1)])
    return partition, [item for item in effects if isinstance(item, DigestMarked)]


@covers("CompareDigest")
def test_who_agrees_goes_on_and_nothing_changes() -> None:
    partition, [marked] = filled()
    assert marked.lsn == MARK_EVERY
    rows = partition.content()

    assert partition.apply(CompareDigest(marked.lsn, marked.digest)) == []
    changed = {key for key, value in partition.content().items() if rows.get(key) != value}
    assert changed == {partition.progress_row}


@covers("CompareDigest")
def test_who_had_another_digest_stops_there() -> None:
    partition, [marked] = filled()
    with pytest.raises(RecordFailedError, match=f"after LSN {MARK_EVERY} its digest is"):
        partition.apply(CompareDigest(marked.lsn, bytes(16)))


@covers("CompareDigest")
def test_what_is_not_remembered_is_not_compared() -> None:
    partition, [marked] = filled()
    partition.apply(CompareDigest(marked.lsn + 1, bytes(16)))
    partition.reopen()
    partition.apply(CompareDigest(marked.lsn, bytes(16)))


def test_digests_that_are_long_past_are_forgotten() -> None:
    partition, marks = filled(MARK_EVERY * (MARKS_KEPT + 2))
    assert len(marks) == MARKS_KEPT + 2
    assert sorted(partition.machine.context.digests) == [item.lsn for item in marks[2:]]


@covers("AnnounceLeader")
def test_an_announcement_compares_what_was_before_it() -> None:
    partition, _ = filled(3)
    progress = partition.machine.progress()
    announced = AnnounceLeader("b", 4, (), progress.applied_lsn, progress.digest)
    assert partition.machine.announcement("b", 4) == announced
    partition.apply(announced, epoch=4)

    lsn = partition.machine.progress().applied_lsn
    with pytest.raises(RecordFailedError, match=f"after LSN {lsn} its digest is"):
        partition.apply(AnnounceLeader("c", 5, (), lsn, bytes(16)), epoch=5)
    # Of what else was applied meanwhile, nothing is said.
    partition.apply(AnnounceLeader("c", 6, (), lsn - 1, bytes(16)), epoch=6)
