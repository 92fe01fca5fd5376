r"""Every key of the partition store, listed once.

All partitions of a node share one store. A key is a table letter, then the 8-byte partition *key*
(not the partition's number), so that a table's rows of a range of keys lie together and a range can
be split off later.

====== ============== ==================================== =======================================
letter table          after the partition key              lifetime; what absence means
====== ============== ==================================== =======================================
``i``  invocations    id's last 16 bytes                   from Invoke until purged
``a``  active         id's last 16 bytes                   while running or backing off
``j``  journal        id's last 16 bytes, first entry u32  from first entry that is not in the row
``l``  locks          object                               while held; absent: free
``q``  inbox          object, number u64                   while waiting for the lock
``s``  state          object, state key                    until cleared; absent: no value
``m``  promises       object, promise's name               from first use until the run is purged
``e``  events         id's last 16 bytes, number u32       the last ones, until purged
``y``  own timers     id's last 16 bytes, number u32       while the timer waits
``p``  progress       nothing (first key of the range)     for ever; absent: nothing applied yet
``t``  timers         + due u64, id, number u32           until fired or without use
``x``  expiry         + due u64, id                       from completion until purged
``o``  outbox         + destination u16, number u64       until the destination has taken it
``u``  outbox tails   + destination u16                   for ever; absent: nothing was ever sent
``r``  received       + source u16                        for ever; absent: nothing ever came
``w``  restoring      nothing (first key of the range)     while a snapshot is being restored
``d``  operations     + operation's id                    some time after it was applied `Once`
``k``  skipped        + LSN u64                            for ever; absent: it was not skipped
``z``  aside          nothing (first key of the range)     until the copy is filled anew
====== ============== ==================================== =======================================

Rows marked with + belong to the partition as a whole and lie under the first key of its range:
timers and expiry in order of time, which is how they are read, whatever invocation they are of. A
split of the range hands them out by the partition key in the id; see docs/decisions/0007.

*object* is ``service length u16 | service | key length u16 | key``, in UTF-8.
"""

import struct
from typing import Final

from ...core.ids import InvocationId

INVOCATIONS: Final = b"i"
ACTIVE: Final = b"a"
JOURNAL: Final = b"j"
LOCKS: Final = b"l"
INBOX: Final = b"q"
STATE: Final = b"s"
PROMISES: Final = b"m"
EVENTS: Final = b"e"
OWN_TIMERS: Final = b"y"
PROGRESS: Final = b"p"
TIMERS: Final = b"t"
EXPIRY: Final = b"x"
OUTBOX: Final = b"o"
OUTBOX_TAILS: Final = b"u"
RECEIVED: Final = b"r"
RESTORING: Final = b"w"
OPERATIONS: Final = b"d"
SKIPPED: Final = b"k"
ASIDE: Final = b"z"

TABLES: Final = (
    INVOCATIONS,
    ACTIVE,
    JOURNAL,
    LOCKS,
    INBOX,
    STATE,
    PROMISES,
    EVENTS,
    OWN_TIMERS,
    TIMERS,
    EXPIRY,
    OUTBOX,
    OUTBOX_TAILS,
    RECEIVED,
    OPERATIONS,
    SKIPPED,
)
"""All tables that make up a partition's state: what a snapshot holds, beside the progress row."""

_LENGTH: Final = struct.Struct(">H")
_ENTRY: Final = struct.Struct(">I")
_PEER: Final = struct.Struct(">H")
_TIMER: Final = struct.Struct(">Q24sI")
_EXPIRY: Final = struct.Struct(">Q24s")
_OUTBOX: Final = struct.Struct(">HQ")
_NUMBER: Final = struct.Struct(">Q")
PARTITION_KEY: Final = struct.Struct(">Q")


def object_suffix(service: str, key: str) -> bytes:
    """How an object is named inside keys."""
    service_bytes = service.encode()
    key_bytes = key.encode()
    pack = _LENGTH.pack
    return b"".join((pack(len(service_bytes)), service_bytes, pack(len(key_bytes)), key_bytes))


def journal_row(invocation_id: InvocationId, first_entry: int) -> bytes:
    """The row of the chunk that starts with this entry."""
    return JOURNAL + invocation_id + _ENTRY.pack(first_entry)


def inbox_row(partition_key: bytes, object_name: bytes, number: int) -> bytes:
    """The row of the invocation that is `number` in the object's queue."""
    return INBOX + partition_key + object_name + _NUMBER.pack(number)


def event_row(invocation_id: InvocationId, number: int) -> bytes:
    """The row of an invocation's event."""
    return EVENTS + invocation_id + _ENTRY.pack(number)


def own_timer_row(invocation_id: InvocationId, number: int) -> bytes:
    """The row that tells an invocation's timer by its number."""
    return OWN_TIMERS + invocation_id + _ENTRY.pack(number)


def timer_row(first: bytes, due_ns: int, invocation_id: InvocationId, number: int) -> bytes:
    """The row of a timer in a range that starts at the partition key `first`."""
    return TIMERS + first + _TIMER.pack(due_ns, invocation_id, number)


def read_timer_row(row: bytes) -> tuple[int, InvocationId, int]:
    """Due time in ns, invocation and number of a timer's row."""
    due_ns, invocation_id, number = _TIMER.unpack_from(row, 9)
    return due_ns, InvocationId(invocation_id), number


def expiry_row(first: bytes, due_ns: int, invocation_id: InvocationId) -> bytes:
    """The row that has something of an invocation forgotten."""
    return EXPIRY + first + _EXPIRY.pack(due_ns, invocation_id)


def read_expiry_row(row: bytes) -> tuple[int, InvocationId]:
    """Due time in ns and invocation of an expiry's row."""
    due_ns, invocation_id = _EXPIRY.unpack_from(row, 9)
    return due_ns, InvocationId(invocation_id)


def outbox_row(first: bytes, destination: int, number: int) -> bytes:
    """The row of a message for another partition."""
    return OUTBOX + first + _OUTBOX.pack(destination, number)


def read_outbox_row(row: bytes) -> tuple[int, int]:
    """Destination and number of a message's row."""
    destination, number = _OUTBOX.unpack_from(row, 9)
    return destination, number


def outbox_tail_row(first: bytes, destination: int) -> bytes:
    """The row with the number that the next message for a partition gets."""
    return OUTBOX_TAILS + first + _PEER.pack(destination)


def received_row(first: bytes, source: int) -> bytes:
    """The row with the number of the last message taken from a partition."""
    return RECEIVED + first + _PEER.pack(source)


def operation_row(first: bytes, operation_id: bytes) -> bytes:
    """The row with the outcome of an operation; the ids begin with the time of asking."""
    return OPERATIONS + first + operation_id


def skipped_row(first: bytes, lsn: int) -> bytes:
    """The row that tells that a record was skipped."""
    return SKIPPED + first + _NUMBER.pack(lsn)


def pack_number(number: int) -> bytes:
    """A number as the outbox's tails and the received table hold it."""
    return _NUMBER.pack(number)


def read_number(value: bytes | None) -> int:
    """What `pack_number` wrote; 0 for an absent row."""
    return 0 if value is None else int(_NUMBER.unpack(value)[0])


def prefix_end(prefix: bytes) -> bytes:
    """The first key after every key that starts with `prefix`."""
    stripped = prefix.rstrip(b"\xff")
    assert stripped, "a prefix of only 0xff has no end"
    return stripped[:-1] + bytes((stripped[-1] + 1,))
