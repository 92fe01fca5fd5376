"""What an append asks for and every answer that it can get.

A refusal never consumes an offset. An answer that rests on records which are not durable yet is
held back until they are (see `sequencer`), so that nobody acts on what a crash can undo.

Their fields' order and their tags are what nodes send each other (`remote.messages`): new fields go
to the end with a default, tags are never used again.
"""

from collections.abc import Callable
from typing import TypeAlias

import msgspec


class NotChangedSince(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Holds while no record with `key` has an LSN above `lsn`.

    "Must not exist" and "the last one is X" are this condition for somebody who has read every
    record of the key up to `lsn`: the caller states how far it has read.
    """

    key: bytes
    lsn: int


class Fence(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Lets an append pass unless `scope` has seen a higher epoch; a higher one is remembered.

    Appends that name no fence are not held up by one. Fences live with the segment: they refuse
    early, and whoever interprets the records has the last word.
    """

    scope: bytes
    epoch: int


class Producer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Numbers an append: its records are `sequence`, `sequence` + 1, … of this life of a producer.

    Numbers are contiguous from 1 per (id, epoch). Name the segment in each append: a late copy must
    not get into another one. Within an open segment send the same numbers again; after an answer
    that leaves a doubt (Sealed, Indeterminate, WrongSegment) read the segment to its sealed end for
    what became of the records, and only then go on under the next epoch.
    """

    id: bytes
    epoch: int
    sequence: int


class _Told(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The layout of all answers."""


class Committed(_Told, frozen=True, tag=1):
    """The records are in the log for ever, at these LSNs, side by side."""

    first_lsn: int
    last_lsn: int


class Conflict(_Told, frozen=True, tag=2):
    """A condition does not hold: a committed record of `key` is at `lsn`.

    `key` is None when a record that touches every key is the cause. To a first attempt this is a
    definite loss, if it was sent once; after a doubtful answer, or over a transport that may
    deliver it twice, the record at `lsn` may be the caller's own: read it.
    """

    key: bytes | None
    lsn: int


class StaleSnapshot(_Told, frozen=True, tag=3):
    """The condition's LSN is below what the sequencer remembers: read on to `floor`, try again."""

    floor: int


class Duplicate(_Told, frozen=True, tag=4):
    """The records were appended before; `lsn` is the first one's, None if that is long ago."""

    lsn: int | None


class OutOfOrder(_Told, frozen=True, tag=5):
    """The producer's next number is `expected`; what it sent before this append did not arrive."""

    expected: int


class Fenced(_Told, frozen=True, tag=6):
    """A higher epoch was seen: somebody else has taken over. Stop."""

    epoch: int


class Sealed(_Told, frozen=True, tag=7):
    """The log takes no more records until it is extended; nothing was written."""

    segment: int


class WrongSegment(_Told, frozen=True, tag=8):
    """The append was meant for another segment than `segment`, the open one; nothing written."""

    segment: int


class Overloaded(_Told, frozen=True, tag=9):
    """More is in flight than the log takes; nothing was written. Try again later."""

    records_in_flight: int


class Indeterminate(_Told, frozen=True, tag=10):
    """The records may be in the log or not: read the log to find out."""

    reason: str


class Settled(_Told, frozen=True, tag=11):
    """What the producer sent under lower epochs is committed below `tail_lsn`, or never will be."""

    tail_lsn: int


Refusal: TypeAlias = (
    Conflict | StaleSnapshot | Duplicate | OutOfOrder | Fenced | Sealed | WrongSegment | Overloaded
)
"""The answers by which no offset was consumed."""

Answer: TypeAlias = Committed | Refusal | Indeterminate
"""Everything an append can come to."""

SettledListener: TypeAlias = Callable[[Settled | Sealed | WrongSegment], None]
"""Told once, on the event loop, what became of a settling; must not raise."""
