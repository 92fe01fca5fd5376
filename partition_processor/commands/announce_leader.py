"""AnnounceLeader: from here on, nothing of a lower epoch counts."""

from ...log.types import Record
from ..context import ApplyContext
from ..digests import DifferenceError, compare
from ..effects import LeaderAnnounced
from ..records import AnnounceLeader
from ..skips import missed, was_skipped


def apply_announce_leader(context: ApplyContext, command: AnnounceLeader, record: Record) -> None:
    """Raise the epoch; the record's own was compared with it before.

    Raises DifferenceError where what the leader has skipped was applied, or the rows differ: from
    here on the two would tell different things.
    """
    if command.digest:
        compare(context, command.lsn, command.digest)
    for lsn in command.skipped:
        if not was_skipped(context, lsn):
            raise DifferenceError(str(missed(context.range.number, lsn)))
    context.epoch = record.epoch
    context.effects.append(LeaderAnnounced(record.epoch))
