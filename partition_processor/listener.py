"""What a partition processor tells its node."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .machine import RecordFailedError

if TYPE_CHECKING:
    from .processor import PartitionProcessor


@dataclass(frozen=True, slots=True)
class ProcessorListener:
    """Whom a processor calls, on the event loop; nobody of these may raise.

    Attributes:
        dirty: a commit was applied; called once until `take_writes`.
        parked: a record cannot be applied, here or, where rows differ, anywhere.
        log_sealed: somebody else sealed the log's last segment: have it recovered.
        leads: this node leads the partition, and its log takes records, from now on.
        superseded: an announcement of a higher epoch was applied: another node leads.
        records_lost: the log goes on without records that this leader had numbered; it must lead
            anew, under another epoch.
    """

    dirty: Callable[["PartitionProcessor"], None]
    parked: Callable[["PartitionProcessor", RecordFailedError], None]
    log_sealed: Callable[["PartitionProcessor"], None]
    leads: Callable[["PartitionProcessor"], None]
    superseded: Callable[["PartitionProcessor"], None]
    records_lost: Callable[["PartitionProcessor"], None]
