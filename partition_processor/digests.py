"""Digests of replicas, compared: whoever differs from the leader at one LSN stops there.

Replicas apply the same records and must come to the same rows. Should they not, by a fault of the
program, the machine, or two releases that differ, nobody would notice before the lead moves and
answers change. So a leader writes its digest into the log: at its announcement, and every so many
records. What a replica had at that LSN it knows, unless it has been started since.
"""

from typing import Final

from .context import ApplyContext

MARK_EVERY: Final = 256
"""Replicas note their digest at each LSN that is a multiple of this, and leaders write it down."""

MARKS_KEPT: Final = 16
"""A leader's digest comes back from the log as far behind as it has records under way."""


class DifferenceError(AssertionError):
    """This replica has other rows than the leader."""


def mark(context: ApplyContext, lsn: int, digest: bytes) -> None:
    """Note the digest at `lsn`, and forget one that is long past."""
    context.digests[lsn] = digest
    context.digests.pop(lsn - MARKS_KEPT * MARK_EVERY, None)


def compare(context: ApplyContext, lsn: int, digest: bytes) -> None:
    """See that this replica had the leader's digest. Raises DifferenceError when it had another."""
    before_lsn, before = context.digest_before
    own = before if lsn == before_lsn else context.digests.get(lsn, digest)
    if own != digest:
        raise DifferenceError(
            f"partition {context.range.number} has other rows here than at its leader: after LSN "
            f"{lsn} its digest is {own.hex()}, and the leader's {digest.hex()}. Have it filled "
            f"anew (perdure partitions refill {context.range.number}). If it stops here again, the "
            "leader's rows are the odd ones, and count: have it take a snapshot first"
        )
