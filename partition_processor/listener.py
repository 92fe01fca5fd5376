"""What a partition processor tells its node."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from .machine import RecordFailedError

Processor = TypeVar("Processor")


@dataclass(frozen=True, slots=True)
class ProcessorListener(Generic[Processor]):
    """Whom a processor calls with itself, on the event loop; nobody of these may raise.

    Attributes:
        dirty: a commit was applied; called once until `take_writes`.
        parked: a record cannot be applied, here or, where rows differ, anywhere.
        log_sealed: somebody else sealed the log's last segment: have it recovered.
        leads: this node leads the partition, and its log takes records, from now on.
        superseded: an announcement of a higher epoch was applied: another node leads.
        records_lost: the log goes on without records that this leader had numbered; it must lead
            anew, under another epoch.
    """

    dirty: Callable[[Processor], None]
    parked: Callable[[Processor, RecordFailedError], None]
    log_sealed: Callable[[Processor], None]
    leads: Callable[[Processor], None]
    superseded: Callable[[Processor], None]
    records_lost: Callable[[Processor], None]
