"""One invocation in full: what it is at, whom it concerns, its journal and its failed attempts."""

import asyncio
from typing import Final, Literal

from ...core.ids import InvocationId, invocation_id_text
from ...core.protocol import messages
from ...core.quantities import format_duration
from ...partition_processor.manager import PartitionManager
from ...partition_processor.processor import NotLeadingError
from ...partition_processor.tables import keys
from ...partition_processor.tables.events import PAUSED, Event, decode_event
from ...partition_processor.tables.invocations import STATUS_COMPLETED, STATUS_PENDING
from .entry_view import entry_name
from .invocation_answers import EventView, InboxView, InvocationDetail, RelatedView
from .invocation_pages import row_of, target_of
from .invocation_scan import Found, find
from .journal_pass import JournalPass
from .pacing import Pacer
from .times import time_text
from .value_view import value_view
from .waits import waits_of

ENTRIES_MAX: Final = 1000
"""So many entries of a journal are shown together."""
_ROWS_PER_READ: Final = 200
_SINKS_SHOWN: Final = 1000
_HOW: Final = {
    messages.CALL_COMPLETION: "call",
    messages.ATTACH_INVOCATION_COMPLETION: "attach",
    messages.GET_INVOCATION_OUTPUT_COMPLETION: "output",
}


async def read_detail(
    manager: PartitionManager, found: Found, *, from_entry: int, limit: int, now_ns: int
) -> InvocationDetail:
    """All about one invocation, with a part of its journal. Raises StorageError.

    Cancelling is safe.
    """
    pacer = Pacer(asyncio.get_running_loop())
    invocation_id, invocation = found.invocation_id, found.invocation
    part = await JournalPass(found, pacer, from_entry=from_entry, limit=limit).read()
    completed = invocation.status == STATUS_COMPLETED
    waits = [] if completed else waits_of(invocation_id, invocation, part.open)
    output = None
    if completed and invocation.failure is None:
        output = value_view(invocation.output or b"")
    return InvocationDetail(
        invocation=row_of(found),
        retries_since_entry=invocation.failures_since_entry,
        started_by=_started_by(manager, found),
        restarted_from=_related(manager, invocation.restarted_from, "restart"),
        traceparent=invocation.traceparent,
        completed=time_text(invocation.completed_ns) if completed else None,
        expires=time_text(invocation.expires_ns) if invocation.expires_ns else None,
        completion_retention=format_duration(max(0, invocation.completion_retention_ns)),
        journal_retention=format_duration(max(0, invocation.journal_retention_ns)),
        waits_for=waits,
        waiters=[
            related(manager, sink.invocation_id, _HOW.get(sink.frame_type, "call"))
            for sink in invocation.sinks[:_SINKS_SHOWN]
        ],
        clients=found.processor.clients.waiting_for(invocation_id),
        inbox=await _inbox(manager, found, pacer),
        output=output,
        entries=invocation.entries,
        journal=part.entries,
        next_entry=part.next_entry,
        events=_events(found),
        now=time_text(now_ns),
    )


def _started_by(manager: PartitionManager, found: Found) -> RelatedView | None:
    parent = found.invocation.parent
    waits = any(sink.invocation_id == parent for sink in found.invocation.sinks)
    # Once it has completed nobody waits any more, and how it was asked for is not known.
    how = "call" if waits else "call or send"
    if not waits and found.invocation.status != STATUS_COMPLETED:
        how = "send"
    return _related(manager, parent, how)


def _related(
    manager: PartitionManager, invocation_id: InvocationId | None, how: str
) -> RelatedView | None:
    return None if invocation_id is None else related(manager, invocation_id, how)


def related(manager: PartitionManager, invocation_id: InvocationId, how: str) -> RelatedView:
    """Another invocation, linked by `how`; only its id where another node leads its partition."""
    try:
        found = find(manager, invocation_id)
    except NotLeadingError:
        found = None
    return RelatedView(
        id=invocation_id_text(invocation_id),
        how=how,
        target=None if found is None else target_of(found.invocation),
        status=None if found is None else found.status,
    )


async def _inbox(manager: PartitionManager, found: Found, pacer: Pacer) -> InboxView | None:
    """Where a pending invocation stands, None for any other."""
    invocation = found.invocation
    if invocation.status != STATUS_PENDING or invocation.key is None:
        return None
    partition_key = found.invocation_id[:8]
    object_name = keys.object_suffix(invocation.service, invocation.key)
    lock = found.processor.transaction.lock(partition_key, object_name)
    if lock is None:
        return None  # It has its turn since we looked.
    place = 0
    first = keys.inbox_row(partition_key, object_name, lock.head)
    end = keys.inbox_row(partition_key, object_name, max(lock.head, invocation.inbox_number))
    while first < end:
        rows = found.processor.transaction.scan(first, end, _ROWS_PER_READ)
        place += len(rows)
        if len(rows) < _ROWS_PER_READ:
            break
        first = rows[-1][0] + b"\x00"
        await pacer.pause()
    return InboxView(related(manager, lock.holder, "lock"), place)


def _events(found: Found) -> list[EventView]:
    first = keys.EVENTS + found.invocation_id
    rows = found.processor.transaction.scan(first, keys.prefix_end(first))
    return [_event_view(decode_event(value)) for _, value in rows]


def _event_view(event: Event) -> EventView:
    kind: Literal["failed", "paused"] = "paused" if event.kind == PAUSED else "failed"
    command = None
    if event.related_type or event.related_name:
        command = entry_name(event.related_type) if event.related_type else "command"
        if event.related_name:
            command = f'{command} "{event.related_name}"'
    return EventView(
        kind=kind,
        time=time_text(event.time_ns),
        attempt=event.attempt,
        entries=event.entries,
        code=event.code,
        message=event.message,
        command=command,
        command_index=event.related_index if event.related_index >= 0 else None,
        stacktrace=event.stacktrace,
        next_retry=time_text(event.retry_at_ns) if event.retry_at_ns else None,
        deployment=event.deployment,
    )
