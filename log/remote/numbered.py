"""What became of an append with a producer's numbers whose answer was lost: ask for them again.

While its segment is open, the same numbers are sent again to whoever orders it: what has arrived is
a duplicate there, and what has not gets in now. In a segment that has ended, all there ever was can
be read. Only where the sequencer has forgotten the producer in between, for thousands of others,
does a copy of its first number get in as well: `ProducerFilter` tells readers which one counts.
"""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec

from ...core.errors import PerdureError
from ..answers import (
    Answer,
    Committed,
    Conflict,
    Duplicate,
    Fenced,
    Indeterminate,
    OutOfOrder,
    Producer,
    StaleSnapshot,
)
from ..chain_view import ChainView
from ..elsewhere import NotHere, Outcome
from ..reader import LogEntry, LogReader, TrimGap
from ..sequencer import Append
from .client import AppendClient
from .search import Search

Ask: TypeAlias = Callable[[AppendClient, Append], Awaitable[Outcome]]
"""Sends an append to a node, and waits for as long as that can still answer."""


class Sent(msgspec.Struct, frozen=True):
    """An append that may be sent again.

    Attributes:
        append: it names its segment, so that no copy of it gets into another one.
        lower_lsn: it is not in the log below this.
    """

    append: Append
    lower_lsn: int


def sent_once(log: ChainView, append: Append) -> Sent:
    """What is to be sent, into the last segment where it names none. Nothing is asked for it."""
    if append.segment is None:
        append = msgspec.structs.replace(append, segment=log.chain.tail.index)
    return Sent(append, log.known_tail_lsn(append.segment or 0))


async def settled(
    log: ChainView, sent: Sent, doubt: Indeterminate, search: Search, ask: Ask
) -> Answer | None:
    """The final answer, or `doubt` where nobody can tell; None when it is in no segment for ever.

    As long as `search` has time. Raises nothing. Cancelling leaves open what became of it.
    """
    append = sent.append
    hint = ""
    while not (end := log.chain.end_of_index(append.segment or 0)):
        try:
            client = await search.next(hint)
        except PerdureError:
            return doubt
        hint = ""
        if client is None:
            if log.chain.end_of_index(append.segment or 0):
                continue
            return doubt
        outcome = await ask(client, append)
        if isinstance(outcome, NotHere):
            hint = outcome.node
        elif not isinstance(outcome, PerdureError):
            answer = _final(append, outcome, doubt)
            if answer is not None:
                return answer
        elif not outcome.retryable:
            return doubt
    try:
        return await _read(log, sent, end, doubt)
    except PerdureError as error:
        return Indeterminate(f"{doubt.reason}, and the log cannot be read: {error}")


def _final(append: Append, answer: Answer, doubt: Indeterminate) -> Answer | None:
    """What the answer to a copy says of the append; None when it says nothing."""
    match answer:
        case Committed():
            return answer
        case Duplicate(lsn):
            return answer if lsn is None else Committed(lsn, lsn + len(append.records) - 1)
        case Conflict() | StaleSnapshot():
            return answer  # Conditions come last: it is no duplicate.
        case OutOfOrder(expected):
            # 1 is also said of a producer that was forgotten.
            return answer if expected > 1 else doubt
        case Fenced():
            return doubt  # By who came after it, perhaps.
        case _:
            return None


async def _read(log: ChainView, sent: Sent, end_lsn: int, doubt: Indeterminate) -> Answer | None:
    """Look for it in a segment that has ended. Raises what reading does."""
    append = sent.append
    producer = append.producer
    assert producer is not None, "nothing but its numbers tells it from others"
    async for entry in LogReader(log, min(sent.lower_lsn, end_lsn), to_lsn=end_lsn - 1):
        if isinstance(entry, TrimGap):
            return Indeterminate(f"{doubt.reason}, and the log was trimmed since")
        if isinstance(entry, LogEntry):
            record = entry.record
            if (record.producer, record.producer_epoch, record.sequence) == _numbers(producer):
                return Committed(entry.lsn, entry.lsn + len(append.records) - 1)
    return None


def _numbers(producer: Producer) -> tuple[bytes, int, int]:
    return producer.id, producer.epoch, producer.sequence
