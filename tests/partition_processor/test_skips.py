"""Records that a partition goes on without: what is skipped, what counts behind it, who decides."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from perdure.core.ids import PartitionId
from perdure.core.storage.memory import MemoryStore
from perdure.log.types import Record
from perdure.metadata.memory import MemoryMetadataStore
from perdure.partition_processor.leadership import (
    LeaderClaim,
    add_skip,
    claim_leadership,
    read_claim,
)
from perdure.partition_processor.machine import RecordFailedError
from perdure.partition_processor.processor import PartitionProcessor
from perdure.partition_processor.records import (
    KINDS,
    AnnounceLeader,
    Command,
    encode_command,
)
from perdure.partition_processor.skipping import KnownElsewhere, SkipRefusedError, skip_record
from perdure.partition_processor.skips import SKIPS_MAX, SkipMissedError, skipped
from perdure.partition_processor.tables.skipped import Skip

from .support import Partition, greet, identity

P: Any = PartitionId(0)
POISON = Record(99, b"", (), 3, None, 3)


def skip_of(lsn: int, by: str = "ann") -> Skip:
    return Skip(lsn, "kind 99", "KeyError: 99", by, "n1", 5)


def numbered(sequence: int, command: Command, epoch: int = 3) -> Record:
    return Record(KINDS[type(command)], encode_command(command), (), epoch, None, sequence)


def parked(*behind: Record) -> Partition:
    """Parked at LSN 3: an announcement and an invocation are before it, and this is behind."""
    partition = Partition()
    partition.apply_records([numbered(1, AnnounceLeader("a", 1)), numbered(2, greet(1))])
    with pytest.raises(RecordFailedError, match="LSN 3"):
        partition.apply_records([POISON, *behind])
    return partition


def go_on(partition: Partition, skips: Sequence[Skip], *records: Record) -> None:
    """Begin anew from the store, as a parked partition does once it was decided."""
    partition.reopen()
    partition.machine.know_skips(skips)
    partition.apply_records(list(records))


def test_a_skipped_record_and_what_its_leader_numbered_behind_it_count_for_nothing() -> None:
    behind = [numbered(4, greet(2)), numbered(5, greet(3))]
    partition = parked(*behind)
    before = {key: value for key, value in partition.content().items() if key[:1] != b"p"}
    go_on(partition, [skip_of(3)], POISON, *behind)
    after = {key: value for key, value in partition.content().items() if key[:1] not in b"pk"}

    assert after == before
    assert partition.machine.progress().applied_lsn == 5
    assert skipped(partition.transaction, bytes(8)) == [skip_of(3)]
    # A copy of the record comes late, or of one behind it.
    partition.apply_records([POISON, *behind])
    assert partition.machine.progress().applied_lsn == 8
    # The next leader begins anew.
    partition.apply_records(
        [numbered(1, AnnounceLeader("b", 1, (3,)), 4), numbered(2, greet(2), 4)]
    )
    assert partition.status(identity(2)) == "running"


def test_a_skipped_announcement_leads_nobody_and_ends_the_leader_before() -> None:
    partition = Partition()
    partition.apply_records([numbered(1, AnnounceLeader("a", 1))])
    bad = Record(KINDS[AnnounceLeader], b"\xc1", (), 4, None, 1)
    with pytest.raises(RecordFailedError):
        partition.apply_records([bad])
    go_on(partition, [skip_of(2)], bad, numbered(2, greet(1), 4), numbered(2, greet(2), 3))

    assert partition.counts() == {}
    assert partition.machine.progress().applied_lsn == 4


def test_records_without_a_number_count_behind_a_skipped_one() -> None:
    partition = parked()
    record = Record(KINDS[type(greet(1))], encode_command(greet(7)), (), 3, None, 0)
    go_on(partition, [skip_of(3)], POISON, record)

    assert partition.status(identity(7)) == "running"


def test_replicas_agree_whatever_came_together_and_whoever_came_later() -> None:
    behind = [numbered(4, greet(2)), numbered(1, AnnounceLeader("b", 1, (3,)), 4)]
    one = parked(*behind)
    go_on(one, [skip_of(3)], POISON)
    one.apply_records(behind)
    # One that has the decision before it comes to the record, and all of it in one batch.
    late = Partition()
    late.machine.know_skips([skip_of(3)])
    late.apply_records(
        [numbered(1, AnnounceLeader("a", 1)), numbered(2, greet(1)), POISON, *behind]
    )
    # One that is filled with the rows of another.
    store = MemoryStore()
    store.write(list(one.content().items()))
    filled = Partition(store)
    filled.machine.know_skips([skip_of(3)])

    assert late.content() == one.content() == filled.content()
    assert late.digest == one.digest == filled.digest


def test_whoever_skips_otherwise_has_another_digest() -> None:
    one, other = parked(), parked()
    go_on(one, [skip_of(3)], POISON)
    go_on(other, [skip_of(3, by="bob")], POISON)

    assert one.digest != other.digest


def test_who_has_applied_what_was_to_be_skipped_does_not_go_on() -> None:
    partition = Partition()
    partition.apply(greet(1))
    partition.apply(greet(2))
    with pytest.raises(SkipMissedError, match="perdure partitions refill 0"):
        partition.machine.know_skips([skip_of(2)])
    # Nor where it hears of the decision from the log alone.
    with pytest.raises(RecordFailedError, match="was to go on without the record at LSN 2"):
        partition.apply_records([numbered(1, AnnounceLeader("b", 1, (2,)), 4)])


def test_announcements_of_older_releases_are_read() -> None:
    body = msgspec.msgpack.encode(["n1", 3])
    assert msgspec.msgpack.decode(body, type=AnnounceLeader) == AnnounceLeader("n1", 3)


# Deciding ----------------------------------------------------------------------------------------


def processor(parked_lsn: int = 0, **fields: Any) -> PartitionProcessor:
    """As much of a processor as the checks look at."""
    stopped = None if not parked_lsn else RecordFailedError(parked_lsn, POISON, KeyError(99))
    known: dict[str, Any] = {"partition": P, "parked": stopped, "error": "", "role": "leader"}
    return cast("PartitionProcessor", SimpleNamespace(**{**known, **fields}))


async def decide(
    store: MemoryMetadataStore,
    at: PartitionProcessor,
    *,
    lsn: int = 3,
    elsewhere: dict[str, int] | None = None,
    archived_lsn: int = 0,
    accept_loss: bool = False,
    dry_run: bool = False,
    by: str = "ann",
) -> tuple[Skip, bool]:
    return await skip_record(
        store,
        at,
        skip_of(lsn, by),
        elsewhere=KnownElsewhere(elsewhere or {}, archived_lsn),
        accept_loss=accept_loss,
        dry_run=dry_run,
    )


@pytest.mark.parametrize(
    ("at", "how", "why"),
    [
        (processor(), {}, "is not parked on n1: it is leader"),
        (processor(error="PD0924 nothing"), {}, "it has stopped: PD0924 nothing"),
        (processor(4), {}, "parked at LSN 4 on n1, not at 3"),
        (processor(3), {"elsewhere": {"n2": 3, "n3": 2}}, "node n2 has applied the record"),
        (processor(3), {"archived_lsn": 3}, "a snapshot of partition 0 has the record"),
    ],
)
def test_a_skip_is_refused_with_the_reason_and_nothing_is_decided(
    at: PartitionProcessor, how: dict[str, Any], why: str
) -> None:
    async def scenario() -> None:
        store = MemoryMetadataStore()
        await claim_leadership(store, P, "n1")
        for accept_loss in (False, True):
            with pytest.raises(SkipRefusedError, match=why):
                await decide(store, at, accept_loss=accept_loss, **how)
        assert await read_claim(store, P) == LeaderClaim(1, "n1")

    asyncio.run(scenario())


def test_what_the_last_leader_may_have_acknowledged_has_to_be_given_up_in_words() -> None:
    async def scenario() -> None:
        store = MemoryMetadataStore()
        await claim_leadership(store, P, "n2")
        with pytest.raises(SkipRefusedError, match=r"n2 took the lead .* and does not tell"):
            await decide(store, processor(3), elsewhere={"n3": 2})
        await decide(store, processor(3), elsewhere={"n2": 2}, dry_run=True)
        skip, _ = await decide(store, processor(3), accept_loss=True)
        assert await read_claim(store, P) == LeaderClaim(1, "n2", (skip,))

    asyncio.run(scenario())


def test_a_decision_is_made_once_and_outlives_those_who_lead() -> None:
    async def scenario() -> None:
        store = MemoryMetadataStore()
        await claim_leadership(store, P, "n1")
        assert await decide(store, processor(3), dry_run=True) == (skip_of(3), False)
        assert await read_claim(store, P) == LeaderClaim(1, "n1")
        assert await decide(store, processor(3)) == (skip_of(3), False)
        # The answer was lost, or two gave the same command.
        assert await decide(store, processor(3), by="bob") == (skip_of(3), True)
        assert await decide(store, processor(), dry_run=True) == (skip_of(3), True)
        assert await claim_leadership(store, P, "n2") == LeaderClaim(2, "n2", (skip_of(3),))
        assert await decide(store, processor(2), lsn=2, accept_loss=True) == (skip_of(2), False)
        claim = await read_claim(store, P)
        assert claim is not None
        assert [skip.lsn for skip in claim.skips] == [2, 3]

    asyncio.run(scenario())


def test_nothing_is_decided_when_somebody_took_the_lead_since_the_look() -> None:
    async def scenario() -> None:
        store = MemoryMetadataStore()
        seen = await claim_leadership(store, P, "n1")
        await claim_leadership(store, P, "n1")
        assert await add_skip(store, P, skip_of(3), seen) is None
        assert await read_claim(store, P) == LeaderClaim(2, "n1")

    asyncio.run(scenario())


def test_the_decisions_of_a_partition_are_bounded() -> None:
    async def scenario() -> None:
        store = MemoryMetadataStore()
        claim = await claim_leadership(store, P, "n1")
        for lsn in range(10, 10 + SKIPS_MAX):
            made = await add_skip(store, P, skip_of(lsn), claim)
            assert made is not None
            claim = made
        with pytest.raises(SkipRefusedError, match=f"has skipped {SKIPS_MAX} records"):
            await decide(store, processor(3))

    asyncio.run(scenario())
