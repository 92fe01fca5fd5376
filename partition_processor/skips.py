"""Skips: records that a partition goes on without, as an operator has decided.

A record that cannot be applied parks its partition on every replica at the same LSN. To go on
without it has to be one decision for all of them, also for who replays the log or restores a
snapshot later. So it stands in the metadata, in the value that says who took which epoch last:
whoever is to lead changes that value first, and so learns of every skip that was decided before.
Each replica reads it before it applies anything.

What is skipped counts as if it had never reached the log, and so does whatever its leader had
numbered behind it: nobody was told of any of it, and the next leader begins from the rows.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from ..core.errors import StorageCorruptError
from .context import ApplyContext
from .tables import keys
from .tables.skipped import Skip, decode_skip
from .transaction import Transaction

SKIPS_MAX: Final = 256
"""So many records of a partition may be skipped: the decisions are kept for as long as it is."""


class SkipMissedError(StorageCorruptError):
    """A record that was skipped by decision has been applied here: the rows are not the others'."""

    code = "PD0917"


def check_skips(skips: Sequence[Skip], context: ApplyContext) -> Mapping[int, Skip]:
    """What was decided, by LSN, once it is sure that the partition did what it was to do so far.

    Raises SkipMissedError when a record was applied here all the same.
    """
    own = context.range
    for skip in skips:
        done = skip.lsn > context.lsn or was_skipped(context, skip.lsn)
        if not done:
            raise missed(own.number, skip.lsn)
    return {skip.lsn: skip for skip in skips}


def was_skipped(context: ApplyContext, lsn: int) -> bool:
    """Whether this replica has skipped the record at `lsn`."""
    return context.transaction.get(keys.skipped_row(context.range.first, lsn)) is not None


def missed(partition: int, lsn: int) -> SkipMissedError:
    """The error of a replica that has applied what the others have skipped."""
    return SkipMissedError(
        f"partition {partition} was to go on without the record at LSN {lsn}, and it was applied "
        "here, maybe by another release: the rows are not those of the other replicas. Have this "
        f"copy filled anew: perdure partitions refill {partition}"
    )


def skipped(transaction: Transaction, first: bytes) -> list[Skip]:
    """What this replica has skipped, by LSN; `first` is the first key of the partition's range."""
    prefix = keys.SKIPPED + first
    return [decode_skip(value) for _, value in transaction.scan(prefix, keys.prefix_end(prefix))]


def skipped_lsns(transaction: Transaction, first: bytes) -> tuple[int, ...]:
    """The LSNs that this replica has skipped, ascending."""
    return tuple(skip.lsn for skip in skipped(transaction, first))
