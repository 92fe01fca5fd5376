"""Limits of the product, so low that a short history goes beyond them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from unittest.mock import patch

from ...partition_processor import context, journal_append
from ...partition_processor.commands import invoke
from ...partition_processor.durable_timers import DurableTimers
from ...partition_processor.lifecycle import fail
from ...partition_processor.shipments import Shipments
from ...partition_processor.transaction import Transaction
from ..simulation.chance import Chance

_LIMITS: Final[tuple[tuple[tuple[tuple[Any, str], ...], tuple[int, ...]], ...]] = (
    # Deliveries within one record; the others take the outbox.
    (((context, "LOCAL_DELIVERIES_MAX"),), (1, 3)),
    # Bytes of the journal in the invocation's row; the others take rows of their own.
    (((journal_append, "HEAD_BYTES_MAX"), (invoke, "HEAD_BYTES_MAX")), (50, 300)),
    (((Shipments, "BATCH_MESSAGES_MAX"),), (1,)),
    (((Shipments, "TRUNCATE_MESSAGES"),), (1,)),
    (((DurableTimers, "WINDOW"),), (1, 2)),
    (((DurableTimers, "FIRED_PER_RECORD_MAX"),), (1,)),
    # What is kept decoded.
    (((Transaction, "LIVE_INVOCATIONS_MAX"),), (1, 3)),
    (((Transaction, "OBJECT_STATES_MAX"),), (1,)),
    (((Transaction, "OBJECT_STATE_ENTRIES_MAX"),), (0, 1)),
    (((fail, "EVENTS_KEPT"),), (1, 2)),
)


@contextmanager
def tight_limits(chance: Chance) -> Iterator[None]:
    """Have some of the limits low while inside."""
    if chance.happens(0.5):
        yield
        return
    with ExitStack() as stack:
        for places, values in _LIMITS:
            if chance.happens(0.4):
                value = chance.pick(values)
                for owner, name in places:
                    stack.enter_context(patch.object(owner, name, value))
        yield
