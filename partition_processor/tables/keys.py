"""Every key of the partition store, listed once.

All partitions of a node share one store. A key is a table letter, then the 8-byte partition *key*
(not the partition's number), so that a table's rows of a range of keys lie together and a range can
be split off later.

====== ============== ==================================== =======================================
letter table          after the partition key              lifetime; what absence means
====== ============== ==================================== =======================================
``i``  invocations    id's last 16 bytes                   from Invoke; absent: never heard of it
``a``  active         id's last 16 bytes                   until completion; absent: completed
``j``  journal        id's last 16 bytes, first entry u32  from first entry that is not in the row
``l``  locks          object                               while held; absent: free
``q``  inbox          object, number u64                   while waiting for the lock
``s``  state          object, state key                    until cleared; absent: no value
``p``  progress       nothing (first key of the range)     for ever; absent: nothing applied yet
====== ============== ==================================== =======================================

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
PROGRESS: Final = b"p"

_LENGTH: Final = struct.Struct(">H")
_ENTRY: Final = struct.Struct(">I")
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


def prefix_end(prefix: bytes) -> bytes:
    """The first key after every key that starts with `prefix`."""
    stripped = prefix.rstrip(b"\xff")
    assert stripped, "a prefix of only 0xff has no end"
    return stripped[:-1] + bytes((stripped[-1] + 1,))
