"""Pages of invocations: filtered, bounded, and gathered without holding the node up."""

import asyncio
import heapq
from collections.abc import AsyncIterator, Sequence
from typing import Final, TypeAlias

import msgspec

from ...core.hashing import idempotent_invocation_id, keyed_partition_key, workflow_invocation_id
from ...core.ids import (
    InvocationId,
    MalformedIdError,
    PartitionKey,
    invocation_id_text,
    parse_invocation_id,
)
from ...core.protocol.session import ServiceKind
from ...partition_processor.manager import PartitionManager
from ...partition_processor.tables.invocations import (
    STATUS_BACKING_OFF,
    STATUS_NAMES,
    STATUS_RUNNING,
    Invocation,
)
from .invocation_answers import InvocationRow, InvocationsPage
from .invocation_scan import READY, STATUSES, Found, confirm_leads, scan
from .missing import Missing
from .pacing import Pacer
from .parameters import NUMBER_MAX, Parameters, whole_number
from .reach import Led
from .times import time_text
from .value_view import failure_view

LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 1000
SCANNED_MAX: Final = 50_000
"""A page looks at so many at most; who asks goes on from its `next`. The oldest are found by
looking at all of them."""

COMPLETED: Final = "completed"
_ACTIVE: Final = frozenset((STATUS_NAMES[STATUS_RUNNING], STATUS_NAMES[STATUS_BACKING_OFF], READY))
_UNFINISHED: Final = frozenset(STATUSES) - {COMPLETED}
FILTERS: Final = (
    "service",
    "handler",
    "key",
    "status",
    "deployment",
    "idempotency_key",
    "order",
    "limit",
    "after",
)
Position: TypeAlias = tuple[int, InvocationId]
"""Of an invocation in the order of a list: its time of creation, 0 but for the oldest first, and
its id."""


class InvocationsQuery(msgspec.Struct, frozen=True):
    """What is asked for: invocations that pass every filter.

    Attributes:
        statuses: names out of `STATUSES`.
        oldest_first: by creation; otherwise in the order in which they are stored.
        after: the last one that was seen.
    """

    service: str | None = None
    handler: str | None = None
    key: str | None = None
    statuses: frozenset[str] = _UNFINISHED
    deployment: str | None = None
    idempotency_key: str | None = None
    oldest_first: bool = False
    limit: int = LIMIT_DEFAULT
    after: Position | None = None

    def wants(self, found: Found) -> bool:
        """Whether an invocation passes the filters."""
        invocation = found.invocation
        return (
            (self.service is None or invocation.service == self.service)
            and (self.handler is None or invocation.handler == self.handler)
            and (self.key is None or invocation.key == self.key)
            and (self.deployment is None or invocation.deployment == self.deployment)
            and (self.idempotency_key is None or invocation.idempotency_key == self.idempotency_key)
            and found.status in self.statuses
        )


def read_query(parameters: Parameters) -> InvocationsQuery:
    """What a request asks for. Raises AdminRequestError."""
    oldest_first = parameters.value("order", _read_order) or False
    return InvocationsQuery(
        service=parameters.value("service", str),
        handler=parameters.value("handler", str),
        key=parameters.value("key", str),
        statuses=parameters.value("status", _read_statuses) or _UNFINISHED,
        deployment=parameters.value("deployment", str),
        idempotency_key=parameters.value("idempotency_key", str),
        oldest_first=oldest_first,
        limit=parameters.number("limit", 1, LIMIT_MAX) or LIMIT_DEFAULT,
        after=parameters.value("after", _read_after),
    )


class LedPage(Led, frozen=True, kw_only=True):
    """What one node has of a page: what passes the filters in the partitions that it leads.

    Attributes:
        positions: of the invocations, as `next` has them.
        next: whatever lies behind it has not been looked at; None when all was.
    """

    invocations: list[InvocationRow]
    positions: list[str]
    next: str | None
    looked_at: int


async def read_led_page(
    manager: PartitionManager, query: InvocationsQuery, partitions: Sequence[int]
) -> LedPage:
    """What this node has of a page, of those partitions that it leads. Cancelling is safe."""
    told = await confirm_leads(manager, partitions)
    pacer = Pacer(asyncio.get_running_loop())
    pages = _oldest if query.oldest_first else _as_stored
    found, position, looked_at = await pages(_candidates(manager, query, pacer, told), query)
    return LedPage(
        told=told,
        invocations=[row_of(item) for item in found],
        positions=[_text(_position(item, query)) for item in found],
        next=None if position is None else _text(position),
        looked_at=looked_at,
    )


def merged_page(
    pages: Sequence[LedPage], missing: list[Missing], query: InvocationsQuery, now_ns: int
) -> InvocationsPage:
    """One page in order from what nodes have of it.

    No node has looked at everything behind its `next`: the page ends at the first of them.
    """
    end = min((_read_after(page.next) for page in pages if page.next is not None), default=None)
    rows = sorted(
        (
            (_read_after(position), row)
            for page in pages
            for position, row in zip(page.positions, page.invocations, strict=True)
        ),
        key=lambda item: item[0],
    )
    if end is not None:
        rows = [item for item in rows if item[0] <= end]
    if len(rows) > query.limit:
        rows = rows[: query.limit]
        end = rows[-1][0]
    return InvocationsPage(
        invocations=[row for _, row in rows],
        next=None if end is None else _text(end),
        looked_at=sum(page.looked_at for page in pages),
        now=time_text(now_ns),
        missing=missing,
    )


def partitions_of(manager: PartitionManager, query: InvocationsQuery) -> list[int]:
    """The partitions that may have something for a page."""
    fixed = _fixed_ids(manager, query)
    if fixed is not None:
        return sorted({manager.processor_of(item).partition for item in fixed})
    if query.key is not None:
        key = PartitionKey(keyed_partition_key(query.key))
        return [manager.processor_for(key).partition]
    first = 0
    if query.after is not None and not query.oldest_first:
        first = manager.processor_of(query.after[1]).partition
    return list(range(first, len(manager.processors)))


async def _as_stored(
    candidates: AsyncIterator[Found], query: InvocationsQuery
) -> tuple[list[Found], Position | None, int]:
    wanted: list[Found] = []
    looked_at = 0
    async for found in candidates:
        looked_at += 1
        if query.wants(found):
            wanted.append(found)
        if len(wanted) == query.limit or looked_at == SCANNED_MAX:
            return wanted, _position(found, query), looked_at
    return wanted, None, looked_at


async def _oldest(
    candidates: AsyncIterator[Found], query: InvocationsQuery
) -> tuple[list[Found], Position | None, int]:
    after = query.after or (0, InvocationId(b""))
    # The newest of those that are kept is the first to go: its place is its negated time.
    kept: list[tuple[int, bytes, Found]] = []
    looked_at = 0
    more = False
    async for found in candidates:
        looked_at += 1
        created_ns = found.invocation.created_ns
        if (created_ns, found.invocation_id) <= after or not query.wants(found):
            continue
        place = (-created_ns, _inverted(found.invocation_id), found)
        if len(kept) < query.limit:
            heapq.heappush(kept, place)
        else:
            more = True
            heapq.heappushpop(kept, place)
    wanted = [found for _, _, found in sorted(kept, key=lambda item: item[:2], reverse=True)]
    return wanted, _position(wanted[-1], query) if more else None, looked_at


def _inverted(invocation_id: InvocationId) -> bytes:
    """Bytes that sort the other way round."""
    return bytes(255 - byte for byte in invocation_id)


async def _candidates(
    manager: PartitionManager,
    query: InvocationsQuery,
    pacer: Pacer,
    partitions: Sequence[int],
) -> AsyncIterator[Found]:
    """What may pass the filters: as little as the filters allow."""
    fixed = _fixed_ids(manager, query)
    if fixed is not None:
        for invocation_id in sorted(fixed):
            processor = manager.processor_of(invocation_id)
            if processor.partition not in partitions:
                continue
            invocation = processor.transaction.invocation(invocation_id)
            if invocation is not None and (query.after is None or invocation_id > query.after[1]):
                yield Found(processor, invocation_id, invocation)
        return
    after = None if query.after is None or query.oldest_first else query.after[1]
    partition_key = None
    if query.key is not None:
        partition_key = keyed_partition_key(query.key).to_bytes(8, "big")
    async for found in scan(
        manager,
        pacer,
        partitions=partitions,
        after=after,
        partition_key=partition_key,
        active_only=query.statuses <= _ACTIVE,
    ):
        yield found


def _fixed_ids(manager: PartitionManager, query: InvocationsQuery) -> set[InvocationId] | None:
    """The only ids that can pass the filters, None where it may be any."""
    service, handler, idempotency_key = query.service, query.handler, query.idempotency_key
    if service is None or handler is None or idempotency_key is None:
        return None
    if query.key is None and manager.targets.kind(service) is not ServiceKind.SERVICE:
        return None  # It may be of any key.
    ids = {idempotent_invocation_id(service, query.key, handler, idempotency_key)}
    if query.key is not None:
        ids.add(workflow_invocation_id(service, query.key))
    return ids


def row_of(found: Found) -> InvocationRow:
    """An invocation for people."""
    invocation = found.invocation
    status = found.status
    return InvocationRow(
        id=invocation_id_text(found.invocation_id),
        target=target_of(invocation),
        service=invocation.service,
        handler=invocation.handler,
        key=invocation.key,
        status=status,
        created=time_text(invocation.created_ns),
        modified=time_text(invocation.modified_ns or invocation.created_ns),
        attempt=invocation.attempt,
        failed_attempts=invocation.failed_attempts,
        starts=time_text(invocation.start_ns) if status == "scheduled" else None,
        next_retry=time_text(invocation.retry_at_ns) if invocation.retry_at_ns else None,
        last_failure=invocation.last_failure,
        deployment=invocation.deployment,
        idempotency_key=invocation.idempotency_key,
        failure=failure_view(invocation.failure),
    )


def target_of(invocation: Invocation) -> str:
    """``Service/handler`` or ``Object/key/handler``."""
    parts = (invocation.service, invocation.key, invocation.handler)
    return "/".join(part for part in parts if part is not None)


def _position(found: Found, query: InvocationsQuery) -> Position:
    return found.invocation.created_ns if query.oldest_first else 0, found.invocation_id


def _text(position: Position) -> str:
    created_ns, invocation_id = position
    return f"{created_ns}-{invocation_id_text(invocation_id)}"


def _read_after(text: str) -> Position:
    wanted = "what an earlier page gave as next"
    time, dash, invocation = text.partition("-")
    created_ns = whole_number(time)
    if created_ns is None or created_ns > NUMBER_MAX or not dash:
        raise ValueError(wanted)
    try:
        return created_ns, parse_invocation_id(invocation)
    except MalformedIdError:
        raise ValueError(wanted) from None


def _read_order(text: str) -> bool:
    if text not in ("oldest", "stored"):
        raise ValueError('"oldest" or "stored"')
    return text == "oldest"


def _read_statuses(text: str) -> frozenset[str]:
    statuses = frozenset(text.split(","))
    if statuses == {"all"}:
        return frozenset(STATUSES)
    if not statuses <= frozenset(STATUSES):
        raise ValueError(f'"all", or of {", ".join(STATUSES)} one or several with commas between')
    return statuses
