"""``GET /logs/{log}/digest``: what the log-servers of each segment hold, and whether they agree."""

import asyncio
from typing import Final, Literal

from ...log.chain import Segment
from ...log.replicated.holdings import SegmentHoldings, ServerHolding
from ...log.virtual_log import VirtualLog
from ..view import AdminView
from .log_answers import LogDigest, SegmentDigest, ServerDigest

AT_ONCE: Final = 16
"""So many segments are asked about at a time: a server that is away is waited for in each."""


async def digest_of(view: AdminView, log: VirtualLog, from_lsn: int, to_lsn: int) -> LogDigest:
    """Compare what the servers hold from one LSN through another. Raises what the log raises."""
    await log.refresh()
    chain = log.chain
    ends = [*(segment.base_lsn for segment in chain.segments[1:]), chain.sealed_tail]
    wanted = [
        (segment, end_lsn)
        for segment, end_lsn in zip(chain.segments, ends, strict=True)
        if to_lsn >= segment.base_lsn and (end_lsn is None or end_lsn > from_lsn)
    ]
    found: list[SegmentDigest] = []
    for place in range(0, len(wanted), AT_ONCE):
        answers = await asyncio.gather(
            *(
                _ask(view, segment, from_lsn, to_lsn, end_lsn)
                for segment, end_lsn in wanted[place : place + AT_ONCE]
            ),
            return_exceptions=True,
        )
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            found.append(answer)
    return LogDigest(log.log, found)


async def _ask(
    view: AdminView, segment: Segment, from_lsn: int, to_lsn: int, end_lsn: int | None
) -> SegmentDigest:
    # Where a segment is sealed, everything up to its end is committed, and is to be there.
    held = await view.segment_holdings(
        segment,
        max(1, segment.offset_of(from_lsn)),
        segment.offset_of(to_lsn) + 1,
        1 if end_lsn is None else segment.offset_of(end_lsn),
    )
    return _segment(segment, held, sealed=end_lsn is not None)


def _segment(segment: Segment, held: SegmentHoldings | None, *, sealed: bool) -> SegmentDigest:
    state: Literal["open", "sealed"] = "sealed" if sealed else "open"
    if held is None:
        return SegmentDigest(segment.index, state, "", segment.base_lsn, segment.base_lsn - 1)
    return SegmentDigest(
        index=segment.index,
        state=state,
        verdict=held.verdict,
        from_lsn=segment.lsn_of(held.first_offset),
        to_lsn=segment.lsn_of(held.end_offset) - 1,
        copies=held.copies,
        fewest=held.fewest,
        complete=held.complete,
        servers=[_server(segment, item) for item in held.servers],
    )


def _server(segment: Segment, held: ServerHolding) -> ServerDigest:
    if held.status != "ok":
        return ServerDigest(held.node, held.status, held.problem)
    lsn_of = segment.lsn_of
    return ServerDigest(
        server=held.node,
        status=held.status,
        tail_lsn=lsn_of(held.tail),
        trim_point=lsn_of(held.trim_point) if held.trim_point else None,
        sealed=held.sealed,
        final_tail_lsn=lsn_of(held.final_tail) if held.final_tail else None,
        batches=held.batches,
        missing=[(lsn_of(first), lsn_of(last)) for first, last in held.missing],
        digest=held.digest,
    )
