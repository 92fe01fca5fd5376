"""Deciding that a partition goes on without a record: the checks, and the decision."""

from collections.abc import Mapping

import msgspec

from ..core.errors import PerdureError
from ..metadata.api import MetadataStore
from .leadership import LeaderClaim, add_skip, read_claim
from .processor import PartitionProcessor
from .skips import SKIPS_MAX
from .tables.skipped import Skip


class SkipRefusedError(PerdureError):
    """A record is not to be skipped, or not now, or this node cannot tell; the message says why."""

    code = "PD0918"


class KnownElsewhere(msgspec.Struct, frozen=True):
    """What a node knows of a partition outside of itself.

    Attributes:
        applied: by name, how far the other nodes are that keep it, of those that told.
        archived_lsn: the last LSN that a snapshot has; 0 when none does.
    """

    applied: Mapping[str, int]
    archived_lsn: int


def check_skip(
    processor: PartitionProcessor,
    lsn: int,
    *,
    node: str,
    claim: LeaderClaim,
    elsewhere: KnownElsewhere,
    accept_loss: bool,
) -> Skip | None:
    """See whether a partition may go on without the record at `lsn`; gives what was decided before.

    Args:
        node: this one.
        claim: who took the lead last, and what was decided.
        accept_loss: somebody says that what that node may have acknowledged behind the record may
            be undone, where it cannot be told that it did not.

    Raises SkipRefusedError.
    """
    partition = processor.partition
    known = next((skip for skip in claim.skips if skip.lsn == lsn), None)
    if known is not None:
        return known
    parked = processor.parked
    if parked is None:
        state = f"has stopped: {processor.error}" if processor.error else f"is {processor.role}"
        raise SkipRefusedError(
            f"partition {partition} is not parked on {node}: it {state}. Only a record that cannot "
            "be applied is skipped, and the node that is parked at it is asked"
        )
    if parked.lsn != lsn:
        raise SkipRefusedError(
            f"partition {partition} is parked at LSN {parked.lsn} on {node}, not at {lsn}: give "
            "the LSN of the record that cannot be applied"
        )
    if len(claim.skips) >= SKIPS_MAX:
        raise SkipRefusedError(
            f"partition {partition} has skipped {len(claim.skips)} records, and no more are: start "
            "a release that can apply them"
        )
    for name, applied_lsn in sorted(elsewhere.applied.items()):
        if applied_lsn >= lsn:
            raise SkipRefusedError(
                f"node {name} has applied the record at LSN {lsn}, so it can be applied: start the "
                f"release of {name} on {node} too; until then {name} can lead (perdure partitions "
                f"move {partition} --to {name})"
            )
    if elsewhere.archived_lsn >= lsn:
        raise SkipRefusedError(
            f"a snapshot of partition {partition} has the record at LSN {lsn} applied, so it can "
            f"be: start the release that has taken the snapshot on {node} too"
        )
    if claim.node not in (node, "", *elsewhere.applied) and not accept_loss:
        raise SkipRefusedError(
            f"node {claim.node} took the lead of partition {partition} last and does not tell "
            f"how far it is: if it could apply the record at LSN {lsn}, it may have acknowledged "
            f"what came behind it, and that would be undone. Start {claim.node} again, or ask it "
            "where it is parked, too; or say that this is accepted (--accept-loss, "
            '"accept_loss": true)'
        )
    return None


async def skip_record(
    metadata: MetadataStore,
    processor: PartitionProcessor,
    skip: Skip,
    *,
    elsewhere: KnownElsewhere,
    accept_loss: bool,
    dry_run: bool,
) -> tuple[Skip, bool]:
    """Decide for all replicas that a partition goes on without a record.

    Gives what was decided, and whether it had been before. With `dry_run` nothing is decided.

    Raises SkipRefusedError, and what the metadata store raises: then, or when cancelled, it may
    have been decided, and doing it again is right.
    """
    claim = await read_claim(metadata, processor.partition) or LeaderClaim(0, "")
    known = check_skip(
        processor,
        skip.lsn,
        node=skip.node,
        claim=claim,
        elsewhere=elsewhere,
        accept_loss=accept_loss,
    )
    if known is not None or dry_run:
        return known or skip, known is not None
    made = await add_skip(metadata, processor.partition, skip, claim)
    if made is None:
        raise SkipRefusedError(
            f"the lead of partition {processor.partition} was taken meanwhile: look again"
        )
    found = next(item for item in made.skips if item.lsn == skip.lsn)
    return found, found != skip
