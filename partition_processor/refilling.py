"""Filling a copy anew: when that is done, and when it would be the wrong thing."""

from .errors import RefillRefusedError
from .processor import PartitionProcessor


def check_refill(processor: PartitionProcessor, node: str, *, stopping: bool) -> None:
    """See whether a copy is to be filled anew. Raises RefillRefusedError.

    Args:
        node: this one.
        stopping: it is about to end.
    """
    partition = processor.partition
    if stopping:
        raise RefillRefusedError(f"node {node} is about to stop: ask again once it has started")
    if processor.parked is not None:
        raise RefillRefusedError(
            f"partition {partition} is parked on {node} at LSN {processor.parked.lsn}, at a record "
            "that no copy can apply: filled anew it would come to the same. Start a release that "
            f"can, or go on without it (perdure partitions skip {partition} --lsn "
            f"{processor.parked.lsn})"
        )
    if processor.role != "stopped" and processor.aside is None:
        raise RefillRefusedError(
            f"partition {partition} is {processor.role} on {node} and nothing is wrong with this "
            "copy: only one that has stopped is filled anew (perdure doctor tells which)"
        )
