"""Whether a partition's store and its log are of one time, looked at before any replay."""

from ..core.errors import StorageCorruptError
from ..core.ids import PartitionId
from ..log.virtual_log import VirtualLog
from .context import ApplyContext
from .errors import AheadOfLogError


def check_same_time(
    partition: PartitionId, context: ApplyContext, log: VirtualLog, tail_lsn: int, epoch: int
) -> None:
    """Raise StorageCorruptError when the store is ahead of the log or behind its trim point.

    Args:
        tail_lsn: where the log ends.
        epoch: the one that was claimed.
    """
    if tail_lsn <= context.lsn or epoch <= context.epoch:
        raise StorageCorruptError(
            f"partition {partition}: the store has applied LSN {context.lsn} of leader "
            f"epoch {context.epoch}, but the log ends before LSN {tail_lsn} and the epoch claimed "
            f"is {epoch}: log, store and metadata are not of one time; restore them together"
        )
    trim_point = trim_point_for(log, context.lsn)
    if trim_point > context.lsn:
        raise StorageCorruptError(
            f"partition {partition}: the store has applied LSN {context.lsn}, but the log "
            f"is trimmed up to LSN {trim_point}: the store is older than the log; "
            "restore them together"
        )


def check_same_records(partition: PartitionId, context: ApplyContext, log: VirtualLog) -> None:
    """Raise AheadOfLogError when the store has applied records that the log does not have any more.

    So it is where a log was ended before what its lost disks had, and went on with other records. A
    segment begins with the announcement of its epoch, so whoever has applied a record of it knows
    that epoch.
    """
    chain = log.chain
    segment = chain.segments[chain.position_of(context.lsn)]
    if segment.base_lsn <= context.lsn and segment.params.epoch > context.epoch:
        raise AheadOfLogError(
            f"partition {partition} has applied up to LSN {context.lsn} under leader epoch "
            f"{context.epoch}, and in its log another leader wrote from LSN {segment.base_lsn} on: "
            "what was applied was given up with lost disks. Have this copy filled anew: perdure "
            f"partitions refill {partition}"
        )


def trim_point_for(log: VirtualLog, applied_lsn: int) -> int:
    """How far a log is trimmed, as far as it matters to a store that has applied `applied_lsn`.

    Raises StorageCorruptError.
    """
    # Only the first segment can be trimmed in part. Who starts behind it need not look at it: a
    # damaged record that nobody needs any more would be in the way.
    chain = log.chain
    starts_behind = chain.position_of(applied_lsn + 1) > 0
    return chain.first_lsn - 1 if starts_behind else log.trim_point_lsn
