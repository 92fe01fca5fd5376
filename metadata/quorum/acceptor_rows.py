"""The rows of a metadata server on its disk, listed once.

All begin with ``quorum/``; numbers are big-endian; the checksum is CRC-32 of what follows it.

    quorum/s        format u8 = 1 | checksum u32 | MessagePack of `ServerRow`; absent: a new server
    quorum/p/KEY    format u8 = 1 | checksum u32 | ballot, 24 bytes; absent: nothing promised
    quorum/a/KEY    format u8 = 1 | checksum u32 | ballot, 24 bytes | register; absent: untouched

Rows of a key stay for ever, over deletes too, or its versions would come back.
"""

import struct
import zlib
from collections.abc import Iterator
from heapq import merge
from typing import Final

import msgspec

from ...core.errors import MalformedMessageError, StorageCorruptError, StorageFormatError
from ...core.random import Random
from ...core.storage.kv import KvStore
from .configuration import SERVER_ID_BYTES, Configuration, Fingerprint, ServerId
from .registers import BALLOT_BYTES, Ballot, decode_register

_SERVER: Final = b"quorum/s"
_PROMISES: Final = b"quorum/p/"
_ACCEPTED: Final = b"quorum/a/"
_FORMAT: Final = 1
_HEADER: Final = struct.Struct(">BI")


class ServerRow(msgspec.Struct, frozen=True, array_like=True):
    """Who a server is.

    Attributes:
        id: drawn when the storage was made.
        fingerprint: its cluster, "" before it has one.
        configuration: the newest list of servers that it was told of.
    """

    id: ServerId
    fingerprint: Fingerprint
    configuration: Configuration | None


_SERVER_ROW: Final = msgspec.msgpack.Decoder(ServerRow)


def server_row_key() -> bytes:
    """Where the server's row is."""
    return _SERVER


def promise_key(key: bytes) -> bytes:
    """Where the promise of a register is."""
    return _PROMISES + key


def accepted_key(key: bytes) -> bytes:
    """Where the accepted state of a register is."""
    return _ACCEPTED + key


def encode_server_row(row: ServerRow) -> bytes:
    """The row of a server."""
    return _sealed(msgspec.msgpack.encode(row))


def encode_promise(ballot: Ballot) -> bytes:
    """The row of a promise."""
    return _sealed(ballot)


def encode_accepted(ballot: Ballot, register: bytes) -> bytes:
    """The row of an accepted state."""
    return _sealed(ballot + register)


def decode_promise(key: bytes, row: bytes) -> Ballot:
    """The ballot of a promise. Raises StorageCorruptError and StorageFormatError."""
    ballot = _opened(f"the promise of key {key!r}", row)
    if len(ballot) != BALLOT_BYTES:
        raise _corrupt(f"the promise of key {key!r}")
    return Ballot(ballot)


def decode_accepted(key: bytes, row: bytes) -> tuple[Ballot, bytes]:
    """Ballot and encoded register. Raises StorageCorruptError and StorageFormatError."""
    content = _opened(f"key {key!r}", row)
    register = content[BALLOT_BYTES:]
    try:
        decode_register(register)
    except MalformedMessageError as error:
        raise _corrupt(f"key {key!r}") from error
    return Ballot(content[:BALLOT_BYTES]), register


def open_server_row(store: KvStore, random: Random) -> ServerRow:
    """The server's row; a new one, durable, in a store that has none.

    Raises StorageError, and StorageCorruptError when other rows are there without it.
    """
    stored = store.get(_SERVER)
    if stored is not None:
        content = _opened("the server's id and list of servers", stored)
        try:
            row: ServerRow = _SERVER_ROW.decode(content)
        except msgspec.DecodeError as error:
            raise _corrupt("the server's id and list of servers") from error
        return row
    if next(scan_keys(store, b"", b""), None) is not None:
        raise _corrupt("the server's id, which is missing beside its registers,")
    row = ServerRow(random.bits(8 * SERVER_ID_BYTES).to_bytes(SERVER_ID_BYTES, "big"), "", None)
    store.write([(_SERVER, encode_server_row(row))])
    store.sync()
    return row


def scan_keys(store: KvStore, prefix: bytes, after: bytes) -> Iterator[bytes]:
    """The keys of registers that start with `prefix` and come after `after`, sorted."""
    last = None
    spaces = (_keys_of(store, space, prefix, after) for space in (_PROMISES, _ACCEPTED))
    for key in merge(*spaces):
        if key != last:
            yield key
        last = key


def _keys_of(store: KvStore, space: bytes, prefix: bytes, after: bytes) -> Iterator[bytes]:
    start = max(space + prefix, space + after + b"\x00" if after else b"")
    # Keys are UTF-8 behind an ASCII letter, which has no byte 0xff.
    for row_key, _ in store.scan(start, space + prefix + b"\xff"):
        yield row_key[len(space) :]


def _sealed(content: bytes) -> bytes:
    return _HEADER.pack(_FORMAT, zlib.crc32(content)) + content


def _opened(what: str, row: bytes) -> bytes:
    if row[:1] > bytes((_FORMAT,)):
        raise StorageFormatError(
            f"{what} is stored in format {row[0]}, newer than this program's {_FORMAT}: use the "
            "release that wrote it, or a later one"
        )
    if len(row) < _HEADER.size:
        raise _corrupt(what)
    form, checksum = _HEADER.unpack_from(row)
    content = row[_HEADER.size :]
    if form != _FORMAT or zlib.crc32(content) != checksum:
        raise _corrupt(what)
    return content


def _corrupt(what: str) -> StorageCorruptError:
    return StorageCorruptError(
        f"{what} does not match its checksum on a metadata server's disk: clear the server's "
        "metadata directory, remove the server from the list and add it as a new one"
    )
