"""Appending to a journal: frames become one chunk, in the invocation's row or behind it."""

from typing import Any

import msgspec

from ..core.ids import InvocationId
from .context import ApplyContext
from .tables import keys
from .tables.invocations import HEAD_BYTES_MAX, Invocation
from .tables.journal import Chunk, encode_chunk


def append_frames(
    context: ApplyContext,
    invocation_id: InvocationId,
    invocation: Invocation,
    frames: bytes,
    entries: int,
    **changes: Any,
) -> Invocation:
    """Store `entries` whole frames as one chunk.

    Gives the invocation with them and with `changes` of other fields; the caller writes its row.
    """
    chunk = Chunk(context.record_time_ns, invocation.attempt, context.record_epoch, entries, frames)
    value = encode_chunk(chunk)
    head = invocation.head
    rows = invocation.rows
    if rows == 0 and sum(map(len, head)) + len(value) <= HEAD_BYTES_MAX:
        head = (*head, value)
    else:
        rows += 1
        context.transaction.put(keys.journal_row(invocation_id, invocation.entries), value)
    return msgspec.structs.replace(
        invocation, entries=invocation.entries + entries, head=head, rows=rows, **changes
    )
