"""Pages of invocations: filtered, bounded, and gathered without holding the node up."""

import asyncio
import heapq
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from ...core.hashing import idempotent_invocation_id, keyed_partition_key, workflow_invocation_id
from ...core.ids import (
    InvocationId,
    MalformedIdError,
    invocation_id_text,
    parse_invocation_id,
)
from ...core.protocol.session import ServiceKind
from ...partition_processor.manager import PartitionManager
from ...partition_processor.processor import NotLeadingError
from ...partition_processor.tables.invocations import (
    STATUS_BACKING_OFF,
    STATUS_NAMES,
    STATUS_RUNNING,
    Invocation,
)
from .invocation_answers import InvocationRow, InvocationsPage
from .invocation_scan import READY, STATUSES, Found, find, scan
from .pacing import Pacer
from .parameters import NUMBER_MAX, Parameters, whole_number
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


class InvocationsQuery(msgspec.Struct, frozen=True):
    """What is asked for: invocations that pass every filter.

    Attributes:
        statuses: names out of `STATUSES`.
        oldest_first: by creation; otherwise in the order in which they are stored.
        after: creation time, 0 but for `oldest_first`, and id of the last one that was seen.
    """

    service: str | None = None
    handler: str | None = None
    key: str | None = None
    statuses: frozenset[str] = _UNFINISHED
    deployment: str | None = None
    idempotency_key: str | None = None
    oldest_first: bool = False
    limit: int = LIMIT_DEFAULT
    after: tuple[int, InvocationId] | None = None

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


async def read_page(
    manager: PartitionManager, query: InvocationsQuery, now_ns: int
) -> InvocationsPage:
    """One page. Cancelling is safe."""
    pacer = Pacer(asyncio.get_running_loop())
    pages = _oldest if query.oldest_first else _as_stored
    found, position, looked_at = await pages(_candidates(manager, query, pacer), query)
    return InvocationsPage(
        invocations=[row_of(item) for item in found],
        next=position,
        looked_at=looked_at,
        now=time_text(now_ns),
    )


async def _as_stored(
    candidates: AsyncIterator[Found], query: InvocationsQuery
) -> tuple[list[Found], str | None, int]:
    wanted: list[Found] = []
    looked_at = 0
    async for found in candidates:
        looked_at += 1
        if query.wants(found):
            wanted.append(found)
        if len(wanted) == query.limit or looked_at == SCANNED_MAX:
            return wanted, _position(0, found.invocation_id), looked_at
    return wanted, None, looked_at


async def _oldest(
    candidates: AsyncIterator[Found], query: InvocationsQuery
) -> tuple[list[Found], str | None, int]:
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
    position = None
    if more:
        position = _position(wanted[-1].invocation.created_ns, wanted[-1].invocation_id)
    return wanted, position, looked_at


def _inverted(invocation_id: InvocationId) -> bytes:
    """Bytes that sort the other way round."""
    return bytes(255 - byte for byte in invocation_id)


async def _candidates(
    manager: PartitionManager, query: InvocationsQuery, pacer: Pacer
) -> AsyncIterator[Found]:
    """What may pass the filters: as little as the filters allow."""
    fixed = _fixed_ids(manager, query)
    if fixed is not None:
        for invocation_id in sorted(fixed):
            try:
                found = find(manager, invocation_id)
            except NotLeadingError:
                continue  # As in a scan.
            if found is not None and (query.after is None or invocation_id > query.after[1]):
                yield found
        return
    after = None if query.after is None or query.oldest_first else query.after[1]
    partition_key = None
    if query.key is not None:
        partition_key = keyed_partition_key(query.key).to_bytes(8, "big")
    async for found in scan(
        manager,
        pacer,
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


def _position(created_ns: int, invocation_id: InvocationId) -> str:
    return f"{created_ns}-{invocation_id_text(invocation_id)}"


def _read_after(text: str) -> tuple[int, InvocationId]:
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
