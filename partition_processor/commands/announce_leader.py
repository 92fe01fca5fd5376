"""AnnounceLeader: from here on, nothing of a lower epoch counts."""

from ...log.types import Record
from ..context import ApplyContext
from ..effects import LeaderAnnounced
from ..records import AnnounceLeader


def apply_announce_leader(context: ApplyContext, _command: AnnounceLeader, record: Record) -> None:
    """Raise the epoch; the record's own was compared with it before."""
    context.epoch = record.epoch
    context.effects.append(LeaderAnnounced(record.epoch))
